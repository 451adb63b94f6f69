"""Measured lower heating values of fuels, which go before the annex of GB/T 2589."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.outputs import Reported
from app.api.shapes import Answer, Exact, IdFilter, Instant, Month, Reasoned, month_start
from app.db import heating_values
from app.domain.calendar import business_day, month_of
from app.errors import Invalid
from app.intake import heating_values as intake
from app.intake import outputs as outputs_intake
from app.intake.heating_values import LotEntry

router = APIRouter(prefix="/api/v1/heating-values", tags=["heating values"])
MOST_LOTS = 1000


class LotReport(Reasoned):
    """Lots to report, all or nothing."""

    model_config = ConfigDict(extra="forbid")
    lots: list[LotEntry] = Field(min_length=1, max_length=MOST_LOTS)


class Lot(Answer):
    """The latest revision of one lot."""

    process_unit_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    process_unit: str = Field(description="the unit's code; the lots count there and below", examples=["kiln"])
    carrier_key: str = Field(examples=["raw_coal"])
    month: date = Field(examples=["2026-10-01"])
    lot: str = Field(examples=["2026-10-A"])
    revision: int = Field(description="1 is the first report", examples=[1])
    mass: Exact | None = Field(description="in `unit`; null: the lot was withdrawn", examples=["1200000"])
    unit: str = Field(description="canonical unit of the carrier", examples=["kg"])
    lhv_kj: Exact | None = Field(description="lower heating value in kJ per `unit`", examples=["21000"])
    sampled_on: date | None
    evidence: str = Field(examples=["laboratory report 2026-1013"])
    reason: str
    reported_by: str
    reported_at: Instant


class LotList(Answer):
    """Lots, newest month first."""

    items: list[Lot]
    is_complete: bool = Field(description="false: there are more than `limit`; ask for fewer months")


@router.post("", response_model=Reported, summary="Report measured heating values 上报实测热值")
def report_heating_values(
    body: LotReport,
    caller: Annotated[Caller, Depends(allow("operator", "enterprise"))],
    connection: Transaction,
    now: Now,
) -> outputs_intake.Reported:
    """The mass-weighted mean of a month's lots replaces the annex value (k = LHV / 29,307) at the unit and all units
    below it; the nearest unit with lots counts. All or nothing; nothing is overwritten. Energy and CO2 of the month
    are computed again; what was published before stays as a revision. Months of a closed year, after 31 March of the
    year that follows, are changed by operators only, with `closed_year_reason`; equal lots need none.
    """
    return intake.report(connection, caller, body.lots, now=now, closed_year_reason=body.closed_year_reason)


@router.get("", response_model=LotList, summary="List measured heating values 实测热值列表")
def list_heating_values(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    process_unit_id: IdFilter = None,
    from_month: Month = None,
    to_month: Month = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LOTS)] = 500,
) -> dict[str, Any]:
    """The latest revision of each lot; by default of the last 12 months."""
    last = month_start(to_month) or month_of(business_day(now))
    first = month_start(from_month) or last.replace(year=last.year - 1)
    if first > last:
        raise Invalid(f"from_month {first} is after to_month {last}", detail_zh=f"from_month {first} 晚于 {last}")
    rows = heating_values.list_lots(
        connection, caller.scope, first=first, last=last, limit=limit + 1, process_unit_id=process_unit_id
    )
    return {"items": rows[:limit], "is_complete": len(rows) <= limit}
