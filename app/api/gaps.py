"""The gap ledger of a gateway, day by day: expected, received, missing, lost."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Instant
from app.db import gaps
from app.db import registry as registry_db
from app.domain.calendar import business_day
from app.domain.reception import LANES
from app.errors import Invalid
from app.intake.registry_file import Day

router = APIRouter(prefix="/api/v1/gateways", tags=["receipts"])
LONGEST_DAYS = 400
MOST_GAPS = 200


class GapDay(Answer):
    """One business day of a gateway."""

    day: date = Field(examples=["2026-10-01"])
    windows_expected: int = Field(description="windows in service until now, even if nothing came", examples=[480])
    windows_received: int = Field(description="windows measured", examples=[470])
    windows_estimated: int = Field(description="inside a gap between two good registers: total exact", examples=[6])
    windows_missing: int = Field(description="expected, and neither received nor estimated", examples=[4])
    messages_missing: int = Field(description="found missing that day and still asked for", examples=[0])
    messages_lost: int = Field(description="found missing that day; the gateway no longer has them", examples=[1])
    messages_recovered: int = Field(description="found missing that day and delivered since", examples=[2])


class OpenGap(Answer):
    """A range of messages that is being asked for."""

    epoch: str = Field(examples=["9f3c2a"])
    lane: str = Field(examples=["live"])
    from_seq: int = Field(examples=[1000])
    to_seq: int = Field(examples=[1003])
    found_at: Instant
    requested_at: Instant | None = Field(description="last time it was asked for")
    request_count: int = Field(examples=[2])


class SilentPoint(Answer):
    """A point that sends nothing although its gateway does."""

    code: str = Field(examples=["E001"])
    last_at: Instant | None = Field(description="its last reading; null: none within 31 days")
    expected_interval_s: int = Field(examples=[900])


class GapLedger(Answer):
    """The ledger, what is open now, and who is silent now."""

    gateway_code: str = Field(examples=["gw-clinker-01"])
    days: list[GapDay]
    open_gaps: list[OpenGap]
    silent_points: list[SilentPoint]


@router.get("/{code}/gaps", response_model=GapLedger, summary="Gap ledger of a gateway 缺数台账")
def get_gaps(
    *,
    code: Annotated[str, Path(max_length=63, examples=["gw-clinker-01"])],
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    start: Annotated[Day | None, Query(alias="from", description="first day; default: 31 days before the end")] = None,
    end: Annotated[Day | None, Query(alias="to", description="end, excluded; default: through today")] = None,
) -> dict[str, Any]:
    """Every day of the range stands in it, also one on which nothing came. At most 400 days."""
    gateway = registry_db.gateway_in_scope(connection, caller.scope, code)["id"]
    until = end or business_day(now) + timedelta(days=1)
    first = start or until - timedelta(days=31)
    if not 0 < (until - first).days <= LONGEST_DAYS:
        raise Invalid(
            f"from {first} to {until} is not 1 to {LONGEST_DAYS} days: choose another range",
            detail_zh=f"时间范围须为 1 至 {LONGEST_DAYS} 天",
            errors=[{"location": ["query", "from / to"], "message": "range"}],
        )
    days = gaps.ledger(connection, gateway, first, until, now)
    for row in days:
        known = row["windows_received"] + row["windows_estimated"]
        row["windows_missing"] = max(0, row["windows_expected"] - known)
    found = gaps.open_gaps(connection, gateway, MOST_GAPS)
    return {
        "gateway_code": code,
        "days": days,
        "open_gaps": [{**gap, "lane": LANES[gap["lane"]]} for gap in found],
        "silent_points": gaps.silent_points(connection, gateway, now),
    }
