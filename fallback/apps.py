"""The app: its name, and the wiring that has to wait until models are loaded."""

from django.apps import AppConfig


class FallbackConfig(AppConfig):
    """Speech provider fallback for a fleet of voice agents."""

    name = "fallback"
    verbose_name = "Provider fallback"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here because models cannot be imported before all apps are loaded.
        from fallback import changes, checks

        changes.watch()
        checks.register()
