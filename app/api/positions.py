"""Positions over any period: figures of lines, the index of an enterprise, the share of capacity at the benchmark."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.ranges import AsOf
from app.api.ratios import CSV_COLUMNS, DomainFilter, Ratio, Status, VariantFilter
from app.api.shapes import MONTH_PATTERN, Answer, DistrictFilter, Exact, Id, IdFilter
from app.db import levels
from app.db.figures import enterprises
from app.db.figures.as_of import check_published
from app.domain.calendar import business_day, month_of
from app.domain.periods import Grain, months_of, previous_months
from app.pipeline import positions

router = APIRouter(prefix="/api/v1", tags=["positions"])
GENERAL = {"unit_output_value": "unit-output-value", "unit_value_added": "unit-value-added"}
GrainAsked = Annotated[
    Literal["month", "quarter", "year_to_date", "year", "rolling_12_months"],
    Query(description="quarter and year: the one that the month lies in; the other two: the one that it ends"),
]
MonthAsked = Annotated[
    str | None,
    Query(
        pattern=MONTH_PATTERN,
        description="a month that names the period; default: the last that is over",
        examples=["2026-10"],
    ),
]


class RatioOfPeriod(Ratio):
    """One line over a period; quarter and year by their first month, the others by their last."""

    grain: str = Field(examples=["rolling_12_months"])
    months: int = Field(description="months of the period that were computed", examples=[12])


class RatiosOfPeriod(Answer):
    """Every line in service in the period."""

    grain: str = Field(examples=["rolling_12_months"])
    first_month: date = Field(examples=["2025-11-01"])
    last_month: date = Field(examples=["2026-10-01"])
    items: list[RatioOfPeriod]


class LeftOutLine(Answer):
    """A line that the index leaves out."""

    line_id: int = Field(examples=[8])
    because: str = Field(examples=["no_level"])


class Index(Answer):
    """Actual energy over what the output may take at the benchmark; at most 1: together they reach it."""

    energy_unit: str = Field(description="kinds of energy are never added", examples=["kgce, equivalent"])
    index: Exact | None = Field(description="null unless both sums are positive", examples=["1.0425"])
    energy: Exact | None = Field(description="of the lines counted, in kgce or `energy_unit`", examples=["9700000"])
    energy_at_benchmark: Exact | None = Field(description="Σ output × benchmark", examples=["9304556"])
    has_recalled_level: bool = Field(description="a benchmark in it is recalled: no public copy of it was read")
    level_editions: list[str] = Field(description="of the benchmarks in it", examples=[["2021/2023"]])
    factor_sets: list[str] = Field(description="conversions to standard coal", examples=[["GB/T 2589-2020"]])
    measured_share: Exact | None = Field(description="received / expected windows", examples=["0.9983"])
    lines: list[int] = Field(examples=[[7, 9]])
    left_out: list[LeftOutLine]


class SumOfLines(Answer):
    """Energy over output value or value added, summed over the lines that report it."""

    actual: Exact | None = Field(description="tce per 10^4 yuan", examples=["0.41"])
    energy: Exact | None = Field(description="kgce", examples=["1968214.6"])
    output: Exact | None = Field(description="10^4 yuan, constant prices", examples=["4800"])
    is_provisional: bool
    factor_sets: list[str] = Field(description="conversions to standard coal", examples=[["GB/T 2589-2020"]])
    measured_share: Exact | None = Field(description="received / expected windows", examples=["0.9983"])
    lines: list[int] = Field(examples=[[7, 9]])


class EnterpriseIndex(Answer):
    """An enterprise's lines together."""

    grain: str = Field(examples=["year"])
    first_month: date = Field(examples=["2026-01-01"])
    last_month: date = Field(examples=["2026-10-01"])
    indexes: list[Index]
    unit_output_value: SumOfLines
    unit_value_added: SumOfLines


class Mover(Answer):
    """A line that is not at the benchmark."""

    enterprise_id: int = Field(examples=[7])
    enterprise_name_zh: str = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str = Field(examples=["Example Cement Co., Ltd."])
    line_id: int = Field(examples=[7])
    line_code: str = Field(examples=["kiln-1"])
    status: Status
    is_provisional: bool
    unit: str = Field(description="of the distance", examples=["kgce/t"])
    level_edition: str | None = Field(examples=["2023"])
    level_confidence: str | None = Field(description="confirmed or recalled", examples=["confirmed"])
    distance: Exact = Field(description="from actual to benchmark", examples=["18.4"])
    capacity: Exact = Field(description="in the share's `capacity_unit`", examples=["4000"])
    share_points: Exact = Field(
        description="by which the share rises when the line gets there: the order of the list", examples=["29.63"]
    )


class CapacityShare(Answer):
    """Share of a domain's capacity at the benchmark; lines that report in another unit have a share of their own."""

    domain_no: int | None = Field(examples=[15])
    domain_zh: str = Field(examples=["水泥制造"])
    domain_en: str = Field(examples=["Cement manufacturing"])
    capacity_unit: str | None = Field(description="null: lines without a capacity", examples=["t/d"])
    capacity: Exact | None = Field(description="of all lines, in `capacity_unit`", examples=["13500"])
    capacity_at_benchmark: Exact | None = Field(
        description="of final figures at the benchmark, in `capacity_unit`", examples=["7500"]
    )
    share_pct: Exact | None = Field(description="capacity_at_benchmark / capacity × 100", examples=["55.555555555556"])
    is_target_met: bool | None = Field(description="strictly above the target: exactly 30.00 % is not met")
    lines: int = Field(examples=[4])
    lines_by_status: dict[str, int] = Field(
        examples=[{"at_benchmark": 2, "between": 1, "below_baseline": 1, "unknown": 0}]
    )
    lines_provisional: int = Field(description="their capacity counts to the total and reaches nothing", examples=[0])
    lines_with_recalled_level: int = Field(
        description="lines judged by a recalled level: no public copy of it was read", examples=[0]
    )
    movers: list[Mover] = Field(description="lines not at the benchmark, those that move the share most first")


class ShareTarget(Answer):
    """What the share is held against."""

    target_key: str = Field(examples=["benchmark_share"])
    name_zh: str = Field(examples=["重点行业产能和数据中心达到能效标杆水平的比例"])
    name_en: str = Field(examples=["share of key-industry capacity and data centres at benchmark level"])
    operator: str = Field(examples=[">"])
    value: Exact | None = Field(description="in `unit`", examples=["30"])
    unit: str = Field(examples=["%"])
    source: str = Field(examples=["天津市“十四五”节能减排工作实施方案"])
    confidence: str = Field(examples=["confirmed"])


class CapacityShares(Answer):
    """Shares by domain. Units of capacity differ between domains, so there is no single figure of the city."""

    grain: str = Field(examples=["rolling_12_months"])
    first_month: date = Field(examples=["2025-11-01"])
    last_month: date = Field(examples=["2026-10-01"])
    target: ShareTarget | None
    items: list[CapacityShare]


def _period(grain: str, month: str | None, now: datetime, as_of: datetime | None) -> tuple[Grain, date]:
    asked = Grain(grain)
    named = date.fromisoformat(f"{month}-01") if month else previous_months(month_of(business_day(now)), 1)
    check_published("month", months_of(asked, named)[-1], as_of)
    return asked, named


def _span(grain: Grain, month: date) -> dict[str, Any]:
    months = months_of(grain, month)
    return {"grain": grain.value, "first_month": months[0], "last_month": months[-1]}


@router.get(
    "/ratios/period", response_model=RatiosOfPeriod, responses=DOCUMENTED, summary="Ratios of a period 时段比值"
)
def list_ratios_of_period(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    grain: GrainAsked = "rolling_12_months",
    month: MonthAsked = None,
    enterprise_id: IdFilter = None,
    line_id: IdFilter = None,
    district: DistrictFilter = None,
    variant: VariantFilter = None,
    domain: DomainFilter = None,
    as_of: AsOf = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Sums of months, judged by the level of the first month: energy over output, windows, status, ratio, position,
    grade. A month without output or readings is missing and makes the figure provisional; a yearly indicator (PUE)
    counts on twelve whole months. `variant=unit-output-value` and `unit-value-added` are there for every line that
    reports that output. The district is that of the period's last day.
    """
    asked, named = _period(grain, month, now, as_of)
    question = positions.question(
        asked, named, enterprise_id=enterprise_id, line_id=line_id, district_code=district, variant_key=variant,
        domain_no=domain, as_of=as_of,
    )  # fmt: skip
    rows = positions.figures(connection, caller.scope, asked, named, question, now)
    if format == "csv":
        columns = [*CSV_COLUMNS, "grain", "months"]
        name = f"ratios-{grain}-{named.isoformat()}"
        return rows_csv(name, columns, rows, is_for_excel=excel)
    return {**_span(asked, named), "items": rows}


@router.get(
    "/enterprises/{enterprise_id}/index", response_model=EnterpriseIndex, summary="Index of an enterprise 综合指数"
)
def get_index(
    *,
    enterprise_id: Id,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    grain: GrainAsked = "year_to_date",
    month: MonthAsked = None,
    as_of: AsOf = None,
) -> dict[str, Any]:
    """Several products in one figure: actual energy / Σ (output × benchmark), for each kind of energy; and energy per
    output value and per value added, summed over the lines that report them.
    """
    enterprises.enterprise(connection, caller.scope, enterprise_id)
    asked, named = _period(grain, month, now, as_of)
    bases = {key: (v["conversion"], v["base_per_indicator_unit"]) for key, v in levels.variants(connection).items()}

    def lines(variant_key: str | None) -> list[dict[str, Any]]:
        question = positions.question(asked, named, enterprise_id=enterprise_id, variant_key=variant_key, as_of=as_of)
        return positions.figures(connection, caller.scope, asked, named, question, now)

    return {
        **_span(asked, named),
        "indexes": positions.indexes(lines(None), bases),
        **{name: positions.sum_of_lines(lines(key), bases[key][1]) for name, key in GENERAL.items()},
    }


@router.get("/capacity-share", response_model=CapacityShares, summary="Capacity at the benchmark 达标产能占比")
def get_capacity_share(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    grain: GrainAsked = "rolling_12_months",
    month: MonthAsked = None,
    district: DistrictFilter = None,
    domain: DomainFilter = None,
    as_of: AsOf = None,
) -> dict[str, Any]:
    """Of the lines the caller may see, per domain: capacity at the benchmark over all capacity against the policy's
    "more than 30 %", and which lines would move it most. A line of unknown or provisional status never counts as at
    the benchmark. Capacities are those that hold on the period's last day.
    """
    asked, named = _period(grain, month, now, as_of)
    question = positions.question(asked, named, district_code=district, domain_no=domain, as_of=as_of)
    return {**_span(asked, named), **positions.shares(connection, caller.scope, asked, named, question, now)}
