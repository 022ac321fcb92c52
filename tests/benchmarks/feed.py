"""Time from a transition to the last of many feed clients, beside raw ASGI sockets, in one run.

    python -m tests.benchmarks.feed [--clients 1000] [--rounds 30]

One uvicorn process each, in turns, while the other stands still: the product's feed (Channels
consumers, one reader), and raw ASGI sockets to which one stream reader sends the entry as it comes,
with no status, no check and no change to work out. The clients are in this process. Each time runs
from the event's being written, by Redis's clock.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import redis.asyncio
from websockets.asyncio.client import ClientConnection, connect

from controlplane.embedded_redis import socket_path
from tests.processes import clean_environment, free_port, manage

RAW = "tests.benchmarks.raw_feed:application"


def resident_kb(pid: int) -> int:
    """Return the memory that a process holds (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Crowd:
    """Many clients of one feed, and when each heard of a provider's state last."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.headers = url, {"Authorization": f"Bearer {key}"}
        self.sockets: list[ClientConnection] = []
        self.readers: list[asyncio.Task[None]] = []
        self.heard: list[float] = []
        self.word = ""

    async def gather(self, count: int) -> None:
        """Connect so many, a hundred at a time."""
        for begun in range(0, count, 100):
            some = [self._join() for _ in range(min(100, count - begun))]
            self.sockets += await asyncio.gather(*some)
        self.readers = [asyncio.create_task(self._read(socket)) for socket in self.sockets]
        await asyncio.sleep(1)

    async def _join(self) -> ClientConnection:
        return await connect(
            self.url, additional_headers=self.headers, proxy=None, compression=None,
            ping_interval=None, open_timeout=30,
        )  # fmt: skip

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            if self.word and self.word in text:
                self.heard.append(time.perf_counter())

    def expect(self, word: str) -> None:
        """Begin to wait for messages with this word in them."""
        self.word, self.heard = word, []

    async def last(self, within_s: float = 10.0) -> float:
        """Return when the last client heard."""
        deadline = time.perf_counter() + within_s
        while len(self.heard) < len(self.sockets):
            if time.perf_counter() > deadline:
                raise SystemExit(f"only {len(self.heard)} of {len(self.sockets)} heard")
            await asyncio.sleep(0.002)
        return max(self.heard)

    async def leave(self) -> None:
        """Close all."""
        [reader.cancel() for reader in self.readers]
        await asyncio.gather(*(socket.close() for socket in self.sockets))


def serve(app: str, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start one uvicorn process."""
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--lifespan", "off",
         "--no-access-log", "--log-level", "error", "--ws-ping-interval", "600",
         "--ws-per-message-deflate", "false"],
        env=environment,
    )  # fmt: skip


async def until_up(port: int) -> None:
    """Return once a server takes connections."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing listens on {port}")


class Run:
    """The product and the yardstick, served; a transition is made by an operator's order."""

    def __init__(self, var_dir: Path, up_port: int, clients: int) -> None:
        self.environment = clean_environment(var_dir, LOG_LEVEL="error")
        self.var_dir, self.up_port, self.clients = var_dir, up_port, clients

    async def measure(self, rounds: int) -> dict[str, Any]:
        """Return the times of both, in ms, and the memory of each client."""
        made = manage("api_key", "bench", "--role", "operator", environment=self.environment)
        key = made.stdout.strip()
        ports = {"feed": free_port(), "raw": free_port()}
        apps = {"feed": "controlplane.asgi:application", "raw": RAW}
        raw_environment = {**self.environment, "RAW_REDIS": str(socket_path(self.var_dir))}
        processes = {name: serve(apps[name], ports[name], raw_environment) for name in apps}
        try:
            crowds = {}
            memory = {}
            for name, port in ports.items():
                await until_up(port)
                one = Crowd(f"ws://127.0.0.1:{port}/ws/v1/status", key)
                first = Crowd(one.url, key)
                await first.gather(1)
                before = resident_kb(processes[name].pid)
                await one.gather(self.clients)
                memory[name] = (resident_kb(processes[name].pid) - before) / self.clients
                await first.leave()
                crowds[name] = one
            times = await self._rounds(crowds, processes, key, rounds)
            for crowd in crowds.values():
                await crowd.leave()
            return {"times_ms": times, "kb_per_client": memory}
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(15)

    async def _rounds(
        self, crowds: dict[str, Crowd], processes: dict[str, Any], key: str, rounds: int
    ) -> dict[str, list[float]]:
        times: dict[str, list[float]] = {name: [] for name in crowds}
        base = f"http://127.0.0.1:{self.up_port}"
        headers = {"Authorization": f"Bearer {key}"}
        client = redis.asyncio.Redis(unix_socket_path=str(socket_path(self.var_dir)))
        async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False) as http:
            for number in range(2 * rounds + 6):
                # The other one's server stands still meanwhile: two cores, one server, one crowd.
                name, other = list(crowds)[number % 2], list(crowds)[(number + 1) % 2]
                word = f"round-{number}"
                for crowd in crowds.values():
                    crowd.expect(word)
                processes[other].send_signal(signal.SIGSTOP)
                body = {"state": "shadow", "reason": word, "for_s": 600}
                await http.put("/api/v1/providers/soniox/override", json=body)
                written = await self._written_at(client, word)
                last = await crowds[name].last()
                processes[other].send_signal(signal.SIGCONT)
                await crowds[other].last()
                await asyncio.sleep(0.3)
                if number >= 6:
                    times[name].append((last - written) * 1000)
        await client.aclose()
        return times

    async def _written_at(self, client: Any, word: str) -> float:
        """Return when the event was written, by this process's clock: Redis has it in its id."""
        rows = await client.xrevrange("{default:stt}:events", count=3)
        entry_id = next(row_id for row_id, fields in rows if fields[b"reason"].decode() == word)
        ago_s = time.time() - int(entry_id.split(b"-")[0]) / 1000
        return time.perf_counter() - ago_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    with tempfile.TemporaryDirectory(prefix="stt-bench-") as folder:
        port = free_port(below=65_000)
        up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            env=clean_environment(Path(folder), LOG_LEVEL="error"),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            next(line for line in up.stdout or () if line.startswith("ready:"))
            found = asyncio.run(Run(Path(folder), port, options.clients).measure(options.rounds))
        finally:
            up.terminate()
            up.wait(30)
    print(json.dumps(summary(found, options.clients), indent=2))


def summary(found: dict[str, Any], clients: int) -> dict[str, Any]:
    """Return what was found in a few numbers."""
    rows: dict[str, Any] = {"clients": clients, "processors": os.cpu_count()}
    for name, times in found["times_ms"].items():
        cuts = statistics.quantiles(times, n=100)
        rows[name] = {
            "last client, ms, median": round(statistics.median(times), 1),
            "last client, ms, 99 of 100": round(cuts[98], 1),
            "memory, kB a client": round(found["kb_per_client"][name], 1),
        }
    medians = [statistics.median(found["times_ms"][name]) for name in ("feed", "raw")]
    rows["feed against raw, median"] = round(medians[0] / medians[1], 2)
    return rows


if __name__ == "__main__":
    main()
