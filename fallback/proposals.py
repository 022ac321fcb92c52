"""The second person: a change of what calls get that waits until somebody else agrees.

A deployment asks for it with CHANGES_NEED_APPROVAL. A proposal holds what it touches as it was and
as it would be; approved, that is put upon the configuration of then, and what somebody changed in
between is a conflict that is told. Orders to breakers never wait: an outage has no time for it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from fallback import changes, configuration
from fallback.changes import Plan
from fallback.configuration import Difference, Document
from fallback.errors import Conflict, Invalid, Problem
from fallback.models import ConfigRevision, Proposal

GUARDED: Final = frozenset({"policies", "routes"})
TOLD: Final = frozenset({"settings", "languages", "credential_hint", "enabled"})  # of a provider
SETTLED_AFTER: Final = timedelta(hours=24)  # an account that somebody made is its holder's own
MOST_WAITING: Final = 200


def is_on() -> bool:
    """Say whether this deployment asks for a second person."""
    return bool(settings.CHANGES_NEED_APPROVAL)


def is_guarded(before: Document, after: Document) -> bool:
    """Say whether a change needs a second person: it touches a policy, a chain, or what agents
    are told of a provider in one.

    Which policy a provider obeys is a change of its thresholds as much as any.
    """
    used = _in_chains(before) | _in_chains(after)
    return any(
        one.path[0] in GUARDED
        or one.path[2:] == ("policy",)
        or (one.path[0] == "providers" and one.path[2:3] and one.path[2] in TOLD
            and one.path[1] in used)
        for one in configuration.diff(before, after)
    )  # fmt: skip


def _in_chains(document: Document) -> set[str]:
    """Return the keys of the providers that are in a route's chain: stt/soniox."""
    routes = document.get("routes", {}).values()
    return {f"{route['kind']}/{step['provider']}" for route in routes for step in route["steps"]}


def propose(author: User, reason: str, before: Document, after: Document) -> Proposal:
    """Store what somebody wants to change. Raises Conflict when too many wait already."""
    differences = configuration.diff(before, after)
    with transaction.atomic():
        expire()
        if Proposal.objects.filter(state=Proposal.State.PROPOSED).count() >= MOST_WAITING:
            raise Conflict(f"{MOST_WAITING} proposals wait already: decide or withdraw some first.")
        return Proposal.objects.create(
            author=author.get_username()[: Proposal.NAME_MAX],
            author_user=author,
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


def approve(proposal: Proposal, *, by: User, reason: str) -> Proposal:
    """Do what was proposed, as a change by its author that `by` approved.

    Raises Conflict for its author, for an account that its author made or changed a short while
    ago, and when it waits no more; Invalid, with nothing changed, when something is in its way.
    """
    with transaction.atomic():
        row = _waiting(proposal)
        if row.author_user is None:
            raise Conflict("Whose this was is not known any more: reject it, and propose it anew.")
        if is_own(row, by):
            raise Conflict("Nobody approves their own proposal: ask somebody else to look at it.")
        if changes.has_changed_account(row.author_user.pk, by, timezone.now() - SETTLED_AFTER):
            hours = SETTLED_AFTER // timedelta(hours=1)
            raise Conflict(
                f"Its author, {row.author}, made or changed your account less than {hours} h ago:"
                " somebody else has to approve it, or you later."
            )
        why = f"Proposal #{row.pk}, approved by {by.get_username()}: {row.reason}"
        with changes.made_by(f"admin:{row.author}", why, row.author_user) as making:
            plan = way(row)
            if plan.problems:
                lines = "\n".join(problem.detail for problem in plan.problems)
                raise Invalid(f"Nothing was changed.\n{lines}", plan.problems)
            configuration.apply(plan.target, prune=True)
        row.change = making.change
        return _decided(row, Proposal.State.APPROVED, by, reason)


def is_own(row: Proposal, user: Any) -> bool:
    """Say whether somebody is a proposal's author, whatever they are called now."""
    return row.author_user_id == user.pk if row.author_user_id else row.author == str(user)


def reject(proposal: Proposal, *, by: User, reason: str) -> Proposal:
    """Say no, and why. Raises Invalid without a reason, Conflict when it waits no more."""
    if not reason.strip():
        raise Invalid("Say why it is rejected: its author reads it.")
    with transaction.atomic():
        return _decided(_waiting(proposal), Proposal.State.REJECTED, by, reason)


def withdraw(proposal: Proposal, *, by: User, reason: str) -> Proposal:
    """Take one's own back. Raises Conflict for others, and when it waits no more."""
    with transaction.atomic():
        row = _waiting(proposal)
        if not is_own(row, by):
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


def _decided(row: Proposal, state: Proposal.State, by: User, reason: str) -> Proposal:
    row.decided_by, row.decided_by_user = by.get_username()[: Proposal.NAME_MAX], by
    row.state, row.decided_at = state, timezone.now()
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
