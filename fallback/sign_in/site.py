"""The admin's site: how people sign in, and the page where each sets up their own second factor."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django_otp import login as otp_login

from fallback import changes
from fallback.sign_in import factor, guard
from fallback.sign_in.form import SignInForm

KEY = "second_factor_key"  # in the session, until the first code of it is given


class Site(admin.AdminSite):
    """The one site of the admin."""

    login_form = SignInForm
    login_template = "admin/fallback/sign_in/login.html"

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Sign in; 429 with Retry-After for who tries too often."""
        page: Any = super().login(request, extra_context)
        form = (getattr(page, "context_data", None) or {}).get("form")
        if wait_s := getattr(form, "wait_s", 0):
            page.status_code = 429
            page.headers["Retry-After"] = str(max(1, round(wait_s)))
        if request.method == "POST" and page.status_code == 302 and request.user.is_authenticated:
            page.set_cookie(
                guard.BROWSER_COOKIE, guard.new_browser(request.user.pk), httponly=True,
                max_age=guard.BROWSER_DAYS * 86_400, samesite="Lax", secure=request.is_secure(),
                path=reverse("admin:login"),
            )  # fmt: skip
        answer: HttpResponse = page
        return answer

    def each_context(self, request: Any) -> dict[str, Any]:
        return {**super().each_context(request), "has_second_factors": factor.is_on()}

    def get_urls(self) -> list[Any]:
        view = self.admin_view(self.second_factor)
        return [path("second-factor/", view, name="second_factor"), *super().get_urls()]

    def second_factor(self, request: HttpRequest) -> HttpResponse:
        """Show one's own second factor; set it up, make new recovery codes, or take it away."""
        if request.method != "POST":
            return self._page(request)
        do = {"set_up": self._set_up, "codes": self._codes, "remove": self._remove}
        action = do.get(request.POST.get("do", ""))
        if action is None or not factor.is_on():
            return self._page(request)
        user: Any = request.user
        with changes.made_by(f"admin:{user.get_username()}", "", user):
            page = action(request, user)
            return page.render() if isinstance(page, TemplateResponse) else page

    def _set_up(self, request: HttpRequest, user: Any) -> HttpResponse:
        counted = guard.subjects(user.get_username(), f"second factor of {user.pk}")[:1]
        if guard.charge(counted) or not user.check_password(request.POST.get("password", "")):
            messages.error(request, "That is not your password, or there were too many attempts.")
            return self._page(request)
        made = factor.set_up(user, request.session.get(KEY, ""), request.POST.get("code", ""))
        if made is None:
            messages.error(request, "That is not the app's code of now: is its clock right?")
            return self._page(request)
        guard.passed(counted)
        device, codes = made
        request.session.pop(KEY, None)
        request.session.cycle_key()
        otp_login(request, device)
        return self._page(request, codes)

    def _codes(self, request: HttpRequest, user: Any) -> HttpResponse:
        if factor.verified(user, request.POST.get("code", "")) is None:
            messages.error(request, "That code is wrong, or was used already.")
            return self._page(request)
        changes.tell(user, "new recovery codes")
        return self._page(request, factor.new_codes(user))

    def _remove(self, request: HttpRequest, user: Any) -> HttpResponse:
        if factor.verified(user, request.POST.get("code", "")) is None:
            messages.error(request, "That code is wrong, or was used already.")
            return self._page(request)
        factor.remove(user)
        messages.success(request, "You sign in without a second factor from now on.")
        return HttpResponseRedirect(reverse("admin:second_factor"))

    def _page(self, request: HttpRequest, codes: list[str] | None = None) -> TemplateResponse:
        user: Any = request.user
        has_factor = factor.has_factor(user)
        context = self.each_context(request) | {
            "title": "Your second factor",
            "has_factor": has_factor,
            "is_required": factor.is_required(user),
            "codes": codes,
            "codes_left": factor.codes_left(user) if has_factor else 0,
        }
        if not has_factor and factor.is_on():
            key = request.session.setdefault(KEY, factor.new_key())
            device = factor.app_of(user, key)
            context |= {"qr_code": factor.qr_code(device), "key": _spelled(device)}
        return _unkept(TemplateResponse(request, "admin/fallback/sign_in/factor.html", context))


def _spelled(device: Any) -> str:
    """Return the secret as an app takes it by hand: in fours."""
    text = device.config_url.split("secret=")[1].split("&")[0]
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _unkept(page: TemplateResponse) -> TemplateResponse:
    page.headers["Cache-Control"] = "no-store, private"
    return page
