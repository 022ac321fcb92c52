"""The admin: where operators set everything, see what is out, and give orders.

    base        what every page shares; asking what a query string may ask
    changing    a reason for each change, and nobody's work overwritten unseen (seen, rebasing)
    changes     the history of the configuration; undo, and back to a point
    words       times, durations and states as they are written
    questions   the filters of the lists; failures the events behind a number
    attention   what the first page opens on
    overrides   the five orders, and the page that asks for a reason and an end
    proposals   what waits for a second person; second_person how a save comes to wait
    confirmation what a change brings, said before it is saved
    providers   providers, with the live state beside each
    policies    thresholds, and what counts
    rehearsing  what a policy would do now and would have done, asked before it is saved
    shadowing   a second policy beside the live one, on providers and policies
    routes      chains, dragged into order
    api_keys    minted, and shown once
    incidents   incidents, transitions and dead letters, read-only
    people      users, and the role of each
    alerts      templates with their preview (slack_preview), destinations, deliveries, operators

Validation lives in the models; orders are verbs of `services`. Nothing is inline in a page: one
strict content security policy holds for the whole site.
"""

from django.contrib import admin
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from fallback.admin import (
    alerts,
    api_keys,
    changes,
    incidents,
    people,
    policies,
    proposals,
    providers,
    routes,
)

__all__ = [
    "alerts",
    "api_keys",
    "changes",
    "incidents",
    "people",
    "policies",
    "proposals",
    "providers",
    "routes",
]

# Their pages would show the secrets of second factors; people see theirs on a page of its own.
admin.site.unregister([TOTPDevice, StaticDevice])

admin.site.site_header = "STT control plane"
admin.site.site_title = "STT control plane"
admin.site.site_url = None  # the dashboard has a link of its own beside it
admin.site.index_title = "What is out, and who decides"
