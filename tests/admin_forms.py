"""What tests of the admin share: forms as a browser posts them, a second person, a route."""

import re
from typing import Any

from django.test import Client
from django.urls import reverse

from fallback import changes
from fallback.models import Policy, PolicyReason, Route
from tests.configuration import WHY, make_route


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def posted(page: Any) -> dict[str, Any]:
    """Return what a browser would post of the form on a page, nothing touched."""
    context = page.context
    forms = [context["adminform"].form]
    values: dict[str, Any] = {}
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    for form in forms:
        for bound in form:
            value = bound.value()
            if bound.field.disabled or value is None or value is False:
                continue
            values[bound.html_name] = "on" if value is True else value
            if bound.field.show_hidden_initial:
                values[bound.html_initial_name] = value
    return values | WHY


def edit(client: Client, row: Any, **values: Any) -> Any:
    """Open a row's form, type these values over it, and save."""
    page = url(row._meta.model_name, "change", row.pk)
    form = posted(client.get(page)) | values
    done = client.post(page, form)
    token = box(done)  # what it brings has to be read first
    return client.post(page, form | {"confirmed": token}) if token else done


def box(response: Any) -> str:
    """Return the value of the box that has to be ticked, empty if there is none."""
    found = re.search(r'name="confirmed"[^>]*|value="\w+"[^>]*name="confirmed"', response.text)
    value = re.search(r'value="(\w+)"', found[0]) if found else None
    return value[1] if value else ""


def signed_in_as(name: str, user_model: Any) -> Client:
    """Return the client of a new superuser."""
    client = Client()
    client.force_login(user_model.objects.create_superuser(name))
    return client


def recorded_route() -> Route:
    """Save a route, and begin the record of changes there."""
    with changes.made_by("test"):
        route = make_route("breeze", "soniox", "deepgram")
        for reason in ("auth", "timeout"):
            PolicyReason.objects.create(policy=Policy.objects.get(), reason=reason)
        return route
