"""Deliveries: notices on their way, received, or given up and to be replayed."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import Caller, Now, Transaction, allow
from app.api.shapes import Answer, Cursor, Id, IdFilter, Instant, Limit, decode_cursor, next_cursor
from app.db import access
from app.db import deliveries as outbox

router = APIRouter(prefix="/api/v1/deliveries", tags=["deliveries"])


class Delivery(Answer):
    """One event to one endpoint."""

    id: int = Field(examples=[77])
    event_id: str = Field(description="also its webhook-id")
    kind: str = Field(examples=["alert.opened"])
    alert_id: int | None = Field(examples=[41])
    occurred_at: Instant
    endpoint_id: int = Field(examples=[2])
    endpoint_name: str = Field(examples=["jizhou-duty"])
    state: str = Field(description="pending, delivered or dead", examples=["delivered"])
    attempts: int = Field(examples=[1])
    next_attempt_at: Instant = Field(description="while pending")
    last_status: int | None = Field(description="HTTP status of the last attempt", examples=[204])
    last_error: str | None
    delivered_at: Instant | None


class DeliveryPage(Answer):
    """One page of deliveries, newest first."""

    items: list[Delivery]
    next_cursor: str | None


class Replayed(Answer):
    """The delivery goes out again from its first attempt."""

    delivery_id: int = Field(examples=[77])


@router.get("", response_model=DeliveryPage, summary="List deliveries 投递列表")
def list_deliveries(
    *,
    caller: Annotated[Caller, Depends(allow("operator", "regulator", "official"))],
    connection: Transaction,
    state: Annotated[Literal["pending", "delivered", "dead"] | None, Query()] = None,
    endpoint_id: IdFilter = None,
    alert_id: IdFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Of events about enterprises in scope; test notices are shown to city-wide keys only."""
    rows = outbox.list_deliveries(
        connection,
        caller.scope,
        limit=limit + 1,
        before_id=decode_cursor(cursor),
        state=state,
        endpoint_id=endpoint_id,
        alert_id=alert_id,
    )
    return {"next_cursor": next_cursor(rows, limit), "items": rows}


@router.post("/{delivery_id}/replay", response_model=Replayed, status_code=202, summary="Send again 重发")
def replay_delivery(
    delivery_id: Id, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction, now: Now
) -> dict[str, int]:
    """With the same webhook-id, so that a receiver that has it already can tell."""
    outbox.replay(connection, delivery_id, now)
    access.record(connection, caller.name, "delivery.replay", f"delivery/{delivery_id}")
    return {"delivery_id": delivery_id}
