"""What a query string may ask of a list: its own filters, its dates and its search, no more.

Django takes any lookup of any column of the model itself. A regular expression among them runs in
this very process on SQLite, and one that backtracks holds every request up; a comparison reads
columns that no page shows, a key's hash for one.
"""

from collections.abc import Iterator
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import ChangeList
from django.db import DataError, models
from django.http import HttpRequest
from django.utils.text import smart_split

SEARCH_MAX: Final = 200  # characters
WORDS_MAX: Final = 10  # each is a condition on every column that is searched
EXACT: Final = ("", "__exact", "__isnull")
SPAN: Final = ("__gte", "__lt")
DATES: Final = ("__year", "__month", "__day")


class PlainChangeList(ChangeList):
    """A list that leads back to itself, unfiltered, on values that its filters cannot take."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        try:
            return super().get_queryset(request, exclude_parameters)
        except (ArithmeticError, TypeError, ValueError) as error:  # a year past the calendar's
            raise IncorrectLookupParameters(error) from error

    def get_results(self, request: HttpRequest) -> None:
        try:
            super().get_results(request)
        except (DataError, OverflowError) as error:  # a number past what a column holds
            raise IncorrectLookupParameters(error) from error


class AsksPlainly:
    """For every page of the admin; comes before Django's own in the bases."""

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        return lookup in declared(self, request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PlainChangeList

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        page: Any = super()
        words = list(smart_split(search_term[:SEARCH_MAX]))
        if len(search_term) > SEARCH_MAX or len(words) > WORDS_MAX:
            text = f"Only the first {WORDS_MAX} words, of {SEARCH_MAX} characters, were searched."
            messages.warning(request, text)
        return page.get_search_results(request, queryset, " ".join(words[:WORDS_MAX]))


def declared(page: Any, request: HttpRequest | None) -> set[str]:
    """Return the names of all that a list's query string may hold, those of Django's own apart."""
    found = set(_dates(page.date_hierarchy))
    for one in page.get_list_filter(request):
        if isinstance(one, type) and issubclass(one, admin.SimpleListFilter):
            found.add(str(one.parameter_name))
        else:
            found |= set(_of_column(page.model, one[0] if isinstance(one, tuple) else one))
    return found


def whole(text: str) -> int | None:
    """Return a whole number that somebody sent, None for what is none or no column could hold."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _dates(column: str | None) -> Iterator[str]:
    if column:
        yield from (f"{column}{part}" for part in DATES)


def _of_column(model: type[models.Model], path: str) -> Iterator[str]:
    field: Any = get_fields_from_path(model, path)[-1]
    yield from (f"{path}{lookup}" for lookup in EXACT)
    if isinstance(field, models.DateField):
        yield from (f"{path}{lookup}" for lookup in SPAN)
    if field.is_relation:
        yield f"{path}__{field.target_field.name}__exact"
