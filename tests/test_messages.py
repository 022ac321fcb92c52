"""What Slack shows: templates checked and filled, values that stay text, typed mentions."""

import json
import time

import pytest
from slack_sdk.models.messages import HereLink, ObjectLink

from fallback.messages import alerts, blocks, mentions, template, values
from fallback.messages.defaults import DEFAULTS
from fallback.messages.events import AlertEvent, told_by
from tests.events import event

HOSTILE = [
    "{message} {0} {__class__} }{ %s %(x)s",
    "<!channel> <!here> <@U123> <!subteam^S1> <http://evil|click>",
    "x" * 1_000_000,
    "🔥👩‍👩‍👧 :fire: *bold* _it_ ~no~ `code`",
    "nul\x00 bell\x07 esc\x1b[31m \ud800 \r\n\t end",
    "\u202eevil\u202c \u200f\u2066mixed\u2069",
    "",
]


def filled(body: str, **given: str | int) -> str:
    return "\n".join(blocks.words(line) for line in template.body_of(body, given))


@pytest.mark.parametrize("name", list(AlertEvent))
def test_every_default_passes_its_own_check_and_fills_every_line_of_a_sample(name):
    default = DEFAULTS[name]
    sample = values.sample(name)

    assert template.problems(default.title, default.body, name) == {}
    assert template.EMPTY not in blocks.words(template.title_of(default.title, sample))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{nonsense}", "no value of"),
        ("{provider", "xpected '}'"),
        ("provider}", "Single '}'"),
        ("{provider.__class__}", "is no name"),
        ("{provider!r:>10}", "is no name"),
        ("{}", "is no name"),
        ("*bold", "is not closed"),
        ("<!channel> look", "field below"),
        ("hi @here", "field below"),
        ("x" * 3001, "Slack takes 3000"),
        ("\n" * 50, "At most 40 lines"),
    ],
)
def test_a_broken_template_is_refused_with_what_is_wrong(body, says):
    assert says in " ".join(template.problems("t", body, AlertEvent.TRIPPED)["body"])


def test_a_title_is_one_short_line():
    found = [
        template.problems(title, "", AlertEvent.TRIPPED)["title"][0]
        for title in ("a\nb", "x" * 151, "  ")
    ]

    assert found[0] == "A title is one line."
    assert "Slack shows 150" in found[1]
    assert "needed" in found[2]


def test_a_line_of_which_every_value_is_missing_is_left_out():
    assert filled("a {code} {message}\nb {code} {host}\nc", host="pod") == "b — pod\nc"


def test_braces_are_written_twice():
    assert filled("{{provider}} {provider}", provider="x{y}") == "{provider} x{y}"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_from_outside_is_shown_and_never_parsed(hostile):
    told = event(1, name="tripped", reason=hostile, evidence={
        "message": hostile, "code": hostile, "reasons": {hostile: 1}, "outcome": hostile,
        "host": hostile, "call": hostile, "route": hostile,
    })  # fmt: skip
    default = DEFAULTS[AlertEvent.TRIPPED]
    found = values.values_of(told)
    one = alerts.Told(
        template.title_of(default.title, found), template.body_of(default.body, found), 1
    )
    card = alerts.Card(one, "open", reasons=hostile, ordered=hostile, acknowledged=hostile)
    for message in (
        alerts.incident_message(card),
        alerts.replies([one]),
        alerts.replies([one] * 3),
    ):
        sent = json.dumps(message.blocks)
        assert all(block["type"] == "rich_text" for block in message.blocks)
        assert "<!" not in message.text
        assert "<@" not in message.text
        assert len(sent) < 12_000
        assert not any(code in sent for code in ("\\u0000", "\\u001b", "\\u202e", "\\ud800"))


def test_what_is_shown_of_a_text_is_what_was_sent():
    assert blocks.clean("<!channel> {x} & 🔥") == "<!channel> {x} & 🔥"
    assert blocks.escape("<!channel> & <@U1>") == "&lt;!channel&gt; &amp; &lt;@U1&gt;"


@pytest.mark.parametrize(
    ("typed", "kept", "sent"),
    [
        ("here", "here", str(HereLink())),
        ("@here", "here", "<!here|here>"),
        ("U0123ABC", "U0123ABC", str(ObjectLink(object_id="U0123ABC"))),
        ("<@U0123ABC>", "U0123ABC", "<@U0123ABC>"),
        ("<!subteam^S0123ABC|@oncall>", "S0123ABC", str(ObjectLink(object_id="S0123ABC"))),
    ],
)
def test_mentions_are_written_as_slack_s_own_library_writes_them(typed, kept, sent):
    assert mentions.parsed(typed) == kept
    assert mentions.syntax(kept).split("|")[0].rstrip(">") == sent.split("|")[0].rstrip(">")


@pytest.mark.parametrize(
    "typed", ["@oncall", "channel", "<!everyone>", "{group}", "", "u123", "C123"]
)
def test_what_would_mention_nobody_or_everybody_is_no_mention(typed):
    assert mentions.parsed(typed) is None
    assert mentions.problem(typed)
    assert mentions.together([typed]) == ""


def test_a_failure_is_told_by_what_it_did_to_its_call():
    found = [
        told_by(event(1, name="provider_failure", evidence={"outcome": outcome}))[0]
        for outcome in ("init_failure", "mid_call_failure", "stall", "", "nonsense")
    ]

    assert found == [
        "init_fallback", "mid_call_failure", "mid_call_failure",
        "provider_failure", "provider_failure",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("evidence", "watcher"), [({}, "its policy"), ({"policy": "strict"}, "strict")]
)
def test_a_trip_in_shadow_says_which_policy_only_watches(evidence, watcher):
    told = values.values_of(event(1, name="would_trip", evidence=evidence))

    said = template.body_of(DEFAULTS[AlertEvent.WOULD_TRIP].body, told)

    assert f"{watcher} only watches" in blocks.words(said[0])


def test_a_storm_is_one_reply_that_says_how_many_there_were():
    one = alerts.Told([blocks.text("soniox failed")], [], 1_795_000_000_000)
    found = blocks.words(alerts.replies([one] * 50).blocks[0]["elements"][0]["elements"])

    assert found.count("soniox failed") == 20
    assert "and 30 more" in found


def test_of_a_few_a_reply_tells_everything():
    told = [alerts.Told([blocks.text(f"title {n}")], [[blocks.text(f"body {n}")]], 1) for n in "12"]
    found = blocks.words(alerts.replies(told).blocks[0]["elements"][0]["elements"])

    assert [line for line in found.split("\n") if "body" in line] == ["body 1", "body 2"]


@pytest.mark.parametrize("part", ["<@", "<!", "{", "*", "@", "<@a|"])
def test_s1_no_template_keeps_this_process_busy(part: str) -> None:
    """A pattern that walks the rest anew from each mark takes minutes for this."""
    text = part * (200_000 // len(part))
    began = time.process_time()
    template.problems("t", text, AlertEvent.TRIPPED)

    assert time.process_time() - began < 2.0
