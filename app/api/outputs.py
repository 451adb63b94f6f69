"""Outputs of production lines: what was produced, which the ratio divides by."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from pydantic import ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import MAX_ID, Answer, Exact, Instant, Reasoned
from app.db import outputs as outputs_db
from app.domain.calendar import business_day
from app.errors import Invalid
from app.intake import outputs as intake
from app.intake.outputs import Kind, OutputEntry
from app.intake.registry_file import Day

router = APIRouter(prefix="/api/v1/outputs", tags=["outputs"])
MOST_OUTPUTS = 10_000
DEFAULT_DAYS = 92


class OutputReport(Reasoned):
    """Outputs to report, all or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "outputs": [
                        {
                            "line_id": 7,
                            "kind": "production",
                            "grain": "month",
                            "period": "2026-10",
                            "value": "98500",
                            "unit": "t",
                        },
                        {
                            "line_id": 7,
                            "kind": "output_value",
                            "grain": "month",
                            "period": "2026-10",
                            "value": "4800",
                            "unit": "10^4 yuan",
                        },
                    ]
                }
            ]
        },
    )
    outputs: list[OutputEntry] = Field(min_length=1, max_length=MOST_OUTPUTS)


class Reported(Answer):
    """What became of a report."""

    accepted: int = Field(description="new, or a new revision of what was reported before", examples=[31])
    unchanged: int = Field(description="reported before with the same value", examples=[0])


class Output(Answer):
    """The latest revision of one output."""

    line_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    process_unit: str = Field(examples=["kiln"])
    code: str = Field(description="the line's code", examples=["kiln-1"])
    kind: str = Field(examples=["production"])
    grain: str = Field(examples=["day"])
    period: date = Field(description="first day of the period", examples=["2026-10-01"])
    revision: int = Field(description="1 is the first report", examples=[1])
    value: Exact = Field(description="in `unit`", examples=["4900.5"])
    unit: str = Field(examples=["t"])
    reported_by: str = Field(examples=["enterprise-7"])
    reported_at: Instant
    reason: str = Field(examples=["weighbridge corrected"])


class OutputList(Answer):
    """Outputs, newest period first."""

    items: list[Output]
    is_complete: bool = Field(description="false: there are more than `limit`; ask for a shorter stretch")


@router.post("", response_model=Reported, summary="Report outputs 上报产量")
def report_outputs(
    body: OutputReport,
    caller: Annotated[Caller, Depends(allow("operator", "enterprise"))],
    connection: Transaction,
    now: Now,
) -> intake.Reported:
    """All or nothing: any bad row lists all of them. A changed value becomes a new revision; nothing is overwritten.
    An enterprise's key reports for its own lines only. New values of a closed year, after 31 March of the year that
    follows, are reported by operators only, with `closed_year_reason`; equal ones need none. A day or a month of
    production or it_electricity above what the line can make in that whole year by its capacity is refused.
    """
    return intake.report(connection, caller, body.outputs, now=now, closed_year_reason=body.closed_year_reason)


@router.post("/csv", response_model=Reported, summary="Report outputs as CSV 上报产量（CSV）")
def report_outputs_csv(
    body: Annotated[
        str,
        Body(
            media_type="text/csv",
            max_length=5_000_000,
            description="UTF-8; columns uscc, process_unit, line, kind, grain, period, value, unit, if wanted reason",
            examples=[
                "uscc,process_unit,line,kind,grain,period,value,unit\n"
                "91120000MA0000001Q,kiln,kiln-1,production,month,2026-10,98500,t\n"
            ],
        ),
    ],
    caller: Annotated[Caller, Depends(allow("operator", "enterprise"))],
    connection: Transaction,
    now: Now,
    closed_year_reason: Annotated[
        str | None,
        Query(
            max_length=500,
            description="why figures of a closed year are changed; required where they are, from operators alone",
            examples=["court order 2026-7"],
        ),
    ] = None,
) -> intake.Reported:
    """As above from a CSV file: all or nothing, every bad row is listed with its line."""
    entries, places = intake.parse_csv(body.removeprefix("\ufeff"))
    return intake.report(connection, caller, entries, now=now, closed_year_reason=closed_year_reason, places=places)


@router.get("", response_model=OutputList, summary="List outputs 产量列表")
def list_outputs(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    line_id: Annotated[int | None, Query(ge=1, le=MAX_ID, examples=[7])] = None,
    kind: Kind | None = None,
    first: Annotated[
        Day | None, Query(alias="from", description="first day; default: 92 days ago", examples=["2026-10-01"])
    ] = None,
    last: Annotated[
        Day | None, Query(alias="to", description="last day, included; default: today", examples=["2026-10-31"])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_OUTPUTS)] = 1000,
) -> dict[str, Any]:
    """The latest revision of each output whose period starts in the stretch."""
    until = last or business_day(now)
    since = first or until - timedelta(days=DEFAULT_DAYS)
    if since > until:
        raise Invalid(f"from {since} is after to {until}", detail_zh=f"from {since} 晚于 to {until}")
    rows = outputs_db.list_outputs(
        connection, caller.scope, first=since, last=until, limit=limit + 1, line_id=line_id, kind=kind
    )
    return {"items": rows[:limit], "is_complete": len(rows) <= limit}
