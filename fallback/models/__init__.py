"""What operators set, and what history keeps; one module per noun.

`Configured` rows are checked by `full_clean` on every surface that saves them, and by database
constraints whoever writes them. Reads on the hot path go through `fallback.catalog`.
"""

from fallback.models.alert import AlertDestination, AlertTemplate, SlackOperator
from fallback.models.api_key import ApiKey, Role
from fallback.models.carried import DeadLetter, Position
from fallback.models.change import ChangedEntry, ConfigChange
from fallback.models.configured import Configured
from fallback.models.idempotency import IdempotentRequest
from fallback.models.incident import Incident, Transition
from fallback.models.minute import ProviderMinute
from fallback.models.outbox import Alert, AlertThread
from fallback.models.policy import Policy, PolicyReason, rules_of
from fallback.models.proposal import Proposal
from fallback.models.provider import Provider
from fallback.models.recorded import RecordedSlot
from fallback.models.rehearsal import Rehearsal
from fallback.models.revision import ConfigRevision
from fallback.models.route import Route, RouteStep, chain_problems
from fallback.models.shadow import ShadowRun, ShadowTrip

__all__ = [
    "Alert",
    "AlertDestination",
    "AlertTemplate",
    "AlertThread",
    "ApiKey",
    "ChangedEntry",
    "ConfigChange",
    "ConfigRevision",
    "Configured",
    "DeadLetter",
    "IdempotentRequest",
    "Incident",
    "Policy",
    "PolicyReason",
    "Position",
    "Proposal",
    "Provider",
    "ProviderMinute",
    "RecordedSlot",
    "Rehearsal",
    "Role",
    "Route",
    "RouteStep",
    "ShadowRun",
    "ShadowTrip",
    "SlackOperator",
    "Transition",
    "chain_problems",
    "rules_of",
]
