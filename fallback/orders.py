"""The five orders to a breaker, as people give them: what each is called, does, and asks for.

The admin's page and the dashboard's dialog both read a form of these, and both `give` it.
"""

from dataclasses import dataclass
from typing import Any

from django import forms

from fallback import services
from fallback.domain import Kind, State

UNTIL_CLEARED = "cleared"
ENDS = [
    ("900", "15 minutes"),
    ("1800", "30 minutes"),
    ("3600", "1 hour"),
    ("7200", "2 hours"),
    ("28800", "8 hours"),
    ("86400", "24 hours"),
    (UNTIL_CLEARED, "until cleared — nobody will be reminded"),
]
PERMISSION = "fallback.override_breaker"


@dataclass(frozen=True, slots=True)
class Order:
    """One order: what it is called, and what it does to calls. `state` None: no override."""

    verb: str
    label: str
    effect: str
    danger: str = ""
    state: State | None = None
    has_end: bool = False


ORDERS = {
    order.verb: order
    for order in (
        Order(
            "force-open",
            "Force open",
            "New calls go to the next provider of their chain, whatever this one reports.",
            "Every new call leaves this provider at once. Calls that have begun on it stay.",
            State.FORCED_OPEN,
            has_end=True,
        ),
        Order(
            "force-closed",
            "Force closed",
            "New calls go to this provider, however often it fails.",
            "Nothing protects calls from this provider until it ends: an outage will be heard.",
            State.FORCED_CLOSED,
            has_end=True,
        ),
        Order(
            "shadow",
            "Shadow",
            "Failures are counted and told, and no call is diverted.",
            "Nothing protects calls from this provider until it ends: an outage will be heard.",
            State.SHADOW,
            has_end=True,
        ),
        Order(
            "auto",
            "Back to automatic",
            "The override ends, and the breaker obeys its policy again.",
        ),
        Order(
            "reset",
            "Reset",
            "Closed again with nothing counted, and any override ended: calls return to this"
            " provider at once, with no probe.",
        ),
    )
}


class OrderForm(forms.Form):
    """A reason, and an end where the order has one."""

    reason = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"class": "vLargeTextField", "autofocus": True}),
        help_text="Why, in a few words: it is shown in Slack, on the dashboard and in the history.",
    )
    end = forms.ChoiceField(
        choices=ENDS,
        initial="1800",
        label="Ends after",
        help_text="Then the breaker obeys its policy again, by itself.",
    )

    def __init__(self, *args: Any, has_end: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_end:
            del self.fields["end"]

    def for_s(self) -> int | None:
        """Return the seconds it holds, None until cleared."""
        end = self.cleaned_data.get("end", UNTIL_CLEARED)
        return None if end == UNTIL_CLEARED else int(end)


def give(
    order: Order, kind: Kind, provider: str, *, reason: str, for_s: int | None, by: str
) -> None:
    """Have `services` carry the order out.

    Raises NotFound, Invalid or BreakerUnavailable.
    """
    if order.state is not None:
        services.set_override(kind, provider, state=order.state, reason=reason, for_s=for_s, by=by)
    elif order.verb == "reset":
        services.reset_breaker(kind, provider, reason=reason, by=by)
    else:
        services.clear_override(kind, provider, reason=reason, by=by)
