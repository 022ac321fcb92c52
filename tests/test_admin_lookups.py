"""What a query string may ask of the admin's lists: what they offer, and nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup, DisallowedModelAdminToField
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import User
from django.contrib.messages.storage.cookie import CookieStorage
from django.test import Client, RequestFactory
from django.urls import reverse

from fallback.models import AlertTemplate, ApiKey, Incident, Route
from tests.pages import one_of_each, person

pytestmark = pytest.mark.django_db

MANY = "9" * 24
EVIL = r"^(\w+\W?)+\W?\W?~$"
VALUES = [MANY, "x", "\x00", "", "-1", "\u0663", "2026-13-45", "0001-01-01 00:00:00+14:00"]


@pytest.fixture
def rows() -> dict[str, Any]:
    return one_of_each()


@pytest.fixture
def browser(rows: dict[str, Any]) -> Client:
    found = person("superuser")
    found.raise_request_exception = False
    return found


def page_of(model: Any, page: str, *args: Any) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)


def failed(asked: Iterator[tuple[Any, dict[str, str]]]) -> list[Any]:
    """Return which lists failed on what was asked of them; refusals are Django's 400 and 302."""
    found = []
    user = User.objects.get(username="superuser")
    for model, query in asked:
        request: Any = RequestFactory().get("/", query)
        request.user, request._messages = user, CookieStorage(request)
        page = admin.site._registry[model]
        try:
            list(page.get_changelist_instance(request).result_list)
        except (DisallowedModelAdminLookup, DisallowedModelAdminToField):
            pass
        except IncorrectLookupParameters:
            pass
        except Exception as error:
            found.append((model._meta.model_name, query, error))
    return found


def test_s1_a_regular_expression_is_asked_of_no_column(browser: Client) -> None:
    AlertTemplate.objects.update(body="word " * 12)
    taken = [
        (model._meta.model_name, column, lookup)
        for model, page in admin.site._registry.items()
        for column in [*(field.name for field in model._meta.get_fields()), "pk"]
        for lookup in ["regex", "iregex"]
        if page.lookup_allowed(f"{column}__{lookup}", EVIL, None)
    ]
    answer = browser.get(page_of(AlertTemplate, "changelist"), {"body__regex": EVIL})

    assert (taken, answer.status_code) == ([], 400)


def test_s16_what_no_page_shows_is_not_asked_letter_by_letter(browser: Client) -> None:
    ApiKey.objects.update(secret_hash="9f")
    lists = [
        browser.get(page_of(ApiKey, "changelist"), {f"secret_hash{lookup}": "9f"}).status_code
        for lookup in ["", "__startswith", "__exact", "__contains", "__gt", "__in", "__isnull"]
    ]

    assert set(lists) == {400}


BAD: list[dict[str, str]] = [
    {"pk__range": "1"}, {"pk": MANY}, {"id": MANY}, {"x__regex": "("}, {"x": "1"}, {"e": "1"},
    {"p": MANY}, {"p": "-1"}, {"p": "x"}, {"all": ""}, {"o": MANY}, {"o": "1.2.-3.x"}, {"o": "99"},
    {"q": "a " * 3_000}, {"q": "\x00"}, {"q": "'"}, {"q": '"\\'}, {"q": "é" * 5_000},
    {"_to_field": "x"}, {"_to_field": "id"}, {"_popup": "1"}, {"_facets": "1"},
]  # fmt: skip


def test_s17_no_list_fails_on_what_is_asked(browser: Client) -> None:
    asked = ((model, query) for model in admin.site._registry for query in BAD)
    pages = [page_of(model, "changelist") for model in admin.site._registry]

    assert failed(asked) == []
    assert {browser.get(page, {"p": "x"}).status_code for page in pages} == {200}


def filters() -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield every filter of every list with every value that it cannot take."""
    for model, page in admin.site._registry.items():
        for one in page.list_filter:
            column = one[0] if isinstance(one, tuple) else one
            names = (
                [f"{column}{lookup}" for lookup in ["", "__exact", "__isnull", "__gte", "__lt"]]
                if isinstance(column, str)
                else [column.parameter_name]
            )
            names += [f"{column}__id__exact"] if isinstance(column, str) else []
            yield from ((model, {name: value}) for name in names for value in VALUES)


def test_s17_no_filter_fails_on_its_value(browser: Client) -> None:
    assert failed(filters()) == []
    assert browser.get(page_of(Route, "changelist"), {"provider": MANY}).status_code < 400


DATES: list[dict[str, str]] = [
    {"year": "0"}, {"year": "9999"}, {"year": "9999", "month": "12"}, {"year": "1"},
    {"year": "9999", "month": "12", "day": "31"}, {"year": MANY}, {"year": "x"},
    {"year": "2026", "month": "13"}, {"year": "2026", "day": "30"}, {"month": "1"},
    {"year": "2026", "month": "2", "day": "30"}, {"year": "2026", "day": MANY},
]  # fmt: skip


def test_s17_no_date_fails(browser: Client) -> None:
    asked = (
        (model, {f"{page.date_hierarchy}__{part}": value for part, value in when.items()})
        for model, page in admin.site._registry.items()
        for when in DATES
        if page.date_hierarchy
    )

    assert failed(asked) == []
    assert browser.get(page_of(Incident, "changelist"), {"opened_at__year": "0"}).status_code == 302


def test_s17_no_page_fails_on_a_row_that_is_none(browser: Client) -> None:
    numbers = ["x", "-1", MANY, "_00", "a/b"]
    wrong = [
        address
        for model in admin.site._registry
        for page in ["change", "delete", "history"]
        for number in numbers
        if browser.get(address := page_of(model, page, number)).status_code >= 500
    ]

    assert wrong == []


def test_s17_no_order_fails_on_its_ids(browser: Client) -> None:
    address = reverse("admin:fallback_provider_order", args=["force-open"])
    asked = [MANY, "9" * 30, ",".join(["1"] * 9_000), "x", "", ",,", "\u0663"]

    assert [ids for ids in asked if browser.get(address, {"ids": ids}).status_code >= 500] == []


def test_what_the_lists_offer_is_still_answered(browser: Client, rows: dict[str, Any]) -> None:
    """Each link of each filter and of the dates leads to a list, not to a refusal."""
    refused, count = [], 0
    for model in admin.site._registry:
        address = page_of(model, "changelist")
        found = browser.get(address)
        changelist = found.context["cl"]
        links = [
            choice["query_string"]
            for spec in changelist.filter_specs
            for choice in spec.choices(changelist)
        ]
        if changelist.date_hierarchy:
            links.append(f"?{changelist.date_hierarchy}__year=2026")
            links.append(f"?{changelist.date_hierarchy}__year=2026&"
                         f"{changelist.date_hierarchy}__month=11&"
                         f"{changelist.date_hierarchy}__day=24")  # fmt: skip
        count += len(links)
        refused += [link for link in links[-6:] if browser.get(address + link).status_code != 200]

    assert refused == []
    assert count > 40


def test_a_long_search_is_cut_and_says_so(browser: Client) -> None:
    page = browser.get(page_of(AlertTemplate, "changelist"), {"q": "T " * 40})

    assert "Only the first 10 words" in page.text
    assert [row.name for row in page.context["cl"].result_list] == ["T"]
