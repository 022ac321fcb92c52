"""Every verb: what an agent and an operator can do. The surfaces parse, call one, render.

Here alone it is decided what happens while Redis is away: decisions go on from the last known
state (`standin`), everything that would have to be remembered is refused with BreakerUnavailable.

decisions      make_decision
outcomes       report_outcomes, explain_call
overrides      set_override, clear_override, reset_breaker
configuration  publish_configuration, follow_restored; what is wrong with it is told
bounds         what a key reaches that is bound to routes
budget         what the calls of one key may take of Redis
suspects       a key that alone takes several providers out is told
unknown        what agents name and the configuration does not hold is told
"""

from fallback.services.bounds import check_provider
from fallback.services.configuration import follow_restored, publish_configuration
from fallback.services.decisions import make_decision
from fallback.services.outcomes import explain_call, report_outcomes
from fallback.services.overrides import (
    OVERRIDE_MAX_S,
    REASON_MAX,
    clear_override,
    reset_breaker,
    set_override,
)

__all__ = [
    "OVERRIDE_MAX_S",
    "REASON_MAX",
    "check_provider",
    "clear_override",
    "explain_call",
    "follow_restored",
    "make_decision",
    "publish_configuration",
    "report_outcomes",
    "reset_breaker",
    "set_override",
]
