"""The product's paths and an empty view: what any request costs on this server."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def empty(_request: HttpRequest) -> HttpResponse:
    """Answer with nothing."""
    return HttpResponse(b"")


urlpatterns = [path("empty", empty), path("", include("controlplane.urls"))]

empty.csrf_exempt = True  # type: ignore[attr-defined] # asked with the same POST as a decision
