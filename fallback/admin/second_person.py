"""How a save comes to wait for a second person: it is done, looked at, and taken back.

So whatever a page can do (a form with its rows within, a deletion, an undo) becomes a proposal
without a rule of its own. Orders to breakers pass: they change no configuration.
"""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from fallback import configuration, proposals
from fallback.admin.base import admin_url
from fallback.configuration import Document
from fallback.errors import FallbackError

REASON = "change_reason"


class HeldBack(Exception):  # noqa: N818 - no error: a change that has to wait
    """Takes a change back that needs a second person."""

    def __init__(self, before: Document, after: Document) -> None:
        super().__init__()
        self.before, self.after = before, after


def held_back(request: HttpRequest, go: Callable[[], HttpResponse]) -> HttpResponse:
    """Do what a page does, unless it needs a second person: then make a proposal of it."""
    if request.method != "POST" or not proposals.is_on():
        return go()
    unsaid = taking_back(request)
    try:
        with transaction.atomic():
            before = configuration.build()
            page = go()
            if isinstance(page, TemplateResponse):
                page.render()
            after = configuration.build()
            if proposals.is_guarded(before, after):
                raise HeldBack(before, after)
    except HeldBack as held:
        unsaid()
        return _proposed(request, held)
    return page


def _proposed(request: HttpRequest, held: HeldBack) -> HttpResponse:
    reason, user = request.POST.get(REASON, "").strip(), cast(User, request.user)
    try:
        row = proposals.propose(user, reason, held.before, held.after)
    except FallbackError as error:
        messages.error(request, f"Nothing was changed. {error}")
        return HttpResponseRedirect(request.get_full_path())
    messages.warning(
        request, f"Nothing is changed yet: {row} waits for somebody else to approve it."
    )
    return HttpResponseRedirect(admin_url("proposal", "change", row.pk))


def taking_back(request: HttpRequest) -> Callable[[], None]:
    """Return what takes back the messages that were said since: they tell of what was not kept."""
    storage: Any = messages.get_messages(request)
    queue = storage._queued_messages  # Django has no call that takes a message back
    said = len(queue)

    def unsaid() -> None:
        del queue[said:]

    return unsaid
