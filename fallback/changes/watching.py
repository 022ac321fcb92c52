"""What a change of the configuration sets off: a new revision, and every process told of it.

Any row of a `Configured` model that is saved or deleted, by whatever surface, bumps the revision
in the same transaction, once. On commit the breakers are given the new policies and this
process's catalog is read again; other processes find the revision within `LOOK_EVERY_S`.
"""

from typing import Any

import structlog
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from fallback import catalog, metrics, services
from fallback.errors import BreakerUnavailable
from fallback.models import ConfigRevision, Configured

log = structlog.get_logger(__name__)


def watch() -> None:
    """Connect the signals; called once, when the app is ready."""
    for signal in (post_save, post_delete):
        signal.connect(_on_change, dispatch_uid=f"fallback.changes.{id(signal)}")


def _on_change(sender: type, using: str, **_: Any) -> None:
    if not issubclass(sender, Configured):
        return
    connection = transaction.get_connection(using)
    # A rolled back savepoint takes its callbacks along, so what is listed here will still run,
    # and has bumped the revision in a part of the transaction that still stands.
    if any(callback is announce for _, callback, _ in connection.run_on_commit):
        return
    ConfigRevision.bump()
    transaction.on_commit(announce, using=using, robust=True)  # logs what it raises


def announce() -> None:
    """Tell the breakers and this process of the committed configuration.

    Redis being away is no reason to lose a change: it is stored, and the pump tells the breakers
    as soon as they can be reached.
    """
    catalog.refresh(wait_s=2.0)
    try:
        services.publish_configuration()
    except BreakerUnavailable as error:
        metrics.degraded("publish")
        log.warning("configuration_not_published", error=str(error))
