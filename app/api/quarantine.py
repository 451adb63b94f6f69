"""Quarantine: what was rejected, why, and letting it through the ladder again once the registry is right."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Cursor, Instant, Limit, decode_cursor, next_cursor
from app.db import access, inbox
from app.domain.reception import LANES

router = APIRouter(prefix="/api/v1/quarantine", tags=["quarantine"])


class QuarantineItem(Answer):
    """Rejected items of one message, of one reason and as a rule of one point, kept as they were sent."""

    id: int = Field(examples=[12])
    gateway_code: str = Field(description="as the broker's account names it", examples=["gw-clinker-01"])
    enterprise_id: int | None = Field(description="null: the registry does not know the gateway", examples=[7])
    lane: str = Field(description="live, backfill or http", examples=["live"])
    epoch: str | None
    seq: int | None = Field(examples=[1042])
    item_index: int | None = Field(description="first place in the message, from 0; null: the whole message")
    item_count: int = Field(description="items, for example readings, that this holds", examples=[96])
    point_code: str | None = Field(
        description="null: none could be read, or several; of a reason in a message, the first 20 points stand alone",
        examples=["E009"],
    )
    ts: Instant | None = Field(description="instant of the earliest reading, where it could be read")
    reason: str = Field(
        description="malformed_json, invalid_message, unknown_gateway, gateway_disabled, unknown_point, invalid_item,"
        " non_finite, bad_timestamp, before_installation, in_future, seq_reused, too_large or storage_error",
        examples=["unknown_point"],
    )
    detail: str = Field(examples=["point E009 is not registered on gw-clinker-01"])
    raw_bytes: int = Field(description="size of what was kept: a message of these items alone", examples=[131])
    raw_head: str = Field(description="its beginning, bytes that are not UTF-8 replaced", examples=['{"point": "E009"'])
    received_at: Instant
    release_requested_at: Instant | None
    release_requested_by: str | None
    released_at: Instant | None
    release_note: str | None


class QuarantineCount(Answer):
    """How many items a reason has."""

    reason: str = Field(examples=["unknown_point"])
    items: int = Field(description="of all rows; a message that is refused as a whole is one", examples=[96])
    waiting: int = Field(description="not released", examples=[96])
    last_received_at: Instant


class QuarantinePage(Answer):
    """One page of rows, newest first, and the counts by reason of everything in scope."""

    by_reason: list[QuarantineCount]
    items: list[QuarantineItem]
    next_cursor: str | None


class Release(Answer):
    """What to release: a gateway, a reason, or the items that meet both."""

    gateway_code: str | None = Field(None, max_length=63, examples=["gw-clinker-01"])
    reason: str | None = Field(None, max_length=40, examples=["unknown_point"])


class Released(Answer):
    """What was asked for; ingest does it within seconds."""

    requested: int = Field(description="items asked for now", examples=[96])
    pending: int = Field(description="items that wait for ingest in all", examples=[96])
    requested_at: Instant


@router.get("", response_model=QuarantinePage, summary="Rejected items with reasons 隔离区")
def list_quarantine(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    gateway: Annotated[str | None, Query(max_length=63, examples=["gw-clinker-01"])] = None,
    reason: Annotated[str | None, Query(max_length=40, examples=["unknown_point"])] = None,
    waiting: Annotated[bool | None, Query(description="only those not released, or only those released")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Newest first. Items of a gateway that the registry does not know are shown to city-wide keys only."""
    rows = inbox.list_quarantine(
        connection,
        caller.scope,
        limit=limit + 1,
        gateway_code=gateway,
        reason=reason,
        before_id=decode_cursor(cursor),
        is_open=waiting,
    )
    following = next_cursor(rows, limit)
    items = [{**row, "lane": LANES[row["lane"]]} for row in rows]
    by_reason = inbox.quarantine_by_reason(connection, caller.scope)
    return {"next_cursor": following, "items": items, "by_reason": by_reason}


@router.post("/release", response_model=Released, status_code=202, summary="Release items 放行")
def release_quarantine(
    body: Release,
    caller: Annotated[Caller, Depends(allow("operator"))],
    connection: Transaction,
    now: Now,
) -> dict[str, int | datetime]:
    """Asks ingest to run the items through the ladder again; what is still wrong stays in quarantine."""
    requested = inbox.request_release(
        connection, gateway_code=body.gateway_code, reason=body.reason, actor=caller.name, now=now
    )
    detail = {"gateway_code": body.gateway_code, "reason": body.reason, "items": requested}
    access.record(connection, caller.name, "quarantine.release", "quarantine", detail)
    return {"requested": requested, "pending": inbox.count_pending_release(connection), "requested_at": now}
