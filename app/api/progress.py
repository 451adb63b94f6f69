"""Regions against the plan: intensity and its warning level, coal and non-fossil share, energy saved."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.shapes import Answer, DistrictFilter, Exact, IdFilter, Names
from app.db.access import OF_REGIONS
from app.db.figures import savings, structure, targets
from app.domain.calendar import business_day
from app.errors import Invalid
from app.intake.entered import TargetKey

router = APIRouter(prefix="/api/v1", tags=["targets"])
Year = Annotated[int | None, Query(ge=2000, le=2100, description="default: last year", examples=[2025])]
BaseYear = Annotated[int, Query(ge=2000, le=2100, examples=[2020])]
Conversion = Annotated[
    Literal["equal", "equivalent"],
    Query(description="standard coal of measured energy: equal 等价值, as regions are counted, or equivalent 当量值"),
]


class Source(Answer):
    """Where an entered figure comes from."""

    kind: str = Field(examples=["gdp"])
    source: str = Field(examples=["统计公报 2025"])
    revision: int = Field(examples=[1])


class YearSource(Source):
    """Where an entered figure of one of two years comes from."""

    year: int = Field(examples=[2025])


class Aim(Answer):
    """What a region is to reach."""

    target_key: str = Field(examples=["city_energy_intensity"])
    reduction_pct: Exact = Field(description="by which intensity is to fall over the plan, per cent", examples=["14.5"])
    base_year: int = Field(examples=[2020])
    target_year: int = Field(examples=[2025])
    source: str = Field(examples=["天津市“十四五”节能减排工作实施方案"])
    confidence: str = Field(examples=["confirmed"])
    revision: int | None = Field(description="null: the plan's own figure", examples=[1])


class RegionYear(Answer):
    """A region's year: counted energy (without feedstock and newly added renewables) over product."""

    year: int = Field(examples=[2025])
    basis: str = Field(description="entered statistics, or measured at the monitored units", examples=["entered"])
    conversion: str | None = Field(description="of measured energy", examples=["equal"])
    energy_tce: Exact | None = Field(description="tce, before what is deducted", examples=["500"])
    feedstock_tce: Exact | None = Field(description="原料用能; null: not known", examples=["40"])
    new_renewables_tce: Exact | None = Field(description="新增可再生能源; null: not known", examples=["10"])
    counted_tce: Exact | None = Field(
        description="energy less feedstock and newly added renewables, tce", examples=["450"]
    )
    product_10k_yuan: Exact | None = Field(description="GDP or value added, 10^4 yuan", examples=["1000"])
    price_base_year: int | None = Field(examples=[2020])
    intensity: Exact | None = Field(description="tce per 10^4 yuan", examples=["0.45"])
    enterprises: int | None = Field(description="monitored units behind a measured figure", examples=[None])
    months: int | None = Field(examples=[None])
    measured_share: Exact | None = Field(description="received / expected windows", examples=[None])
    factor_sets: list[str] = Field(description="conversions of measured energy", examples=[["GB/T 2589-2020"]])
    sources: list[Source]


class ProgressBy(Answer):
    """Progress by one method."""

    method: str = Field(description="logarithmic: ln(1-R)/ln(1-T); linear: R/T", examples=["logarithmic"])
    done_pct: Exact = Field(description="of the plan target, per cent", examples=["53.226671547215"])
    time_pct: Exact = Field(description="years passed / years of the plan, per cent", examples=["60"])
    of_schedule_pct: Exact | None = Field(description="done / time, per cent", examples=["88.711119245359"])


class RuleSetCitation(Answer):
    """The rule set that gave the warning level."""

    key: str = Field(examples=["2021H1"])
    title_zh: str = Field(examples=["2021年上半年能耗双控目标完成情况晴雨表"])
    title_en: str = Field(examples=["Barometer of dual control of energy use, first half of 2021"])
    source: str = Field(examples=["发改办环资〔2021〕629号"])
    edition: str | None = Field(examples=["2021 H1"])
    confidence: str = Field(examples=["confirmed"])
    valid_from: date | None = Field(examples=["2021-06-30"])
    valid_to: date | None = Field(examples=[None])
    note: str = Field(examples=[""])


class RegionProgress(Names):
    """A region in a year of its plan."""

    target: Aim | None = Field(description="null: no target was entered for this region")
    year: int = Field(examples=[2023])
    base: RegionYear
    now: RegionYear
    reduction_pct: Exact | None = Field(description="(1 - now / base) x 100, cumulative", examples=["8"])
    reason: str | None = Field(
        description="why there is no figure: no_energy, no_factor, incomplete_year, no_gdp, mixed_prices, mixed_basis,"
        " missing_deduction (known of one year only), no_target, outside_plan",
        examples=[None],
    )
    yearly_rate_pct: Exact | None = Field(description="1-(1-T)^(1/n)", examples=["3.084503958611"])
    required_pct: Exact | None = Field(description="1-(1-T)^(k/n) after k of n years", examples=["8.971021583571"])
    gap_pct: Exact | None = Field(description="(required - actual) / required", examples=["10.823980017492"])
    warning_level: int | None = Field(description="1 is the gravest, 3 on track", examples=[2])
    progress: list[ProgressBy]
    rule_set: RuleSetCitation | None


class PlanTarget(Answer):
    """A target of the plan for the whole city."""

    target_key: str = Field(examples=["coal_consumption"])
    name_zh: str = Field(examples=["煤炭消费量下降"])
    name_en: str = Field(examples=["reduction of coal consumption"])
    value: Exact = Field(description="in `unit`", examples=["10"])
    unit: str = Field(examples=["%"])
    base_year: int | None = Field(examples=[2020])
    target_year: int | None = Field(examples=[2025])
    source: str = Field(examples=["天津市“十四五”节能减排工作实施方案"])
    confidence: str = Field(examples=["confirmed"])


class Structure(Names):
    """A region's coal and non-fossil share in two years."""

    base_year: int = Field(examples=[2020])
    year: int = Field(examples=[2025])
    coal_basis: str = Field(description="entered statistics, or the carriers as metered", examples=["measured"])
    coal_base_t: Exact | None = Field(description="coal as used in the base year, t", examples=["100000"])
    coal_t: Exact | None = Field(description="coal as used, in tonnes; coke is not counted again", examples=["90000"])
    coal_reduction_pct: Exact | None = Field(description="(1 - coal / coal of the base year) × 100", examples=["10"])
    non_fossil_basis: str | None = Field(
        description="metered carriers leave out the non-fossil part of grid electricity: enter it", examples=["entered"]
    )
    conversion: str | None = Field(examples=["equal"])
    non_fossil_base_share_pct: Exact | None = Field(description="of the base year, per cent", examples=["5.1"])
    non_fossil_share_pct: Exact | None = Field(
        description="non-fossil energy over all energy, per cent", examples=["9.3"]
    )
    non_fossil_rise_points: Exact | None = Field(description="percentage points", examples=["4.2"])
    reason: str | None = Field(
        description="incomplete_year: a measured year lacks months or a tenth of its windows and is not compared",
        examples=[None],
    )
    targets: list[PlanTarget] = Field(description="of the city; the text has none for districts")
    sources: list[YearSource]


class SavedLine(Answer):
    """One line's part."""

    line_id: int = Field(examples=[7])
    line_code: str = Field(examples=["kiln-1"])
    variant_key: str = Field(examples=["ndrc723-15-cement-clinker"])
    unit: str = Field(examples=["kgce/t"])
    base_actual: Exact | None = Field(description="figure of the base year, in `unit`", examples=["102"])
    actual: Exact | None = Field(description="figure of the year, in `unit`", examples=["98.5"])
    output: Exact | None = Field(description="of the year, in the variant's output unit", examples=["985000"])
    saved_tce: Exact | None = Field(
        description="(base_actual - actual) × output, tce; using more is negative", examples=["3447.5"]
    )
    left_out_because: str | None = Field(description="no_base_year, provisional, not_in_standard_coal", examples=[None])


class Saved(Answer):
    """What an enterprise saved in a year against a base year."""

    enterprise_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    enterprise_name_zh: str = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str = Field(examples=["Example Cement Co., Ltd."])
    district_code: str = Field(examples=["120119"])
    base_year: int = Field(examples=[2024])
    year: int = Field(examples=[2025])
    method: str = Field(description="product: GB/T 13234 (recalled); saving is positive", examples=["product"])
    saved_tce: Exact | None = Field(
        description="sum of the lines, tce; null: no line could be compared", examples=["3447.5"]
    )
    lines: list[SavedLine]


@router.get(
    "/targets/progress", response_model=list[RegionProgress], responses=DOCUMENTED, summary="Progress 目标进度与预警"
)
def get_progress(
    *,
    caller: Annotated[Caller, Depends(allow(*OF_REGIONS))],
    connection: Transaction,
    now: Now,
    year: Year = None,
    target: TargetKey = "city_energy_intensity",
    conversion: Conversion = "equal",
    rule_set: Annotated[
        str | None, Query(max_length=40, description="default: the one in force at the year's end", examples=["2021H1"])
    ] = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Energy over product at constant prices in the base year and in this one, both on one basis and both without
    feedstock and newly added renewables; how far it fell, what the plan required by now, the warning level.
    """
    rows = targets.progress(
        connection,
        caller.scope,
        target_key=target,
        year=year or business_day(now).year - 1,
        conversion=conversion,
        rule_set_key=rule_set,
    )
    if format == "csv":
        return rows_csv("targets-progress", PROGRESS_COLUMNS, map(_flat, rows), is_for_excel=excel)
    return rows


PROGRESS_COLUMNS = [
    *("code", "name_zh", "name_en", "year", "base_year", "target_year", "target_pct", "basis", "base_intensity"),
    *("intensity", "reduction_pct", "required_pct", "gap_pct", "warning_level", "rule_set", "reason"),
    *("done_pct_logarithmic", "done_pct_linear"),
]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """One line of the table: what stands deeper in the answer, by a name of its own."""
    target, rules = row["target"] or {}, row["rule_set"] or {}
    return {
        **row,
        "base_year": row["base"]["year"],
        "target_year": target.get("target_year"),
        "target_pct": target.get("reduction_pct"),
        "basis": row["now"]["basis"],
        "base_intensity": row["base"]["intensity"],
        "intensity": row["now"]["intensity"],
        "rule_set": rules.get("key"),
        **{f"done_pct_{one['method']}": one["done_pct"] for one in row["progress"]},
    }


@router.get("/structure", response_model=list[Structure], responses=DOCUMENTED, summary="Coal, non-fossil 能源结构")
def get_structure(
    *,
    caller: Annotated[Caller, Depends(allow(*OF_REGIONS))],
    connection: Transaction,
    now: Now,
    base_year: BaseYear = 2020,
    year: Year = None,
    conversion: Conversion = "equal",
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """How far coal fell and how far the non-fossil share rose, beside the plan's targets for the city."""
    rows = structure.structure(
        connection, caller.scope, base_year=base_year, year=year or business_day(now).year - 1, conversion=conversion
    )
    if format == "csv":
        columns = [name for name in Structure.model_fields if name not in ("targets", "sources")]
        return rows_csv("structure", columns, rows, is_for_excel=excel)
    return rows


@router.get("/energy-saved", response_model=list[Saved], responses=DOCUMENTED, summary="Energy saved 节能量")
def get_energy_saved(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    base_year: BaseYear,
    year: Year = None,
    district: DistrictFilter = None,
    enterprise_id: IdFilter = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """By the product method over the lines' yearly figures: (base unit energy - present unit energy) x output now."""
    asked = year or business_day(now).year - 1
    if asked <= base_year:
        raise Invalid(f"year {asked} is not after base_year {base_year}", detail_zh=f"{asked} 不晚于基年 {base_year}")
    rows = savings.saved(
        connection,
        caller.scope,
        base_year=base_year,
        year=asked,
        district_code=district,
        enterprise_id=enterprise_id,
    )
    if format == "csv":
        of_enterprise = [name for name in Saved.model_fields if name not in ("saved_tce", "lines")]
        flat = [{**row, **line} for row in rows for line in row["lines"]]
        return rows_csv(f"energy-saved-{asked}", [*of_enterprise, *SavedLine.model_fields], flat, is_for_excel=excel)
    return rows
