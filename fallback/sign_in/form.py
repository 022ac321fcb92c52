"""The form that people sign in with: a name, a password, and a code where they have one."""

from typing import Any, Final, cast

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from fallback.sign_in import factor, guard

NEEDS_CODE: Final = "needs_code"
TRY_LATER: Final = "try_later"


class SignInForm(AdminAuthenticationForm):
    """Counts each attempt before the hash of the password is computed."""

    code = forms.CharField(
        required=False,
        max_length=20,
        label="Code",
        help_text="Only with a second factor: the code of your app, or a recovery code.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "spellcheck": "false"}),
    )

    def __init__(self, request: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.wait_s = 0.0
        if not factor.is_on():
            del self.fields["code"]

    def clean(self) -> dict[str, Any]:
        name, request = self.cleaned_data.get("username") or "", cast(HttpRequest, self.request)
        if not (name and self.cleaned_data.get("password")):
            return self.cleaned_data
        address = request.META.get("REMOTE_ADDR") or "unknown"
        account = User.objects.filter(username=name).values_list("pk", flat=True).first()
        cookie = request.COOKIES.get(guard.BROWSER_COOKIE, "")
        browser = guard.browser_of(cookie, account)
        counted = guard.subjects(name, address, browser)
        if wait_s := guard.charge(counted):
            guard.failed(name, address, "too many attempts")
            raise self._later(wait_s)
        with guard.hashing(is_known=bool(browser)) as has_place:
            if not has_place:
                raise self._later(guard.HASH_PATIENCE_S)
            try:
                cleaned = super().clean()
            except ValidationError:
                guard.failed(name, address, "wrong name or password")
                raise
        self._ask_for_code(name, address)
        guard.passed(counted)
        return cleaned

    def _ask_for_code(self, name: str, address: str) -> None:
        user: Any = self.user_cache
        if not factor.is_on() or not factor.has_factor(user):
            return
        code = self.cleaned_data.get("code", "").strip()
        if not code:
            self.fields["code"].widget.attrs["autofocus"] = True
            raise ValidationError("Give the code of your authenticator app too.", code=NEEDS_CODE)
        user.otp_device = factor.verified(user, code)
        if user.otp_device is None:
            guard.failed(name, address, "wrong code")
            raise ValidationError(
                "That code is wrong, was used already, or came too soon after a wrong one. Wait for"
                " the next one of your app.", code="wrong_code",
            )  # fmt: skip

    def _later(self, wait_s: float) -> ValidationError:
        self.wait_s = wait_s
        return ValidationError(
            f"Too many attempts. Try again in {max(1, round(wait_s))} s.", code=TRY_LATER
        )
