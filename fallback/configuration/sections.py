"""What the document holds: a section for each kind of row, its fields read off the model.

A column that a model gains is in the document without a line here. What is not `editable` (times,
Slack's own ids) is state, not configuration.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.db import models

from fallback.models import (
    AlertDestination,
    AlertTemplate,
    Policy,
    PolicyReason,
    Provider,
    Route,
    SlackOperator,
)

FORMAT: Final = 1
WHAT_COUNTS: Final = "what_counts"
STEPS: Final = "steps"


@dataclass(frozen=True)
class Section:
    """One kind of row. `key`: the columns that name one, joined by “/”; `nested`: rows within."""

    name: str
    noun: str
    model: type[models.Model]
    key: tuple[str, ...]
    nested: str = ""
    like: str = ""

    @cached_property
    def columns(self) -> tuple[Any, ...]:
        """The fields of an entry that are columns, in the order of the model."""
        return columns_of(self.model, but=self.key)

    @cached_property
    def links(self) -> tuple[Any, ...]:
        """The fields of an entry that are lists of other entries' names."""
        return tuple(field for field in self.model._meta.many_to_many if field.editable)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Every key that an entry may have."""
        nested = (self.nested,) if self.nested else ()
        return (*(field.name for field in (*self.columns, *self.links)), *nested)

    def key_of(self, row: models.Model) -> str:
        """Return the name of a row in the document."""
        return "/".join(str(getattr(row, name)) for name in self.key)


def columns_of(model: type[models.Model], *, but: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the columns that people set, without those named in `but`."""
    return tuple(
        field
        for field in model._meta.concrete_fields
        if field.editable and not field.primary_key and field.name not in but
    )


# In the order of writing: what is referred to comes before what refers to it.
SECTIONS: Final = (
    Section("policies", "policy", Policy, ("name",), nested=WHAT_COUNTS, like="default"),
    Section("providers", "provider", Provider, ("kind", "slug"), like="stt/soniox"),
    Section("routes", "route", Route, ("slug",), nested=STEPS, like="breeze-buddy"),
    Section("alert_destinations", "destination", AlertDestination, ("name",), like="on-call"),
    Section("alert_templates", "template", AlertTemplate, ("event",), like="tripped"),
    Section("slack_operators", "Slack operator", SlackOperator, ("slack_user",), like="U0123ABC"),
)
BY_NAME: Final = {section.name: section for section in SECTIONS}
BY_MODEL: Final = {section.model: section for section in SECTIONS}
RULE_COLUMNS: Final = columns_of(PolicyReason, but=("policy", "reason"))


def section_of(model: type[models.Model]) -> Section | None:
    """Return the section that holds rows of this model; None where it is in no document."""
    return BY_MODEL.get(model)


def entry_path(row: models.Model) -> tuple[str, str] | None:
    """Return where a row is in the document, as (section, key), or None."""
    section = section_of(type(row))
    return (section.name, section.key_of(row)) if section else None
