"""What every page of the admin shares; a theme would be changed here."""

import json
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import JSONField
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from simple_history.admin import SimpleHistoryAdmin

from fallback.admin.asking import AsksPlainly
from fallback.admin.changing import Changes
from fallback.admin.words import NOTHING

CSS: dict[str, Sequence[str]] = {"all": ["fallback/admin.css"]}


class JSONText(forms.JSONField):
    """JSON as text, indented; an error says where it is."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widget.attrs |= {"class": "json", "rows": 6, "cols": 80, "spellcheck": "false"}

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict | list):
            return json.dumps(value, indent=2, ensure_ascii=False)
        return super().prepare_value(value)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and (wrong := _what_is_wrong(value)):
            raise ValidationError(wrong, code="invalid")
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Show what cannot be read as it was typed."""
        if not self.disabled and isinstance(data, str) and _what_is_wrong(data):
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


def _what_is_wrong(text: str) -> str:
    """Return why a text is no JSON that can be kept; empty if it is, or if there is none."""
    if not text.strip():
        return ""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return (
            f"This is no JSON: line {error.lineno}, column {error.colno}: {error.msg}. Write an"
            ' object such as {"model": "nova-3"}, with double quotes.'
        )
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        return f"This holds half a character, {half}: write the whole character."
    except RecursionError:
        return "This is nested too deep: flatten it."
    except ValueError:
        return "This holds a number that is too long: write it as a text."
    return ""


class LanguageTags(forms.JSONField):
    """A list of language tags as people write one: separated by commas."""

    widget = AdminTextInputWidget

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial if self.disabled else data

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        return [tag.strip() for tag in str(value or "").split(",") if tag.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.to_python(data))


class ConfiguredAdmin(AsksPlainly, Changes, SimpleHistoryAdmin):  # type: ignore[misc]  # publishes no types
    """A model that operators set: every change has a reason and a history, wide JSON fields."""

    formfield_overrides = {
        JSONField: {"form_class": JSONText},
        models.TextField: {"widget": AdminTextareaWidget(attrs={"rows": 3})},
    }
    save_on_top = True
    list_per_page = 50

    class Media:
        css = CSS

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return plain_choice(super().formfield_for_dbfield(db_field, request, **kwargs))


def plain_choice(field: Any) -> Any:
    """Take the add and delete buttons off a choice: what it names is shared by other rows."""
    if isinstance(field, forms.ModelChoiceField):
        widget: Any = field.widget
        widget.can_add_related = widget.can_delete_related = widget.can_view_related = False
    return field


class ReadOnly:
    """Nothing here is written by hand, not even by a superuser."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class HistoryAdmin(AsksPlainly, ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # not at run time
    """What happened: lists to search, never to edit."""

    list_per_page = 50
    show_full_result_count = False
    actions = None

    class Media:
        css = CSS


def pretty(value: Any) -> str:
    """Return JSON indented, in a fixed-width block."""
    if value in ({}, [], None):
        return NOTHING
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="json">{}</pre>', text)


def link(row: models.Model | None, text: str = "") -> str:
    """Return a link to a row's own page."""
    if row is None:
        return NOTHING
    meta = row._meta
    url = admin_url(meta.model_name, "change", row.pk)
    return format_html('<a href="{}">{}</a>', url, text or str(row))


def admin_url(model: str | None, page: str, *args: Any) -> str:
    """Return the address of a page of one of our models."""
    return reverse(f"admin:fallback_{model}_{page}", args=args)
