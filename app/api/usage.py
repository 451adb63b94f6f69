"""Usage of metering points: what passed each meter, by hour, day or month."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field
from pydantic_core import to_json

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, csv_response
from app.api.ranges import LIMIT_VALUES, AsOf, asked_range, check_as_of, check_size
from app.api.shapes import Answer, Exact, IdFilter
from app.db.figures import usage
from app.domain.calendar import BUSINESS_ZONE, local
from app.domain.grid import Grid
from app.errors import Invalid, NotFound

router = APIRouter(prefix="/api/v1/usage", tags=["usage"])


class UsageStep(Answer):
    """Usage of one step; all four are null where nothing is known, and the step still stands in the grid."""

    start: str = Field(
        description="business day, first day of the month, or start of the hour", examples=["2026-10-01"]
    )
    quantity: Exact | None = Field(description="in the series' unit; null: readings gave no usage", examples=["3840"])
    windows_expected: int | None = Field(description="metering windows in service", examples=[96])
    windows_received: int | None = Field(description="windows measured", examples=[94])
    windows_estimated: int | None = Field(description="windows whose split in time is estimated", examples=[2])


class UsageSeries(Answer):
    """Usage of one point over the whole grid."""

    point_id: int = Field(examples=[31])
    enterprise_id: int = Field(examples=[7])
    gateway_code: str = Field(examples=["gw-clinker-01"])
    code: str = Field(examples=["E001"])
    name_zh: str = Field(examples=["窑主电机"])
    name_en: str = Field(examples=["Kiln main drive"])
    carrier_key: str | None = Field(examples=["electricity"])
    unit: str = Field(description="canonical unit of the carrier", examples=["kWh"])
    total: Exact | None = Field(description="exact sum of the quantities over the range", examples=["959636.71"])
    steps: list[UsageStep]


class Usage(Answer):
    """Usage series on one grid."""

    grain: Literal["hour", "day", "month"]
    start: str = Field(description="first step", examples=["2026-10-01"])
    end: str = Field(description="end, excluded", examples=["2026-11-01"])
    zone: str = Field(examples=["Asia/Shanghai"])
    series: list[UsageSeries]


@router.get("", response_model=Usage, responses=DOCUMENTED, summary="Usage of points 用量")
def get_usage(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    asked: Annotated[Grid, Depends(asked_range)],
    point_id: Annotated[list[int] | None, Query(max_length=1000, description="may be repeated")] = None,
    enterprise_id: IdFilter = None,
    gateway: Annotated[str | None, Query(max_length=63, examples=["gw-clinker-01"])] = None,
    point: Annotated[
        str | None, Query(max_length=64, description="point's code on its gateway", examples=["E001"])
    ] = None,
    as_of: AsOf = None,
    format: Format = "json",
    excel: Excel = False,
) -> Response:
    """Name points by id, by gateway (and code), or a whole enterprise. Hours sum to days and days to months exactly;
    a step without usage is an explicit null. At most 50,000 steps x series in one answer.
    """
    if not (point_id or enterprise_id or gateway):
        raise Invalid(
            "name point_id, enterprise_id or gateway",
            detail_zh="请指定 point_id、enterprise_id 或 gateway",
            errors=[{"location": ["query", "point_id"], "message": "one of three is missing"}],
        )
    points = usage.find_points(
        connection,
        caller.scope,
        limit=LIMIT_VALUES + 1,
        point_ids=point_id,
        enterprise_id=enterprise_id,
        gateway_code=gateway,
        point_code=point,
    )
    if not points:
        raise NotFound("no such point in your scope", detail_zh="您的范围内没有这样的计量点")
    check_size(asked, len(points))
    ids = [row["point_id"] for row in points]
    check_as_of(asked, as_of)
    known = usage.series(connection, ids, asked.grain, asked.start, asked.end, as_of)
    if format == "csv":
        return _csv(points, known, asked, is_for_excel=excel)
    return Response(to_json(_answer(points, known, asked)), media_type="application/json")


def written(start: date | datetime) -> str:
    """Return the start of a step: a day as it is, an hour in business time."""
    return local(start) if isinstance(start, datetime) else start.isoformat()


def _answer(points: Sequence[dict[str, Any]], known: dict[int, usage.Series], asked: Grid) -> dict[str, Any]:
    """Return the answer as it is sent; built without the models, which cost more than the query itself."""
    starts = [(start, written(start)) for start in asked.starts()]
    return {
        "grain": asked.grain,
        "start": written(asked.start),
        "end": written(asked.end),
        "zone": BUSINESS_ZONE.key,
        "series": [_series(point, known.get(point["point_id"], NOTHING), starts) for point in points],
    }


NOTHING, EMPTY = usage.Series(None, {}), (None, None, None, None)


def _series(
    point: dict[str, Any], known: usage.Series, starts: Sequence[tuple[date | datetime, str]]
) -> dict[str, Any]:
    steps = [
        {
            "start": label,
            "quantity": quantity,
            "windows_expected": expected,
            "windows_received": received,
            "windows_estimated": estimated,
        }
        for label, (quantity, expected, received, estimated) in (
            (label, known.steps.get(start, EMPTY)) for start, label in starts
        )
    ]
    return {**point, "total": known.total, "steps": steps}


def _csv(
    points: Sequence[dict[str, Any]], known: dict[int, usage.Series], asked: Grid, *, is_for_excel: bool
) -> Response:
    columns = ["gateway_code", "point_code", "name_zh", "carrier_key", "unit", *UsageStep.model_fields]
    starts = [(start, written(start)) for start in asked.starts()]
    rows = (
        [point["gateway_code"], point["code"], point["name_zh"], point["carrier_key"], point["unit"], *step.values()]
        for point in points
        for step in _series(point, known.get(point["point_id"], NOTHING), starts)["steps"]
    )
    return csv_response(f"usage-{asked.grain}", columns, rows, is_for_excel=is_for_excel)
