"""The second person: a change of policies or routes that waits until somebody else agrees.

A deployment asks for it with CHANGES_NEED_APPROVAL. A proposal holds what it touches as it was and
as it would be; approved, that is put upon the configuration of then, and what somebody changed in
between is a conflict that is told. Orders to breakers never wait: an outage has no time for it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from fallback import changes, configuration
from fallback.changes import Plan
from fallback.configuration import Difference, Document
from fallback.errors import Conflict, Invalid, Problem
from fallback.models import ConfigRevision, Proposal

GUARDED: Final = frozenset({"policies", "routes"})
MOST_WAITING: Final = 200


def is_on() -> bool:
    """Say whether this deployment asks for a second person."""
    return bool(settings.CHANGES_NEED_APPROVAL)


def is_guarded(before: Document, after: Document) -> bool:
    """Say whether a change needs a second person: it touches a policy, or a chain.

    Which policy a provider obeys is a change of its thresholds as much as any.
    """
    return any(
        one.path[0] in GUARDED or one.path[2:] == ("policy",)
        for one in configuration.diff(before, after)
    )


def propose(author: str, reason: str, before: Document, after: Document) -> Proposal:
    """Store what somebody wants to change. Raises Conflict when too many wait already."""
    differences = configuration.diff(before, after)
    with transaction.atomic():
        expire()
        if Proposal.objects.filter(state=Proposal.State.PROPOSED).count() >= MOST_WAITING:
            raise Conflict(f"{MOST_WAITING} proposals wait already: decide or withdraw some first.")
        return Proposal.objects.create(
            author=author[: Proposal.NAME_MAX],
            reason=reason[: Proposal.REASON_MAX],
            summary=configuration.summary(differences),
            base_revision=ConfigRevision.current(),
            before=_touched(before, differences),
            after=_touched(after, differences),
            expires_at=timezone.now() + timedelta(hours=settings.PROPOSAL_HOURS),
        )


def way(proposal: Proposal) -> Plan:
    """Return what approving would do to the configuration of now, or what is in its way."""
    now = configuration.build()
    merged = configuration.without(proposal.after, proposal.before, now)
    wrong = [
        Problem(
            one.dotted,
            f"{Difference(one.path, None, None).where} was {_shown(one.was_set_to)} when this was"
            f" proposed and is {_shown(one.is_now)} now: reject it, and propose it anew.",
        )
        for one in merged.conflicts
    ]
    return Plan(now, now if wrong else merged.document, wrong)


def approve(proposal: Proposal, *, by: str, reason: str) -> Proposal:
    """Do what was proposed, as a change by its author that `by` approved.

    Raises Conflict for its author and when it waits no more; Invalid, with nothing changed, when
    something is in its way.
    """
    with transaction.atomic():
        row = _waiting(proposal)
        if by == row.author:
            raise Conflict("Nobody approves their own proposal: ask somebody else to look at it.")
        why = f"Proposal #{row.pk}, approved by {by}: {row.reason}"
        with changes.made_by(f"admin:{row.author}", why) as making:
            plan = way(row)
            if plan.problems:
                lines = "\n".join(problem.detail for problem in plan.problems)
                raise Invalid(f"Nothing was changed.\n{lines}", plan.problems)
            configuration.apply(plan.target, prune=True)
        row.change = making.change
        return _decided(row, Proposal.State.APPROVED, by, reason)


def reject(proposal: Proposal, *, by: str, reason: str) -> Proposal:
    """Say no, and why. Raises Invalid without a reason, Conflict when it waits no more."""
    if not reason.strip():
        raise Invalid("Say why it is rejected: its author reads it.")
    with transaction.atomic():
        return _decided(_waiting(proposal), Proposal.State.REJECTED, by, reason)


def withdraw(proposal: Proposal, *, by: str, reason: str) -> Proposal:
    """Take one's own back. Raises Conflict for others, and when it waits no more."""
    with transaction.atomic():
        row = _waiting(proposal)
        if by != row.author:
            raise Conflict("Only its author withdraws a proposal: reject it instead.")
        return _decided(row, Proposal.State.WITHDRAWN, by, reason)


def expire() -> int:
    """Have what nobody decided in time wait no more; return how many. Whoever looks calls it."""
    now = timezone.now()
    late = Proposal.objects.filter(state=Proposal.State.PROPOSED, expires_at__lte=now)
    return late.update(state=Proposal.State.EXPIRED, decided_at=now)


def forget(before: datetime, *, at_most: int) -> int:
    """Delete what was decided or expired before then, `at_most` of it; return how many went."""
    done = Proposal.objects.exclude(state=Proposal.State.PROPOSED)
    ids = list(done.filter(at__lt=before).order_by("pk").values_list("pk", flat=True)[:at_most])
    return Proposal.objects.filter(pk__in=ids).delete()[0] if ids else 0


def _waiting(proposal: Proposal) -> Proposal:
    """Return it with its row locked, so that two who decide at once do not both do so."""
    row = Proposal.objects.select_for_update().get(pk=proposal.pk)
    if row.state == Proposal.State.PROPOSED and row.expires_at > timezone.now():
        return row
    what = "expired" if row.state == Proposal.State.PROPOSED else row.get_state_display()
    raise Conflict(f"{row} waits no more: {what}.")


def _decided(row: Proposal, state: Proposal.State, by: str, reason: str) -> Proposal:
    row.state, row.decided_by, row.decided_at = state, by[: Proposal.NAME_MAX], timezone.now()
    row.decision_reason = reason.strip()[: Proposal.REASON_MAX]
    row.save()
    return row


def _touched(document: Document, differences: Sequence[Difference]) -> Document:
    """Return the entries of a document that differ, whole."""
    found: Document = {}
    for section, key in dict.fromkeys(one.path[:2] for one in differences):
        if key in document.get(section, {}):
            found.setdefault(section, {})[key] = document[section][key]
    return found


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
