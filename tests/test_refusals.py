"""Behind a proxy that ends TLS: sign-in works once PUBLIC_URL is set, and says so until then."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from fallback import checks

PASSWORD = "a-password-for-tests"
PUBLIC = "https://testserver"


@pytest.fixture
def browser(db) -> Client:
    """Return a browser of somebody who has an account; the proxy speaks HTTP to us."""
    get_user_model().objects.create_superuser("ana", password=PASSWORD)
    return Client(enforce_csrf_checks=True)


def sign_in(browser: Client, origin: str):
    """Send the sign-in form as a browser does."""
    browser.get("/admin/login/")
    token = browser.cookies["csrftoken"].value
    form = {"username": "ana", "password": PASSWORD, "csrfmiddlewaretoken": token}
    return browser.post("/admin/login/", form, headers={"origin": origin})


def test_s23_without_public_url_the_page_says_what_to_set(browser: Client, settings):
    settings.PUBLIC_URL, settings.CSRF_TRUSTED_ORIGINS = "", []
    refused = sign_in(browser, PUBLIC)

    assert refused.status_code == 403
    assert f"PUBLIC_URL={PUBLIC}" in refused.content.decode()


def test_s23_with_public_url_sign_in_works_without_a_header_of_the_proxy(browser: Client, settings):
    settings.PUBLIC_URL, settings.CSRF_TRUSTED_ORIGINS = PUBLIC, [PUBLIC]

    assert sign_in(browser, PUBLIC).status_code == 302


def test_s23_a_cookie_that_plain_http_does_not_carry_is_explained(browser: Client):
    refused = browser.post("/admin/login/", {"username": "ana", "password": PASSWORD})

    assert refused.status_code == 403
    assert "PUBLIC_URL=http://testserver" in refused.content.decode()


def test_s23_what_a_browser_claims_to_be_is_shown_as_text(browser: Client):
    refused = sign_in(browser, "https://<script>alert(1)</script>")

    assert refused.status_code == 403
    assert "<script>alert" not in refused.content.decode()


@pytest.mark.parametrize(("url", "found"), [("", ["fallback.W012"]), (PUBLIC, [])])
def test_s23_a_deployment_that_does_not_know_its_address_is_told(settings, url, found):
    settings.PUBLIC_URL = url

    assert [one.id for one in checks.check_public_url()] == found


@pytest.mark.parametrize(("proxies", "found"), [(["*"], ["fallback.W013"]), (["10.0.0.7"], [])])
def test_s19_believing_everybody_is_told(settings, proxies, found):
    settings.FORWARDED_ALLOW_IPS = proxies

    assert [one.id for one in checks.check_proxies()] == found
