"""Why a figure is what it is: the chain from the figure down to raw readings, receipts, meters and factors."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query

from app.api import explained_sums as sums
from app.api import explanations as shapes
from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.energy import check_subject
from app.api.shapes import DistrictFilter, IdFilter
from app.db.figures.energy import Question
from app.domain import grid
from app.domain.calendar import local
from app.domain.reception import LANES
from app.errors import Invalid
from app.pipeline import explain

PREFIX = "/api/v1/explain"
router = APIRouter(prefix=PREFIX, tags=["explain"])
Reader = Annotated[Caller, Depends(allow(*EVERYONE))]
Id = Annotated[int, Query(ge=1, le=2**62, examples=[31])]
Start = tuple[str, date | datetime]


def _asked(
    period: Annotated[
        str,
        Query(
            max_length=40,
            description="a month `2026-10`, a business day `2026-10-01`, or an hour `2026-10-01T08:00:00+08:00`",
            examples=["2026-10-01"],
        ),
    ],
) -> Start:
    try:
        return grid.period(period)
    except ValueError as error:
        raise Invalid(
            str(error),
            detail_zh=f"period 有误：{error}",
            errors=[{"location": ["query", "period"], "message": str(error)}],
        ) from error


Asked = Annotated[Start, Depends(_asked)]


@router.get("/usage", response_model=shapes.UsageExplanation, summary="Explain usage of a point 用量溯源")
def explain_usage(caller: Reader, connection: Transaction, asked: Asked, point_id: Id) -> dict[str, Any]:
    """Meters with serial and multiplier and the events entered of them, the accepted steps, every reading with its
    receipt and edits, findings, revisions. `derived` is computed again from the readings by the rules; `agrees` holds
    it against the table. A month names its days.
    """
    found = explain.usage(connection, caller.scope, point_id, *asked)
    for part in found["parts"]:
        part["explain"] = _link("usage", part, point_id=point_id)
    for reading in found["readings"]:
        reading["lane"] = None if reading["lane"] is None else LANES[reading["lane"]]
    return found


@router.get("/energy", response_model=sums.EnergyExplanation, summary="Explain energy of a process unit 能耗溯源")
def explain_energy(
    caller: Reader,
    connection: Transaction,
    asked: Asked,
    process_unit_id: Id,
    carrier: Annotated[str, Query(max_length=60, examples=["electricity"])],
    flow: Literal["in", "out", "recovered", "feedstock"] = "in",
) -> dict[str, Any]:
    """What each point gave, derived again from its readings, and the coefficients with the rows they were taken from:
    set, edition, source, confidence, measured heating values.
    """
    found = explain.energy(connection, caller.scope, process_unit_id, carrier, flow, *asked)
    for point in found["points"]:
        point["explain"] = _link("usage", found, point_id=point["point_id"])
    return found


@router.get("/ratio", response_model=sums.RatioExplanation, summary="Explain a ratio 能效比值溯源")
def explain_ratio(caller: Reader, connection: Transaction, now: Now, asked: Asked, line_id: Id) -> dict[str, Any]:
    """Energy with signs, outputs with corrections, the indicator and the level with their citations, and the judgement
    made again from the readings. Ratios are of months.
    """
    grain, start = asked
    if grain != "month":
        raise Invalid(
            f"ratios are of months, {start} is none: write 2026-10",
            detail_zh="能效比值按月计算：请写 2026-10",
            errors=[{"location": ["query", "period"], "message": "not a month"}],
        )
    found = explain.ratio(connection, caller.scope, line_id, start, now)
    for part in found["parts"]:
        part["explain"] = _energy_link(part, part)
    for day in found["metered_outputs"]:
        day["explain"] = _link("usage", day, point_id=day["point_id"])
    return found


@router.get("/total", response_model=sums.TotalExplanation, summary="Explain an energy total 总量溯源")
def explain_total(
    caller: Reader,
    connection: Transaction,
    asked: Asked,
    enterprise_id: IdFilter = None,
    district: DistrictFilter = None,
) -> dict[str, Any]:
    """Of an enterprise, a district, else of everything in scope: what the total is the sum of, each part with where it
    is explained itself. `derived` is the sum of the parts.
    """
    grain, start = asked
    check_subject(connection, caller.scope, enterprise_id, district)
    found = explain.total(
        connection, caller.scope, Question(grain, start, grid.next_start(grain, start), enterprise_id, district)
    )
    for part in found["parts"]:
        is_enterprise = "uscc" in part
        part["explain"] = (
            _link("total", found, enterprise_id=part["enterprise_id"]) if is_enterprise else _energy_link(part, found)
        )
    return found


def _energy_link(part: dict[str, Any], of: dict[str, Any]) -> str:
    return _link("energy", of, process_unit_id=part["process_unit_id"], carrier=part["carrier_key"], flow=part["flow"])


def _link(kind: str, of: dict[str, Any], **question: object) -> str:
    """Return where a part is explained."""
    start, length = of["start"], 7 if of["grain"] == "month" else 10
    period = local(start) if isinstance(start, datetime) else start.isoformat()[:length]
    return f"{PREFIX}/{kind}?{urlencode({**question, 'period': period})}"
