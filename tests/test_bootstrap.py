"""The first admin: made once, never with a fixed password, never in place of one that exists."""

import pytest
from django.contrib.auth import authenticate, get_user_model

from controlplane.bootstrap import Admin, ensure_admin

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


def test_the_first_admin_gets_a_random_password_that_works():
    admin = ensure_admin()

    assert admin.username == "admin"
    assert len(admin.password) >= 16
    assert authenticate(username="admin", password=admin.password).is_superuser


def test_an_admin_that_exists_is_left_alone():
    ensure_admin()

    assert ensure_admin() == Admin(username="admin", password=None)
    assert get_user_model().objects.count() == 1


def test_a_name_and_password_that_are_given_are_used_and_not_shown(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_USERNAME", "ana")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "chosen-by-ana")

    assert ensure_admin() == Admin(username="ana", password=None)
    assert authenticate(username="ana", password="chosen-by-ana")
