"""Why a figure is what it is: the chain from the figure down to raw readings, receipts, meters and factors."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime
from pydantic_core import to_json

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.domain.calendar import hour_floor, month_of
from app.errors import Invalid
from app.pipeline import explain

router = APIRouter(prefix="/api/v1/explain", tags=["explain"])
Reader = Annotated[Caller, Depends(allow(*EVERYONE))]
Id = Annotated[int, Query(ge=1, le=2**62, examples=[31])]


def _answer(found: dict[str, Any]) -> Response:
    return Response(to_json(found, serialize_unknown=True), media_type="application/json")


@router.get("/usage", summary="Explain usage of a point 用量溯源")
def explain_usage(
    caller: Reader,
    connection: Transaction,
    point_id: Id,
    day: Annotated[date | None, Query(description="a business day", examples=["2026-10-10"])] = None,
    month: Annotated[date | None, Query(description="any day of a month", examples=["2026-10-01"])] = None,
    hour: Annotated[AwareDatetime | None, Query(description="an instant in the hour")] = None,
) -> Response:
    """One of hour, day and month. Readings with their receipts and overrides, meters with multipliers, findings,
    revisions; `derived_quantity` is computed again by the rules, `agrees` compares it with the stored figure.
    """
    given = [name for name, value in (("hour", hour), ("day", day), ("month", month)) if value is not None]
    if len(given) != 1:
        raise Invalid(
            "give one of hour, day and month",
            detail_zh="请给出 hour、day、month 之一",
            errors=[{"location": ["query", "hour / day / month"], "message": f"{len(given)} given"}],
        )
    start = hour_floor(hour) if hour else month_of(month) if month else day
    assert start is not None  # noqa: S101 - one of the three was given
    return _answer(explain.usage(connection, caller.scope, point_id, given[0], start))


@router.get("/energy", summary="Explain energy of a process unit 能耗溯源")
def explain_energy(
    caller: Reader,
    connection: Transaction,
    process_unit_id: Id,
    carrier: Annotated[str, Query(max_length=60, examples=["electricity"])],
    start: Annotated[date, Query(description="the day, or a day of the month", examples=["2026-10-01"])],
    flow: Literal["in", "out", "recovered", "feedstock"] = "in",
    grain: Literal["day", "month"] = "month",
) -> Response:
    """The points that counted, what each gave, and every factor row that may convert the carrier, with its source."""
    first = month_of(start) if grain == "month" else start
    return _answer(explain.energy(connection, caller.scope, process_unit_id, carrier, flow, grain, first))


@router.get("/ratio", summary="Explain a ratio 能效比值溯源")
def explain_ratio(
    caller: Reader,
    connection: Transaction,
    now: Now,
    line_id: Id,
    month: Annotated[date, Query(description="any day of the month", examples=["2026-10-01"])],
) -> Response:
    """The energy rows, the outputs with corrections, the level with its citation, and the judgement made again."""
    return _answer(explain.ratio(connection, caller.scope, line_id, month_of(month), now))
