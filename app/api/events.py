"""Events of meters and points: exchanged, read with another multiplier, registered wrongly, moved."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Cursor, Instant, Limit, decode_cursor, next_cursor
from app.db import events as events_db
from app.intake import events as intake
from app.intake.event_entries import AnyEvent

router = APIRouter(prefix="/api/v1/events", tags=["events"])


class EventReport(BaseModel):
    """One event to enter."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    event: AnyEvent
    closed_year_reason: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="why figures of a closed year are changed", examples=["court order 2026-7"]
    )
    dry_run: bool = Field(False, description="check and show, write nothing")


class EventWarning(Answer):
    """What is doubtful of an event that was taken: check it, and put it right by a `meter_correction`."""

    location: str = Field(examples=["event, initial_register"])
    text_zh: str
    text_en: str


class EventEntered(Answer):
    """What an event did, or with `dry_run` would do."""

    is_dry_run: bool
    is_new: bool = Field(description="false: the very same event was known, nothing changed")
    changes: list[str] = Field(description="one line per changed row", examples=[["+ installation gw-1/E001/…"]])
    warnings: list[EventWarning] = Field(
        description="registers that the readings around them make doubtful; none where nothing changed"
    )


class PointEvent(Answer):
    """An event as it was entered."""

    id: int = Field(examples=[3])
    uscc: str
    gateway: str = Field(examples=["gw-clinker-01"])
    point: str = Field(examples=["E001"])
    kind: str = Field(description="replacement, multiplier_change, meter_correction or move", examples=["replacement"])
    at: Instant
    stated: dict[str, Any] = Field(
        description="what was stated", examples=[{"serial": "S2", "final_register": "88421.6", "initial_register": "0"}]
    )
    actor: str = Field(description="who entered it", examples=["li"])
    reason: str
    evidence: str | None
    recorded_at: Instant = Field(description="when it was entered, often long after `at`")


class EventPage(Answer):
    """One page, the last entered first."""

    items: list[PointEvent]
    next_cursor: str | None


@router.post("", response_model=EventEntered, summary="Enter an event of a meter or point 登记换表等事件")
def enter_event(
    body: EventReport,
    request: Request,
    caller: Annotated[Caller, Depends(allow("operator"))],
    connection: Transaction,
    now: Now,
) -> intake.Entered:
    """Enterable weeks later: figures from the event's instant on are computed again from the raw readings, those before
    it are left alone (a `meter_correction` reaches back to the meter's first day). Twice the same does no harm.
    A register that a stored reading contradicts (a final one below the reading before it) is refused with 422.
    """
    return intake.enter(
        connection,
        caller,
        body.event,
        settings=request.app.state.settings,
        now=now,
        closed_year_reason=body.closed_year_reason,
        is_dry_run=body.dry_run,
    )


@router.get("", response_model=EventPage, summary="Events of meters and points 事件记录")
def list_events(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    gateway: Annotated[str | None, Query(max_length=63, examples=["gw-clinker-01"])] = None,
    point: Annotated[str | None, Query(max_length=64, examples=["E001"])] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Who entered which event, when, why and on what evidence."""
    rows = events_db.list_events(
        connection, caller.scope, limit=limit + 1, before_id=decode_cursor(cursor), gateway=gateway, point=point
    )
    following = next_cursor(rows, limit)
    return {"items": rows, "next_cursor": following}
