"""Ratios: how far each production line is from the official benchmark and baseline, and the ranking by it."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.ranges import AsOf
from app.api.shapes import (
    MONTH_PATTERN,
    Answer,
    DistrictFilter,
    Exact,
    IdFilter,
    Instant,
    Month,
    month_start,
)
from app.db.figures import ratios
from app.db.figures.as_of import check_published
from app.domain.calendar import next_month
from app.errors import Invalid

router = APIRouter(prefix="/api/v1", tags=["ratios"])
Status = Literal["at_benchmark", "between", "below_baseline", "unknown"]
VariantFilter = Annotated[
    str | None, Query(max_length=100, description="product by process", examples=["ndrc723-15-cement-clinker"])
]
DomainFilter = Annotated[
    int | None, Query(ge=1, le=999, description="domain of the 2023 catalogue (发改产业〔2023〕723号)", examples=[15])
]
LIMIT_ROWS = 5000


class Correction(Answer):
    """What a condition of the line added to a level."""

    input_key: str = Field(examples=["ore_grade"])
    level: str = Field(description="1, 2, 3, benchmark or baseline", examples=["3"])
    value: Exact = Field(description="the condition's value", examples=["60"])
    points: Exact = Field(
        description="by how much the value is off its base, as far as the standard counts it", examples=["2"]
    )
    added: Exact = Field(description="in the unit of the indicator", examples=["7.22"])


class Ratio(Answer):
    """One line in one month against the level in force, with what the figure rests on."""

    enterprise_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001X"])
    enterprise_name_zh: str = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str = Field(examples=["Example Cement Co., Ltd."])
    district_code: str = Field(examples=["120119"])
    district_name_zh: str | None = Field(None, examples=["蓟州区"])
    district_name_en: str | None = Field(None, examples=["Jizhou District"])
    line_id: int = Field(examples=[7])
    line_code: str = Field(examples=["kiln-1"])
    line_name_zh: str = Field(examples=["1 号窑"])
    line_name_en: str = Field(examples=["Kiln 1"])
    variant_key: str = Field(examples=["ndrc723-15-cement-clinker"])
    domain_no: int | None = Field(examples=[15])
    domain_zh: str = Field(examples=["水泥制造"])
    domain_en: str = Field(examples=["Cement manufacturing"])
    product_zh: str = Field(examples=["水泥熟料"])
    product_en: str = Field(examples=["Cement clinker"])
    indicator_zh: str = Field(examples=["单位产品综合能耗"])
    direction: str = Field(examples=["lower_is_better"])
    judged_on: str = Field(
        description="month or year; a month of a yearly indicator is for operation only", examples=["month"]
    )
    period: date | None = Field(description="first day of the month; null: not computed yet", examples=["2026-10-01"])
    unit: str = Field(description="unit of actual, benchmark and baseline", examples=["kgce/t"])
    actual: Exact | None = Field(description="full value, not rounded; null with a reason", examples=["118.4632"])
    energy: Exact | None = Field(
        description="numerator: energy of the line, kgce or the indicator's physical unit", examples=["11668625.2"]
    )
    output: Exact | None = Field(
        description="denominator: reported output in the variant's output unit", examples=["98500"]
    )
    benchmark: Exact | None = Field(description="标杆水平", examples=["100"])
    baseline: Exact | None = Field(description="基准水平", examples=["117"])
    status: Status = Field(description="by comparison of full values; equality reaches the level")
    ratio: Exact | None = Field(
        description="actual/benchmark, or benchmark/actual when both are negative (GB/T 28924); else null",
        examples=["1.184632"],
    )
    position: Exact | None = Field(
        description="(baseline - actual)/(baseline - benchmark): 1 at the benchmark, 0 at the baseline",
        examples=["-0.0861"],
    )
    reason: str | None = Field(
        description="why there is no value or why it is provisional: no_output, not_computed, month_open, …",
        examples=["no_output"],
    )
    is_provisional: bool = Field(description="open month, completeness under 90 % or output missing: not ranked")
    windows_expected: int | None = Field(examples=[2976])
    windows_received: int | None = Field(examples=[2971])
    windows_estimated: int | None = Field(examples=[5])
    measured_share: Exact | None = Field(description="received / expected windows", examples=["0.9983"])
    estimated_share: Exact | None = Field(description="estimated / expected windows", examples=["0.0017"])
    missing_share: Exact | None = Field(description="neither measured nor estimated, of expected", examples=["0.0000"])
    factor_set: str | None = Field(
        description="conversions to standard coal that were used", examples=["GB/T 2589-2020"]
    )
    has_recalled_factor: bool = Field(description="a factor's source was not read in a public copy")
    computed_at: Instant | None
    level_edition: str | None = Field(examples=["2023"])
    level_source: str | None = Field(examples=["发改产业〔2023〕723号"])
    level_confidence: str | None = Field(
        description="confirmed, or recalled: shown, but opens no violation", examples=["confirmed"]
    )
    level_valid_from: date | None = Field(examples=["2023-07-04"])
    level_referenced_standard: str | None = Field(examples=["GB 16780"])
    quota_grade: Literal["1", "2", "3", "none"] | None = Field(
        description="level of the GB quota standard (限额) that is reached: 1 advanced, 2 new, 3 existing plants; none:"
        " over the limit; null: no limit or no value",
        examples=["3"],
    )
    quota_level_1: Exact | None = Field(description="as corrected by `corrections`", examples=["100"])
    quota_level_2: Exact | None = Field(description="as corrected by `corrections`", examples=["107"])
    quota_level_3: Exact | None = Field(description="as corrected by `corrections`", examples=["117"])
    quota_standard: str | None = Field(examples=["GB 16780-2021"])
    quota_edition: str | None = Field(examples=["GB 16780-2021"])
    quota_confidence: str | None = Field(examples=["confirmed"])
    corrections: list[Correction] = Field(description="what levels were corrected by, for the line's conditions")
    output_source: str | None = Field(description="reported, metered on the wire, or both", examples=["reported"])


class RatioList(Answer):
    """Ratio rows; narrow the question when `is_cut` is true."""

    items: list[Ratio]
    is_cut: bool = Field(description="there are more rows than fit into one answer")


CSV_COLUMNS = [name for name in Ratio.model_fields if name != "corrections"]


@router.get("/ratios", response_model=RatioList, responses=DOCUMENTED, summary="Ratios by line and month 能效比值")
def list_ratios(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    enterprise_id: IdFilter = None,
    line_id: IdFilter = None,
    district: DistrictFilter = None,
    variant: VariantFilter = None,
    domain: DomainFilter = None,
    status: Status | None = None,
    grain: Annotated[Literal["month", "quarter", "year"], Query(description="calendar period")] = "month",
    from_month: Month = None,
    to_month: Annotated[
        str | None, Query(pattern=MONTH_PATTERN, description="last month, included", examples=["2026-10"])
    ] = None,
    as_of: AsOf = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_ROWS, description="rows in the answer; see is_cut")] = 1000,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Newest first; quarters and years by the month in which they begin. Every row names the level it was judged by
    (edition, source, confidence) and how much of it was measured. With `as_of`, `to_month` is needed: the figures of
    published months as they were known then. Other periods, as_of too: /ratios/period. The district is that of the
    period's last day.
    """
    last = month_start(to_month)
    if as_of is not None:
        if last is None:
            raise Invalid(
                "as_of needs to_month: say up to which published month",
                detail_zh="使用 as_of 须指定 to_month",
                errors=[{"location": ["query", "to_month"], "message": "missing beside as_of"}],
            )
        check_published(grain, last, as_of)
    rows = ratios.list_ratios(
        connection,
        caller.scope,
        limit=limit + 1,
        grain=grain,
        start=month_start(from_month),
        end=next_month(last) if last else None,
        enterprise_id=enterprise_id,
        line_id=line_id,
        district_code=district,
        variant_key=variant,
        domain_no=domain,
        status=status,
        as_of=as_of,
    )
    is_cut = len(rows) > limit
    if format == "csv":
        return rows_csv("ratios", CSV_COLUMNS, rows[:limit], is_for_excel=excel)
    return {"items": rows[:limit], "is_cut": is_cut}
