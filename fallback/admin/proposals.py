"""Proposals: what waits for a second person, what it would change now, and the three decisions."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path

from fallback import cautions, configuration, proposals
from fallback.admin.base import HistoryAdmin, admin_url, link
from fallback.admin.changes import shown_differences
from fallback.admin.questions import Answer, Question
from fallback.admin.words import NOTHING, moment
from fallback.cautions import Caution
from fallback.changes import Plan
from fallback.errors import FallbackError, Invalid
from fallback.models import Proposal

APPROVE: Final = "fallback.approve_proposal"
DECISIONS: Final[dict[str, tuple[str, Callable[..., Proposal]]]] = {
    "approve": ("approved, and done", proposals.approve),
    "reject": ("rejected", proposals.reject),
    "withdraw": ("withdrawn", proposals.withdraw),
}


def _in(state: str) -> Answer:
    return lambda rows: rows.filter(state=state)


class WhichProposals(Question):
    """Proposals by what has become of them."""

    parameter_name = "state"
    answers = {state.value: (state.label, _in(state)) for state in Proposal.State}


@admin.register(Proposal)
class ProposalAdmin(HistoryAdmin):
    """Changes of what calls get that wait, or waited, for a second person."""

    change_form_template = "admin/fallback/proposal/change_form.html"
    list_display = ["number", "state_words", "summary", "author", "reason", "when", "expires"]
    list_display_links = ["number", "summary"]
    list_filter = [WhichProposals, "author"]
    search_fields = ["author", "reason", "summary", "decided_by", "decision_reason"]
    fields = [
        "state_words", "author", "reason", "when", "expires", "decided_by", "decided",
        "decision_reason", "made",
    ]  # fmt: skip
    readonly_fields = ["state_words", "when", "expires", "decided", "made"]

    @admin.display(description="proposal", ordering="pk")
    def number(self, row: Proposal) -> str:
        return f"#{row.pk}"

    @admin.display(description="state", ordering="state")
    def state_words(self, row: Proposal) -> str:
        shapes = {"proposed": "◐", "approved": "●", "rejected": "■"}
        return f"{shapes.get(row.state, '◌')} {row.get_state_display()}"

    @admin.display(description="proposed", ordering="at")
    def when(self, row: Proposal) -> str:
        return moment(row.at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, row: Proposal) -> str:
        return moment(row.expires_at)

    @admin.display(description="decided")
    def decided(self, row: Proposal) -> str:
        return moment(row.decided_at)

    @admin.display(description="made as change")
    def made(self, row: Proposal) -> str:
        return link(row.change) if row.change else NOTHING

    def get_queryset(self, request: HttpRequest) -> Any:
        proposals.expire()
        return super().get_queryset(request).select_related("change")

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.decide_view)
        own = path("<int:number>/decide/<slug:decision>/", view, name="fallback_proposal_decide")
        return [own, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        row = kw.get("obj")
        if row is not None:
            context |= shown(request, row)
        return super().render_change_form(request, context, *args, **kw)

    def decide_view(self, request: HttpRequest, number: int, decision: str) -> HttpResponse:
        """Approve, reject or withdraw; what was shown before must still be what would be done."""
        if decision not in DECISIONS or request.method != "POST":
            raise Http404(decision)
        if decision not in decisions_of(request.user):
            raise PermissionDenied
        row = get_object_or_404(Proposal, pk=number)
        words, decide = DECISIONS[decision]
        if decision == "approve" and request.POST.get("shown") != digest(proposals.way(row)):
            messages.error(request, "Nothing was done: the configuration has changed since this"
                           " page was shown. This is what it would do now.")  # fmt: skip
            return HttpResponseRedirect(admin_url("proposal", "change", row.pk))
        try:
            decide(row, by=request.user, reason=request.POST.get("reason", ""))
        except FallbackError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{row} is {words}.")
        return HttpResponseRedirect(admin_url("proposal", "change", row.pk))


def decisions_of(user: Any) -> Sequence[str]:
    """Return what somebody may do at all; whose proposal it is is judged with the decision."""
    return list(DECISIONS) if user.has_perm(APPROVE) else ["withdraw"]


def shown(request: HttpRequest, row: Proposal) -> dict[str, Any]:
    """Return what the page shows of a proposal; what it would do now while it waits."""
    is_own = proposals.is_own(row, request.user)
    if row.state != Proposal.State.PROPOSED:
        found = configuration.diff(row.before, row.after)
        text = configuration.text_diff(row.before, row.after)
        return {"is_waiting": False} | shown_differences(found, text)
    plan = proposals.way(row)
    brings, refused = _brings(plan)
    may_decide = request.user.has_perm(APPROVE) and not is_own
    return {
        "is_waiting": True,
        "is_own": is_own,
        "may_decide": may_decide,
        "may_approve": may_decide and not plan.problems and not refused,
        "problems": [problem.detail for problem in plan.problems] + refused,
        "cautions": [caution.text for caution in brings],
        "digest": digest(plan),
        "decide": {name: admin_url("proposal", "decide", row.pk, name) for name in DECISIONS},
    } | shown_differences(plan.differences, plan.text)


def _brings(plan: Plan) -> tuple[Sequence[Caution], list[str]]:
    """Return what doing it now would bring, and why it would be refused: done and taken back."""
    if plan.problems:
        return [], []
    before, found, refused = cautions.read(), [], []
    with transaction.atomic():
        try:
            configuration.apply(plan.target, prune=True)
            found = cautions.brought(before, cautions.read())
        except Invalid as error:
            refused = [problem.detail for problem in error.problems]
        transaction.set_rollback(True)
    return found, refused


def digest(plan: Plan) -> str:
    """Return what stands for what was shown."""
    text = f"{plan.text}\n{[problem.detail for problem in plan.problems]}"
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]
