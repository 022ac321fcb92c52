"""The signals: a new revision, and every process told of it.

Any row of a `Configured` model that is saved or deleted, by whatever surface, bumps the revision
in the same transaction, once, and before anything is written: so whoever changes the configuration
waits for the revision's lock first, and two of them cannot wait for each other. On commit the
number of rows is left beside the revision, the breakers are given the new policies, and this
process's catalog is read again; other processes find the revision within `LOOK_EVERY_S`.
"""

from typing import Any

import structlog
from django.db import DatabaseError, models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from simple_history.signals import pre_create_historical_record

from fallback import catalog, metrics, services
from fallback.changes import recording
from fallback.errors import BreakerUnavailable
from fallback.models import ConfigRevision, Configured

log = structlog.get_logger(__name__)
_LINKING = {"pre_add", "pre_remove", "pre_clear"}


class _Announcement:
    """What is to be done once a transaction is committed; one per transaction."""

    def __init__(self) -> None:
        self.others: list[recording.Touched] = []

    def __call__(self) -> None:
        recording.record_strays(self.others)
        announce()


def watch() -> None:
    """Connect the signals; called once, when the app is ready."""
    for signal in (pre_save, pre_delete):
        signal.connect(_on_row, dispatch_uid=f"fallback.changes.{id(signal)}")
    for signal in (post_save, post_delete):
        signal.connect(_on_written, dispatch_uid=f"fallback.changes.{id(signal)}")
    m2m_changed.connect(_on_link, dispatch_uid="fallback.changes.links")
    pre_create_historical_record.connect(
        recording.give_reason, dispatch_uid="fallback.changes.reason"
    )


def _on_row(sender: type, using: str, **_: Any) -> None:
    if issubclass(sender, Configured):
        _begin(using)


def _on_link(sender: type, instance: Any, action: str, using: str, **_: Any) -> None:
    if action in _LINKING and isinstance(instance, Configured):
        _begin(using)


def _on_written(sender: type, instance: models.Model, using: str, **told: Any) -> None:
    if not issubclass(sender, Configured) or recording.is_in_document(sender):
        return
    what = "removed" if "created" not in told else "added" if told["created"] else "changed"
    touched = recording.Touched.of(instance, what)
    making = recording.making()
    if making:
        making.others.append(touched)
    elif announcement := _announcement(using):
        announcement.others.append(touched)


def _begin(using: str) -> None:
    if _announcement(using):
        return
    ConfigRevision.bump()
    recording.begin()
    # robust: logs what it raises
    transaction.on_commit(_Announcement(), using=using, robust=True)


def _announcement(using: str) -> _Announcement | None:
    """Return what this transaction will announce.

    A rolled back savepoint takes its callbacks along, so what is listed here will still run, and
    has bumped the revision in a part of the transaction that still stands.
    """
    listed = (callback for _, callback, _ in transaction.get_connection(using).run_on_commit)
    return next((one for one in listed if isinstance(one, _Announcement)), None)


def announce() -> None:
    """Tell the breakers and this process of the committed configuration.

    Redis being away is no reason to lose a change: it is stored, and the pump tells the breakers
    as soon as they can be reached.
    """
    try:
        catalog.seal()
    except DatabaseError:  # the pump does it then
        log.warning("configuration_not_sealed", exc_info=True)
    catalog.refresh(wait_s=2.0)
    try:
        services.publish_configuration()
    except BreakerUnavailable as error:
        metrics.degraded("publish")
        log.warning("configuration_not_published", error=str(error))
