"""The second factor of a person: codes of an authenticator app, and recovery codes on paper.

Who has one is asked for it at each sign-in. Who has to have one says the setting SECOND_FACTOR:
`off` (nobody is asked), `optional`, `owners` (owners and superusers), `required`. A code works
once; wrong ones are answered more and more slowly, by django-otp.
"""

import re
import secrets
from typing import Any, Final

import segno
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django_otp import user_has_device, verify_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice, default_key

from fallback import changes, roles
from fallback.roles import Role

RECOVERY_CODES: Final = 8
APP: Final = "authenticator app"
PAPER: Final = "recovery codes"
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that reads like something else
_APPS_CODE: Final = re.compile(r"\A\d{6}\Z", re.ASCII)


def is_on() -> bool:
    """Say whether this deployment asks for second factors at all."""
    return bool(settings.SECOND_FACTOR != "off")


def has_factor(user: Any) -> bool:
    """Say whether somebody has set one up."""
    return bool(user_has_device(user))


def is_required(user: Any) -> bool:
    """Say whether somebody has to have one."""
    if settings.SECOND_FACTOR == "owners":
        return user.is_superuser or roles.of(user) is Role.OWNER
    return bool(settings.SECOND_FACTOR == "required")


def verified(user: Any, code: str) -> Any:
    """Return the device that a code is of, None for a wrong one; each code works once."""
    code = re.sub(r"[\s-]", "", code).lower()
    model = TOTPDevice if _APPS_CODE.match(code) else StaticDevice
    for device in model.objects.filter(user=user, confirmed=True):
        if found := verify_token(user, device.persistent_id, code[:16]):
            return found
    return None


def new_key() -> str:
    """Return a new secret of an app, in hex."""
    return str(default_key())


def app_of(user: User, key: str) -> TOTPDevice:
    """Return the app as it would be kept, not saved."""
    return TOTPDevice(user=user, name=APP, key=key, confirmed=True)


def qr_code(device: TOTPDevice) -> str:
    """Return what an app scans, as an SVG in a data URL: drawn here, told to nobody else."""
    drawn = segno.make(device.config_url, error="m")
    return str(drawn.svg_data_uri(scale=5, border=4, dark="#000", light="#fff"))


def set_up(user: User, key: str, code: str) -> tuple[TOTPDevice, list[str]] | None:
    """Keep an app whose code this is; return it with the recovery codes, None for a wrong code."""
    device = app_of(user, key)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if has_factor(user) or not _APPS_CODE.match(code):
            return None
        device.save()
        if not device.verify_token(code):
            device.delete()
            return None
        changes.tell(user, "second factor set up")
        return device, new_codes(user)


def new_codes(user: User) -> list[str]:
    """Replace the recovery codes; return the new ones, which are shown this once."""
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(12)) for _ in range(RECOVERY_CODES)]
    with transaction.atomic():
        StaticDevice.objects.filter(user=user).delete()
        paper = StaticDevice.objects.create(user=user, name=PAPER, confirmed=True)
        StaticToken.objects.bulk_create(StaticToken(device=paper, token=code) for code in codes)
    return ["-".join(code[at : at + 4] for at in (0, 4, 8)) for code in codes]


def codes_left(user: Any) -> int:
    """Return how many recovery codes are still to be used."""
    return int(StaticToken.objects.filter(device__user=user).count())


def remove(user: User) -> bool:
    """Take somebody's second factor away; return whether there was one."""
    with transaction.atomic():
        apps, _ = TOTPDevice.objects.filter(user=user).delete()
        paper, _ = StaticDevice.objects.filter(user=user).delete()
        if apps or paper:
            changes.tell(user, "second factor removed")
    return bool(apps or paper)
