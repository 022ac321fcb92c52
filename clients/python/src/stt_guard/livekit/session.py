"""An `AgentSession` whose speech-to-text outlives its provider."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from livekit.agents import AgentSession, get_job_context
from livekit.agents.vad import VAD

from stt_guard.call import Call
from stt_guard.failover import Limits
from stt_guard.guard import SttGuard, default_guard
from stt_guard.livekit.adapter import FailoverAdapter, failover_stt
from stt_guard.livekit.child import BEGINNING


async def guarded_session(
    factories: Mapping[str, Any],
    *,
    guard: SttGuard | None = None,
    call_id: str = "",
    language: str = "",
    limits: Limits | None = None,
    vad: VAD | None = None,
    **options: Any,
) -> AgentSession[Any]:
    """Return a session that is decided, watched, and reported to its end.

        session = await guarded_session({"soniox": soniox.STT, "deepgram": deepgram.STT}, vad=vad)

    `factories` as in `failover_stt`; `options` are the session's own. `guard`: left out, the
    process's own, from the environment. `call_id`: left out, the job's. Waits 300 ms at most.
    Raises RuntimeError when no provider can be built.
    """
    guard = guard or default_guard()
    job = get_job_context(required=False)
    call_id = call_id or (job.job.id if job else uuid.uuid4().hex)
    call = await guard.call(call_id, language=language, can_use=list(factories))
    adapter = failover_stt(call, factories, limits=limits, vad=vad)
    if vad is not None:
        options["vad"] = vad
    session: AgentSession[Any] = AgentSession(stt=adapter, **options)
    watch(session, call, adapter)
    if job:
        job.add_shutdown_callback(guard.aclose)
    return session


def watch(session: AgentSession[Any], call: Call, adapter: FailoverAdapter) -> None:
    """Have the caller's speech and the session's end known to the rules. It needs a VAD."""

    def on_user(event: Any) -> None:
        now_s = asyncio.get_running_loop().time()
        if event.new_state == "speaking":
            adapter.rules.speech_began(now_s, BEGINNING)
        elif event.old_state == "speaking":
            adapter.rules.speech_ended(now_s)

    def on_close(_: Any) -> None:
        adapter.rules.close()
        call.end()

    def on_end(_: Call) -> None:
        session.shutdown(drain=False)

    session.on("user_state_changed", on_user)
    session.on("close", on_close)
    adapter.on("on_end", on_end)
