"""Whatever is written into a document: it is applied whole, or refused with nothing changed."""

import contextlib
import copy
import json
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fallback import changes, configuration
from fallback.domain import Reason
from fallback.errors import Invalid
from fallback.models import (
    AlertDestination,
    ConfigChange,
    ConfigRevision,
    Provider,
    Route,
    SlackOperator,
)
from tests.configuration import make_policy

pytestmark = pytest.mark.django_db
bounded = settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["soniox", "deepgram", "sarvam", "sonoix", "default", "strict", "x", ""])
VALUES = JSON | NAMES | st.sampled_from([0, 1, 2, 7, 300, True, False, "hi-IN", [], {}])


@pytest.fixture
def document() -> dict[str, Any]:
    """Return the document of a configuration with some of everything."""
    call_command("seed", verbosity=0, stdout=open("/dev/null", "w"))  # noqa: SIM115 - a sink
    with changes.made_by("test"):
        make_policy("strict", failure_threshold=3)
        place = AlertDestination.objects.create(name="on-call", channel="C0123ABC")
        place.routes.set(Route.objects.all())
        place.providers.set(Provider.objects.all()[:2])
        SlackOperator.objects.create(slack_user="U0123ABC", name="ana")
        SlackOperator.objects.create(slack_user="U0123ABD", name="bo")
    return configuration.build()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in inner:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


@st.composite
def mutations(draw: Any, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with one to three things replaced, removed, renamed, copied or swapped."""
    mutated = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        every = places(mutated)
        path = draw(st.sampled_from(every))
        holder = mutated
        for key in path[:-1]:
            holder = holder[key]
        how = draw(st.sampled_from(["replace", "remove", "rename", "swap"]))
        if how == "replace":
            holder[path[-1]] = draw(VALUES)
        elif how == "remove":
            del holder[path[-1]]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(NAMES)] = holder.pop(path[-1])
        elif how == "swap":
            other = draw(
                st.sampled_from([*holder] if isinstance(holder, dict) else range(len(holder)))
            )
            holder[path[-1]], holder[other] = holder[other], holder[path[-1]]
    return mutated


def _number(document: Any, draw: Any) -> None:
    name = draw(st.sampled_from(["failure_threshold", "failure_window_s", "probe_slots"]))
    policy = draw(st.sampled_from(sorted(document["policies"])))
    document["policies"][policy][name] = draw(st.integers(2, 90))


def _rule(document: Any, draw: Any) -> None:
    rules = document["policies"][draw(st.sampled_from(sorted(document["policies"])))]["what_counts"]
    reason = draw(st.sampled_from(sorted(map(str, Reason))))
    if reason in rules and draw(st.booleans()):
        del rules[reason]
    else:
        weight = draw(st.integers(1, 10))
        rules[reason] = {"weight": weight, "trips_at_once": False, "open_duration_s": None}


def _chain(document: Any, draw: Any) -> None:
    names = ["soniox", "deepgram", "sarvam", "openai"]
    chain = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    keys = st.dictionaries(st.sampled_from(["model", "vad"]), st.booleans() | st.integers())
    document["routes"]["breeze-buddy"]["steps"] = [
        {"provider": slug, "settings": draw(keys)} for slug in chain
    ]


def _row(document: Any, draw: Any) -> None:
    section = document[draw(st.sampled_from(["slack_operators", "alert_templates"]))]
    if section and draw(st.booleans()):
        del section[draw(st.sampled_from(sorted(section)))]
    else:
        like = {**document["policies"]["default"], "notes": draw(st.sampled_from(["", "a\nb"]))}
        document["policies"][draw(st.sampled_from(["strict", "new", "other"]))] = like


def _links(document: Any, draw: Any) -> None:
    slugs = st.sampled_from(["stt/soniox", "stt/openai", "stt/google"])
    document["alert_destinations"]["on-call"]["providers"] = draw(st.lists(slugs, unique=True))
    policy = draw(st.sampled_from(sorted(document["policies"])))
    document["providers"]["stt/openai"]["policy"] = policy


@st.composite
def edits(draw: Any, document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with one to four changes that make sense."""
    edited = copy.deepcopy(document)
    for edit in draw(st.lists(st.sampled_from([_number, _rule, _chain, _row, _links]),
                              min_size=1, max_size=4)):  # fmt: skip
        edit(edited, draw)
    return edited


def written() -> list[int]:
    return [
        ConfigRevision.current(),
        ConfigChange.objects.count(),
        *(section.model.history.count() for section in configuration.SECTIONS),
    ]


@given(data=st.data(), prune=st.booleans())
@bounded
def test_a_document_is_applied_whole_or_refused_with_nothing_changed(
    document: dict[str, Any], data: Any, prune: bool
) -> None:
    configuration.apply(document, prune=True)  # as the last example may have left it
    before, wrote = configuration.build(), written()
    asked = data.draw(mutations(document))
    try:
        with changes.made_by("test", "a mutation"):
            configuration.apply(asked, prune=prune)
    except Invalid as refused:
        event("refused")
        problems = refused.problems
    else:
        event("applied")
        problems = None
    if problems is not None:
        assert problems
        assert all(problem.detail for problem in problems)
        assert (configuration.build(), written()) == (before, wrote)
    else:
        after = configuration.build()
        asked_for = configuration.planned(asked, before, prune=prune)
        normal = [one for one in configuration.diff(asked_for, after)
                  if one.path[-1] not in {"languages", "mentions", "body"}]  # fmt: skip
        assert normal == []  # but for tags and mentions in another spelling
        again = written()
        configuration.apply(configuration.from_yaml(configuration.to_yaml(after)).document,
                            prune=True)  # fmt: skip
        assert written() == again


@given(data=st.data())
@bounded
def test_undo_after_any_single_change_restores_the_document(
    document: dict[str, Any], data: Any
) -> None:
    configuration.apply(document, prune=True)
    before = configuration.build()
    try:
        with changes.made_by("test", "a mutation") as making:
            configuration.apply(data.draw(edits(document)), prune=True)
    except Invalid:
        return
    if making.change is None:
        return
    other = Provider.objects.get(slug="google")
    if data.draw(st.booleans()):
        other.notes = f"{other.notes} and somebody else's note"
        other.save()
        since = configuration.diff(making.change.configuration, configuration.build())
    else:
        since = []
    plan = changes.way_without(making.change)
    event("in the way" if plan.problems else "undone")
    if plan.problems:
        assert since  # only what was changed since can be in the way
        return
    changes.undo(making.change, author="test", reason="worse")

    assert configuration.diff(before, configuration.build()) == since


@given(text=st.text(), value=JSON)
@settings(max_examples=200, deadline=None, database=None)
def test_any_plain_value_comes_back_from_yaml(text: str, value: Any) -> None:
    document = {"a": {text: value, "b": [text, value]}}

    found = configuration.from_yaml(configuration.to_yaml(document)).document

    assert configuration.is_same(found, document)


@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
@settings(max_examples=200, deadline=None, database=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        value = configuration.from_yaml(text).document
        json.dumps(value)  # plain values and nothing else
