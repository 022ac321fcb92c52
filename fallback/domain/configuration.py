"""What operators set, as plain values: providers, and the routes over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallback.domain.words import Kind, LastResort, MidCallAction


@dataclass(frozen=True, slots=True)
class Provider:
    """A speech service that agents can be sent to. `languages` empty: any."""

    slug: str
    kind: Kind
    name: str
    enabled: bool
    languages: tuple[str, ...]
    settings: Mapping[str, Any]
    credential_hint: str
    policy_name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One provider in a route's chain; `settings` are merged: the step's win over its own."""

    provider: Provider
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """A named, ordered chain of providers of one kind."""

    slug: str
    name: str
    kind: Kind
    fallback_enabled: bool
    on_mid_call_failure: MidCallAction
    last_resort: LastResort
    steps: tuple[Step, ...]
