"""Block Kit as HTML, as Slack would show it, for the preview beside an alert template."""

import re
from typing import Any, Final

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from fallback.messages.blocks import Message

_MENTION: Final = re.compile(r"<(?:@|!subteam\^|!)([A-Za-z0-9]+)>")
_EMOJI: Final = {
    "large_green_circle": "🟢",
    "red_circle": "🔴",
    "large_yellow_circle": "🟡",
    "no_entry": "⛔",
    "large_purple_circle": "🟣",
    "large_blue_circle": "🔵",
    "warning": "⚠️",
}


def html_of(message: Message) -> SafeString:
    """Return a message's blocks as HTML; every text in it is escaped."""
    blocks = format_html_join("", "{}", ((_block(block),) for block in message.blocks))
    return format_html(
        '<div class="slack"><div class="slack-app">STT control plane <span>APP</span></div>{}'
        '<p class="slack-fallback"><b>Notification:</b> {}</p></div>',
        blocks,
        _named(message.text),
    )


def _block(block: dict[str, Any]) -> SafeString:
    if block["type"] == "actions":
        rows = ((_style(one), one["text"]["text"]) for one in block["elements"])
        buttons = format_html_join("", '<span class="slack-button{}">{}</span>', rows)
        return format_html('<div class="slack-actions">{}</div>', buttons)
    if block["type"] == "section":
        return format_html(
            '<p><span class="slack-mention">{}</span></p>', _named(block["text"]["text"])
        )
    elements = (one for section in block["elements"] for one in section["elements"])
    return format_html("<p>{}</p>", format_html_join("", "{}", ((_element(e),) for e in elements)))


def _named(text: str) -> str:
    """Return text with its mentions as people see them: @here, @U0ANA."""
    shown = _MENTION.sub(r"@\1", text)
    return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _style(button: dict[str, Any]) -> str:
    return f" slack-{button['style']}" if button.get("style") in {"danger", "primary"} else ""


def _element(element: dict[str, Any]) -> SafeString:
    if element["type"] == "emoji":
        return format_html("{}", _EMOJI.get(element["name"], f":{element['name']}:"))
    if element["type"] == "date":
        return format_html("<time>{}</time>", element["fallback"])
    if element["type"] == "link":
        return format_html('<a href="{}">{}</a>', element["url"], element["text"])
    # escape() first: what is marked safe after it holds no markup but our own line ends
    text = mark_safe(escape(element["text"]).replace("\n", "<br>"))
    style = element.get("style", {})
    if style.get("code"):
        text = format_html("<code>{}</code>", text)
    return format_html("<b>{}</b>", text) if style.get("bold") else text
