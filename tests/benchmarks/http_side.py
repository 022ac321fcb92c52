"""A decision over HTTP beside an empty view of the same process and a bare ASGI app."""

from statistics import median, quantiles

from tests.benchmarks.load import Request, paced, post, saturate
from tests.benchmarks.stage import Stage
from tests.benchmarks.table import Row, Turns

CLIENTS = 32
ROUNDS = 5
RUN_S = 1.5
PER_SECOND = 200
ASKED: dict[str, object] = {"route": "breeze-buddy", "host": "pod-1"}


def run(stage: Stage) -> list[Row]:
    """Serve the product and the bare app, and load them in turns."""
    product = "controlplane.asgi:application"
    with stage.web(product) as port, stage.web("tests.benchmarks.bare:application") as bare:
        decision = post("/api/v1/decisions", stage.key, ASKED)
        empty = post("/empty", stage.key, ASKED)
        for target, request in ((port, decision), (port, empty), (bare, decision)):
            saturate(target, request, clients=CLIENTS, seconds=0.5)
        return [*_saturated(port, bare, decision, empty), *_steady(port, decision, empty)]


def _saturated(port: int, bare: int, decision: Request, empty: Request) -> list[Row]:
    def rate(target: int, request: Request) -> float:
        return saturate(target, request, clients=CLIENTS, seconds=RUN_S)

    turns = Turns(
        {
            "bare app, one Redis call": lambda: rate(bare, decision),
            "empty view": lambda: rate(port, empty),
            "decision": lambda: rate(port, decision),
        },
        ROUNDS,
    )
    rows = [Row(f"{name}, {CLIENTS} clients", f"{turns.of(name):,.0f}/s") for name in turns.names]
    against_bare = turns.ratio("decision", "bare app, one Redis call")
    against_empty = turns.ratio("decision", "empty view")
    rows.append(Row("decision at saturation", "", against_bare, "bare app", at_least=0.15))
    rows.append(Row("", "", against_empty, "empty view"))
    return rows


def _steady(port: int, decision: Request, empty: Request) -> list[Row]:
    def times(request: Request) -> list[float]:
        return paced(port, request, per_second=PER_SECOND, seconds=RUN_S)

    found: dict[str, list[list[float]]] = {"empty view": [], "decision": []}
    for _ in range(ROUNDS):
        found["empty view"].append(times(empty))
        found["decision"].append(times(decision))
    p50 = {name: median(map(median, runs)) * 1000 for name, runs in found.items()}
    p99 = {name: median(quantiles(run, n=100)[98] for run in runs) * 1000
           for name, runs in found.items()}  # fmt: skip
    rows = [
        Row(f"{name} at {PER_SECOND}/s", f"p50 {p50[name]:.2f} ms, p99 {p99[name]:.2f} ms")
        for name in found
    ]
    ratio = p99["decision"] / p99["empty view"]
    rows.append(Row(f"p99 at {PER_SECOND}/s", "", ratio, "empty view", at_most=3))
    return rows
