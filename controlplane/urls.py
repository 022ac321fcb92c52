"""Every HTTP path: the admin's, and the app's own, which are listed in fallback/urls.py."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("fallback.urls")),
]
