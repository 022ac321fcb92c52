"""The app: its name, and the wiring that has to wait until models are loaded."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class FallbackConfig(AppConfig):
    """Speech provider fallback for a fleet of voice agents."""

    name = "fallback"
    verbose_name = "Provider fallback"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here because models cannot be imported before all apps are loaded.
        from fallback import changes, checks, roles

        changes.watch()
        post_migrate.connect(roles.grant, sender=self)  # after Django's own, which it builds on
        checks.register()
