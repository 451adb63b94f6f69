"""Receipts: proof of what a gateway delivered, message by message and in sum."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.shapes import MAX_ID, Answer, Cursor, Instant, Limit, decode_cursor, next_cursor
from app.db import inbox
from app.db import registry as registry_db
from app.domain.reception import LANES

router = APIRouter(prefix="/api/v1/receipts", tags=["receipts"])


class ReceiptCount(Answer):
    """Sum over one message store (epoch) and lane of a gateway."""

    epoch: str = Field(examples=["9f3c2a"])
    lane: str = Field(examples=["live"])
    messages: int = Field(examples=[1042])
    accepted: int = Field(examples=[52100])
    duplicate: int = Field(examples=[50])
    disputed: int = Field(examples=[0])
    rejected: int = Field(examples=[0])
    first_seq: int = Field(examples=[1])
    last_seq: int = Field(examples=[1042])
    last_committed_at: Instant


class Receipt(Answer):
    """One message as it was committed."""

    id: int
    epoch: str = Field(examples=["9f3c2a"])
    lane: str = Field(examples=["live"])
    seq: int = Field(examples=[1042])
    accepted: int = Field(examples=[50])
    duplicate: int = Field(examples=[0])
    disputed: int = Field(examples=[0])
    rejected: list[dict[str, Any]] = Field(examples=[[{"index": 3, "reason": "unknown_point"}]])
    sent_at: Instant | None
    received_at: Instant
    committed_at: Instant
    rows_sha256: str = Field(description="digest of the rows as stored, hexadecimal")


class ReceiptPage(Answer):
    """One page of receipts, newest first, and the sums of all of them."""

    gateway_code: str = Field(examples=["gw-clinker-01"])
    counts: list[ReceiptCount]
    items: list[Receipt]
    next_cursor: str | None


@router.get("", response_model=ReceiptPage, summary="Receipts of a gateway 回执")
def list_receipts(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    gateway: Annotated[str, Query(max_length=63, examples=["gw-clinker-01"])],
    epoch: Annotated[str | None, Query(max_length=64)] = None,
    lane: Annotated[Literal["live", "backfill", "http"] | None, Query()] = None,
    seq: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """`epoch`, `lane` and `seq` together name one message: was it committed, and with what result."""
    gateway_id = registry_db.gateway_in_scope(connection, caller.scope, gateway)["id"]
    rows = inbox.list_receipts(
        connection,
        gateway_id,
        limit=limit + 1,
        before_id=decode_cursor(cursor),
        epoch=epoch,
        lane=LANES.index(lane) if lane else None,
        seq=seq,
    )
    following = next_cursor(rows, limit)
    return {
        "gateway_code": gateway,
        "counts": _with_lane(inbox.receipt_counts(connection, gateway_id)),
        "items": _with_lane(rows),
        "next_cursor": following,
    }


def _with_lane(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "lane": LANES[row["lane"]]} for row in rows]
