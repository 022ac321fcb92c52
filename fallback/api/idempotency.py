"""`Idempotency-Key` on what operators order: sent again, the answer is repeated, not the order.

A convenience kept in the database, and never in the way: when the database is away the order is
carried out all the same. Forcing a breaker open twice is harmless; not being able to is not.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog
from django.db import DatabaseError
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import metrics
from fallback.api.authentication import caller_of
from fallback.errors import Conflict, FallbackError, Invalid, Problem
from fallback.models import IdempotentRequest

log = structlog.get_logger(__name__)

KEPT: Final = timedelta(hours=24)  # Stripe's, which is what clients expect
MOST: Final = 1_000  # of one caller; the oldest are forgotten before their time
UNDER_WAY: Final = timedelta(seconds=30)  # after this, whoever carried it out has died
HEADER: Final = "Idempotency-Key"


class KeyReused(FallbackError):  # noqa: N818 - named like the other refusals in `errors`
    """The same key came with another order."""

    code = "idempotency_key_reused"
    status = 422


class UnderWay(Conflict):
    """The same order is being carried out right now."""

    code = "under_way"


def once(
    request: Request, order: Mapping[str, Any], carry_out: Callable[[], Mapping[str, Any]]
) -> Response:
    """Carry out an order, or repeat its answer if this caller sent it before under this key.

    Raises Invalid, KeyReused or UnderWay. An order that fails is forgotten: it may be tried again.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return Response(carry_out())
    _check(key)
    row = _kept(request, key, order)
    if row is not None and row.body is not None:
        return Response(row.body, headers={"Idempotent-Replayed": "true"})
    try:
        body = carry_out()
    except BaseException:
        _forget(row)
        raise
    _keep(row, body)
    return Response(body)


def _check(key: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        right = "must be 1 to 255 visible ASCII characters"
        raise Invalid(f"{HEADER} {right}.", [Problem(HEADER, right)])


def _kept(request: Request, key: str, order: Mapping[str, Any]) -> IdempotentRequest | None:
    """Return this order's row, a new one if there is none; None if the database is away."""
    now = timezone.now()
    digest = _digest(request, order)
    try:
        IdempotentRequest.objects.filter(created_at__lt=now - KEPT).delete()
        row, is_new = IdempotentRequest.objects.get_or_create(
            actor=caller_of(request).actor,
            key=key,
            defaults={"request_sha256": digest, "created_at": now},
        )
        if is_new:
            _forget_too_many(row.actor)
    except DatabaseError as error:
        log.warning("order without its idempotency key", error=str(error))
        metrics.degraded("idempotency")
        return None
    if row.request_sha256 != digest:
        raise KeyReused(f"This {HEADER} was used for another order; take a new one.")
    if not is_new and row.body is None and now - row.created_at < UNDER_WAY:
        raise UnderWay("This order is being carried out; ask again in a moment.")
    return row


def _forget_too_many(actor: str) -> None:
    """Keep no more than `MOST` orders of one caller."""
    rows = IdempotentRequest.objects.filter(actor=actor).order_by("-created_at", "-pk")
    for oldest in rows.values_list("created_at", flat=True)[MOST : MOST + 1]:
        IdempotentRequest.objects.filter(actor=actor, created_at__lte=oldest).delete()


def _digest(request: Request, order: Mapping[str, Any]) -> str:
    text = json.dumps([request.method, request.get_full_path(), order], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(row: IdempotentRequest | None, body: Mapping[str, Any]) -> None:
    """Store the answer. The order is carried out by now: nothing here may fail it."""
    try:
        if row is not None:
            IdempotentRequest.objects.filter(pk=row.pk).update(body=body)
    except DatabaseError as error:
        log.warning("answer to an order not kept", error=str(error))
        metrics.degraded("idempotency")


def _forget(row: IdempotentRequest | None) -> None:
    try:
        if row is not None:
            IdempotentRequest.objects.filter(pk=row.pk).delete()
    except DatabaseError as error:
        log.warning("failed order not forgotten", error=str(error))
