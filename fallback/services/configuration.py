"""The configuration that the breakers judge by, and what is found wrong with it at run time."""

import threading
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from fallback import breaker, catalog, metrics
from fallback.catalog import Catalog
from fallback.domain import EventName, Kind, Override
from fallback.errors import BreakerUnavailable
from fallback.models import ConfigRevision, Transition
from fallback.pacing import Lately, NotAgainWithin
from fallback.services import unknown
from fallback.standing import standing_overrides
from fallback.times import rfc3339

PUBLISH_S: Final = 1.0  # how often one process publishes of its own accord
RESTORED_S: Final = 30.0  # how often the breakers are made to follow a database that went back
REVISION_MAX: Final = 253_402_300_000_000  # of the year 9999; more is damage
TELL_EVERY_MS: Final = 10 * 60_000  # the same misconfiguration is told once in this time
DETAIL_MAX: Final = 500

log = structlog.get_logger(__name__)
_publish = NotAgainWithin(PUBLISH_S)
_tell = NotAgainWithin(TELL_EVERY_MS / 1000)
_restored = Lately(RESTORED_S)


def publish_configuration() -> None:
    """Have the breakers judge by this process's configuration, unless they know a newer one.

    Where Redis has lost its data, operators' orders that still stand are put back, and the loss
    is told. Raises BreakerUnavailable.
    """
    config = catalog.current()
    if not config.revision:
        return
    overrides, is_known = _past()
    for kind in Kind:
        policies = policies_of(kind, config)
        standing = {slug: order for (of, slug), order in overrides.items() if of == kind}
        status = breaker.configure(
            kind,
            config.revision,
            policies,
            overrides=standing,
            is_known=is_known and bool(policies),  # who has no breakers has lost none
        )
        unknown.forget_known(kind, config)
        log.debug("configuration_published", kind=kind, revision=config.revision, status=status)


def follow_restored(kind: Kind, revision: int) -> None:
    """Have the breakers judge by the database also where it went back: it was restored from a copy
    of before `revision`, which the breakers of this kind had before this call.

    The breakers take a higher revision alone, so that nobody's old configuration undoes a newer
    one. So the database's is raised above theirs, and what it holds is published like a change.
    Two databases on one Redis would take turns at that; each does so twice a minute at most. Raises
    BreakerUnavailable, or what the database raises.
    """
    config = catalog.looked_at_now()
    if config is None or config.revision >= revision or revision > REVISION_MAX:
        return  # the database is away, or has the change that the breakers have
    if _restored.has("") or not ConfigRevision.rise_above(revision):
        return
    _restored.note("")
    catalog.refresh(catalog.CONFIRM_WAIT_S)
    publish_configuration()
    metrics.degraded("configuration_restored")
    log.warning("configuration_restored", revision=config.revision, breakers_had=revision)
    tell_misconfigured(
        kind,
        "configuration",
        f"the database holds the configuration of {_moment(config.revision)}, and the breakers had"
        f" that of {_moment(revision)}: it was restored, and the breakers judge by it again. Check"
        " the policies. If nobody restored it, two databases share one Redis namespace.",
    )


def _moment(revision: int) -> str:
    """Return when a configuration was made: a revision is the time in ms."""
    return str(rfc3339(revision))


def _past() -> tuple[dict[tuple[Kind, str], Override], bool]:
    """What history knows, for breakers that know nothing: standing orders, and whether there was
    a past at all. Nothing while the database is away."""
    try:
        standing = standing_overrides(timezone.now())
        return {(kind, slug): order for kind, slug, order in standing}, Transition.objects.exists()
    except DatabaseError:
        log.warning("overrides_unknown", exc_info=True)
        return {}, False


def publish_soon() -> None:
    """Publish from a thread of its own: the decision that noticed does not wait for it."""
    if _publish.is_due():
        threading.Thread(target=_publish_quietly, name="publish", daemon=True).start()


def _publish_quietly() -> None:
    try:
        publish_configuration()
    except BreakerUnavailable as error:
        log.warning("configuration_not_published", error=str(error))
    finally:
        connections.close_all()


def policies_of(kind: Kind, config: Catalog) -> dict[str, Any]:
    """Return the policies of all providers of a kind, by slug."""
    return {slug: policy for (of, slug), policy in config.policies.items() if of == kind}


def tell_misconfigured(kind: Kind, subject: str, detail: str) -> None:
    """Announce something that a call met and that should have been refused on save."""
    if not _tell.is_due(f"{kind} {subject}"):
        return
    log.warning("misconfigured", subject=subject, detail=detail)
    try:
        breaker.announce(
            kind, EventName.MISCONFIGURED, subject,
            every_ms=TELL_EVERY_MS, evidence={"detail": detail[:DETAIL_MAX]},
        )  # fmt: skip
    except BreakerUnavailable:
        metrics.degraded("announce")
