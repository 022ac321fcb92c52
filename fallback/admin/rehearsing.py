"""What a policy's page asks before it is saved: what it would do now, and would have done.

Four addresses that answer JSON to the scripts in static/fallback/rehearsal/. Each takes the form
as it stands, judges it by the form's own validation, calls one verb, and saves nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache

from fallback import domain, rehearsals
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable, FallbackError, Invalid
from fallback.models import Policy, Rehearsal
from fallback.preview import Preview, preview
from fallback.rehearsals import SPANS, Busy
from fallback.rehearsals.spans import resolve
from fallback.times import rfc3339

USUAL_SPAN = "7d"
THRESHOLDS = {field.name for field in fields(domain.Policy)}


@dataclass(frozen=True, slots=True)
class Proposed:
    """The values in a form; or, when they cannot be saved, what is wrong by the form's names."""

    policy: domain.Policy | None
    problems: dict[str, list[str]]


class WithRehearsal:
    """A policy's page with the panel that rehearses it; for the admin of policies."""

    def get_urls(self: Any) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponse]] = {
            "now": now_view, "rehearse": rehearse_view,
            "rehearsal": rehearsal_view, "stop": stop_view,
        }  # fmt: skip
        routes = {
            "now": "<int:pk>/now/",
            "rehearse": "<int:pk>/rehearsals/",
            "rehearsal": "<int:pk>/rehearsals/<int:number>/",
            "stop": "<int:pk>/rehearsals/<int:number>/stop/",
        }
        own = [
            path(route, self.admin_site.admin_view(self.answering(views[name])), name=_name(name))
            for name, route in routes.items()
        ]
        urls: list[URLPattern] = super().get_urls()  # type: ignore[misc] # of the admin it is in
        return [*own, *urls]

    def answering(self: Any, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        """Return a view that answers whoever may change the policy, in JSON when it refuses too."""

        @never_cache
        def answer(request: HttpRequest, pk: int, **kwargs: Any) -> HttpResponse:
            row = self.get_queryset(request).filter(pk=pk).first()
            if row is None:
                raise Http404(f"There is no policy {pk}.")
            may = self.has_view_permission(request, row) and self.has_change_permission(
                request, row
            )
            if not may:
                return JsonResponse(
                    {"detail": "This takes the right to change policies."}, status=403
                )
            try:
                return view(self, request, row, **kwargs)
            except FallbackError as error:
                return JsonResponse({"detail": str(error)}, status=error.status)

        return answer

    def change_view(
        self: Any,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        may = row is not None and self.has_change_permission(request, row)
        context = {**(extra_context or {}), "rehearsal": panel(request, row) if may else None}
        page: HttpResponse = super().change_view(  # type: ignore[misc] # as above
            request, object_id, form_url, context
        )
        return page


def panel(request: HttpRequest, row: Policy) -> dict[str, Any]:
    """Return what the panel needs to begin: addresses, spans, and what this user has going on."""
    going_on = Rehearsal.objects.filter(
        policy=row, asked_by_id=request.user.pk, state__in=Rehearsal.UNFINISHED
    ).first()
    return {
        "now_url": _url("now", row),
        "ask_url": _url("rehearse", row),
        "going_on_url": _url("rehearsal", row, going_on.pk) if going_on else "",
        "spans": SPANS.items(),
        "span": request.GET["rehearse"] if request.GET.get("rehearse") in SPANS else USUAL_SPAN,
        "providers": list(row.providers.all()),
    }


def now_view(model_admin: Any, request: HttpRequest, row: Policy) -> HttpResponse:
    """Say what these values would do now."""
    proposed = judged(model_admin, request, row)
    if proposed.policy is None:
        return _refused(proposed, status=200)  # half a number is no error while it is being typed
    providers = row.providers.filter(enabled=True)
    try:
        seen = preview(proposed.policy, [(Kind(it.kind), it.slug) for it in providers])
    except BreakerUnavailable:
        detail = "Redis cannot be reached: what these values would do now is not known."
        return JsonResponse({"detail": detail}, status=503)
    return JsonResponse(shown_preview(seen))


def rehearse_view(model_admin: Any, request: HttpRequest, row: Policy) -> HttpResponse:
    """Put a rehearsal of these values into the queue."""
    proposed = judged(model_admin, request, row)
    if proposed.policy is None:
        return _refused(proposed)
    what, span = request.POST.get("rehearsal_what", ""), request.POST.get("rehearsal_span", "")
    if what not in Rehearsal.What.values:
        raise Invalid("Ask to rehearse or to suggest.")
    resolve(span, row, timezone.now())
    try:
        job = rehearsals.ask(row, request.user, what=what, span=span, proposed=proposed.policy)
    except Busy as busy:
        own = shown_job(busy.rehearsal) if busy.rehearsal else None
        return JsonResponse({"detail": str(busy), "rehearsal": own}, status=busy.status)
    return JsonResponse(shown_job(job), status=202)


def rehearsal_view(_: Any, request: HttpRequest, row: Policy, number: int) -> HttpResponse:
    """Say how far a rehearsal is, and its answer once there is one."""
    return JsonResponse(shown_job(_job(row, number), is_whole=True))


def stop_view(_: Any, request: HttpRequest, row: Policy, number: int) -> HttpResponse:
    """Stop a rehearsal."""
    if request.method != "POST":
        return JsonResponse({"detail": "POST it."}, status=405)
    rehearsals.stop(_job(row, number))
    return JsonResponse(shown_job(_job(row, number)))


def judged(model_admin: Any, request: HttpRequest, row: Policy) -> Proposed:
    """Judge the form that was sent as saving would, but for what is no threshold (a reason for
    the change, or somebody else's change meanwhile, are asked for when it is saved)."""
    if request.method != "POST":
        raise Invalid("POST the form.")
    form = model_admin.get_form(request, row, change=True)(request.POST, instance=row)
    form.is_valid()
    problems = {name: list(form.errors[name]) for name in THRESHOLDS & form.errors.keys()}
    formsets, _ = model_admin._create_formsets(request, form.instance, change=True)
    rules: dict[str, domain.ReasonRule] = {}
    for formset in formsets:
        problems |= _wrong_in(formset)
        for one in formset.forms:
            if one.is_valid() and "reason" in one.cleaned_data:
                rules[one.cleaned_data["reason"]] = domain.ReasonRule(
                    one.cleaned_data["weight"],
                    one.cleaned_data["trips_at_once"],
                    one.cleaned_data["open_duration_s"],
                )
    return Proposed(None if problems else form.instance.as_value(rules), problems)


def _wrong_in(formset: Any) -> dict[str, list[str]]:
    formset.is_valid()
    found = {
        one.add_prefix(name): list(errors)
        for one in formset.forms
        for name, errors in one.errors.items()
    }
    together = list(formset.non_form_errors())
    return found | ({formset.prefix: together} if together else {})


def _refused(proposed: Proposed, *, status: int = 400) -> JsonResponse:
    detail = "These values cannot be saved, so there is nothing to try out."
    return JsonResponse({"detail": detail, "problems": proposed.problems}, status=status)


def shown_preview(seen: Preview) -> dict[str, Any]:
    """Write a preview for the page."""
    return {
        "at": rfc3339(seen.now_ms) if seen.now_ms else None,
        "breakers": [
            {
                "provider": one.after.provider,
                "kind": one.after.kind,
                "before": one.before.breaker.state,
                "after": one.after.breaker.state,
                "is_changed": one.is_changed,
                "sentence": one.sentence(),
            }
            for one in seen.breakers
        ],
        "routes": [
            {
                "route": one.route,
                "before": one.before,
                "after": one.after,
                "starts_elsewhere": one.starts_elsewhere,
            }
            for one in seen.routes
        ],
    }


def shown_job(job: Rehearsal, *, is_whole: bool = False) -> dict[str, Any]:
    """Write a rehearsal for the page; with its answer if `is_whole`."""
    return {
        "id": job.pk,
        "what": job.what,
        "span": job.span,
        "state": job.state,
        "is_unfinished": job.is_unfinished,
        "progress": job.progress,
        "is_stopping": job.stop_asked and job.is_unfinished,
        "waits_for": rehearsals.waits_for(job),
        "problem": job.problem,
        "url": reverse(f"admin:{_name('rehearsal')}", args=[job.policy_id, job.pk]),
        "stop_url": reverse(f"admin:{_name('stop')}", args=[job.policy_id, job.pk]),
        "result": job.result if is_whole else None,
    }


def _job(row: Policy, number: int) -> Rehearsal:
    job = Rehearsal.objects.filter(policy=row, pk=number).first()
    if job is None:
        raise Http404(f"There is no rehearsal {number} of {row}.")
    return job


def _name(page: str) -> str:
    return f"fallback_policy_{page}"


def _url(page: str, row: Policy, *args: Any) -> str:
    return reverse(f"admin:{_name(page)}", args=[row.pk, *args])
