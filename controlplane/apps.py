"""Which site Django's admin is."""

from django.contrib.admin.apps import AdminConfig


class SiteConfig(AdminConfig):
    """Django's admin, on our own site."""

    default_site = "fallback.sign_in.site.Site"
