"""The configuration as plain values: what decisions and keys are checked against."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fallback import domain
from fallback.domain import Kind, Named
from fallback.models import Role


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as requests are checked against it: never the secret, only its keyed hash."""

    public: str
    name: str
    role: Role
    secret_hash: str = field(repr=False)
    enabled: bool
    expires_at: datetime | None
    routes: frozenset[str] = frozenset()  # that it may ask for and report on; empty: all


@dataclass(frozen=True, slots=True)
class Catalog:
    """The whole configuration at one revision; 0 and empty when it was never loaded."""

    revision: int = 0
    routes: Mapping[str, domain.Route] = field(default_factory=dict)
    providers: Mapping[tuple[Kind, str], domain.Provider] = field(default_factory=dict)
    policies: Mapping[tuple[Kind, str], domain.Policy] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)

    def holds(self, what: Named, name: str) -> bool:
        """Say whether there is such a route, or a provider with this slug, of whatever kind and
        disabled or not."""
        if what is Named.ROUTE:
            return name in self.routes
        return any((kind, name) in self.providers for kind in Kind)
