"""Official figures: levels, conversions to standard coal, CO2 factors and carriers, each with its source."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, Field

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.ratios import DomainFilter
from app.api.shapes import Answer, Exact, Instant
from app.db.figures import reference

router = APIRouter(prefix="/api/v1/reference", tags=["reference"])


class Citation(Answer):
    """Where a figure comes from."""

    source: str = Field(examples=["发改产业〔2023〕723号"])
    edition: str | None = Field(examples=["2023"])
    confidence: str = Field(
        description="confirmed: a public copy was read; recalled: it was not", examples=["confirmed"]
    )
    valid_from: date | None = Field(description="null where the source states no date", examples=["2023-07-04"])
    valid_to: date | None = Field(examples=["2027-01-01"])
    note: str = Field(examples=[""])


class Recorded(Citation):
    """A row of an edition: nothing is overwritten, a row that is put right supersedes its first version."""

    recorded_at: Instant
    recorded_by: str = Field(examples=["reference"])
    superseded_at: Instant | None = Field(description="with as_of only: when it was put right later")


class Level(Recorded):
    """Benchmark and baseline of a product by a process."""

    variant_key: str = Field(examples=["ndrc723-15-cement-clinker"])
    domain_no: int | None = Field(examples=[15])
    domain_zh: str = Field(examples=["水泥制造"])
    domain_en: str = Field(examples=["Cement manufacturing"])
    product_zh: str = Field(examples=["水泥熟料"])
    product_en: str = Field(examples=["Cement clinker"])
    indicator_zh: str = Field(examples=["单位产品综合能耗"])
    unit: str = Field(examples=["kgce/t"])
    direction: str = Field(examples=["lower_is_better"])
    judged_on: str = Field(examples=["month"])
    benchmark: Exact | None = Field(description="标杆水平", examples=["100"])
    baseline: Exact | None = Field(description="基准水平", examples=["117"])
    referenced_standard: str = Field(examples=["GB 16780"])
    deadline_on: date | None = Field(
        description="until when lines below the baseline are to be changed or closed", examples=["2025-12-31"]
    )


class QuotaLimit(Recorded):
    """The three levels of a mandatory quota standard for one product."""

    variant_key: str | None = Field(description="product of the catalogue that it grades", examples=[None])
    standard: str = Field(examples=["GB 16780-2021"])
    industry_code: str | None = Field(examples=["3011"])
    domain_zh: str = Field(examples=["水泥"])
    domain_en: str = Field(examples=["cement"])
    product_zh: str = Field(examples=["水泥熟料"])
    product_en: str = Field(examples=["clinker"])
    indicator_zh: str = Field(examples=["单位产品综合能耗"])
    unit: str = Field(examples=["kgce/t"])
    direction: str = Field(examples=["lower_is_better"])
    level_1: Exact | None = Field(description="advanced 先进值", examples=["100"])
    level_2: Exact | None = Field(description="access for new plants 准入值", examples=["107"])
    level_3: Exact | None = Field(description="limit for existing plants 限定值", examples=["117"])


class LevelCorrection(Recorded):
    """What a standard adds to a level for each point of a condition of the line."""

    variant_key: str = Field(examples=["ndrc723-19-blast-furnace-process"])
    product_zh: str = Field(examples=["高炉工序"])
    product_en: str = Field(examples=["blast furnace process"])
    unit: str = Field(examples=["kgce/t"])
    input_key: str = Field(description="as in /correction-inputs", examples=["ore_grade"])
    input_zh: str = Field(examples=["入炉矿品位"])
    input_en: str = Field(examples=["iron grade of the burden"])
    input_unit: str = Field(examples=["%"])
    level: str = Field(description="1, 2, 3, benchmark or baseline", examples=["3"])
    side: str = Field(description="above, below or both: where points count", examples=["below"])
    base: Exact | None = Field(description="null: the input is the number of points itself", examples=["62"])
    per_point: Exact = Field(description="added to the level for each point, in `unit`", examples=["3.61"])
    most_points: Exact | None = Field(description="no more points than these count; null: no limit", examples=["5"])


class Carrier(Citation):
    """An energy carrier or medium, with the keys of its factors."""

    carrier_key: str = Field(examples=["electricity"])
    name_zh: str = Field(examples=["电力"])
    name_en: str = Field(examples=["Electricity"])
    unit: str = Field(description="canonical unit", examples=["kWh"])
    kind: str = Field(description="primary, secondary or medium", examples=["secondary"])
    equivalent_factor_key: str = Field(examples=["electricity_equivalent"])
    equal_factor_key: str | None = Field(examples=["electricity_equal"])
    emission_type: str | None = Field(examples=["grid_electricity"])
    emission_key: str | None = Field(examples=["CN-120000"])


class StandardCoalFactor(Citation):
    """A conversion to standard coal."""

    factor_key: str = Field(examples=["electricity_equivalent"])
    factor_set: str = Field(examples=["GB/T 2589-2020"])
    name_zh: str = Field(examples=["电力（当量值）"])
    name_en: str = Field(examples=["electricity, equivalent value"])
    unit: str = Field(examples=["kWh"])
    kgce_per_unit: Exact | None = Field(description="kgce in one `unit`", examples=["0.1229"])
    kgce_min: Exact | None = Field(description="lower end where the source gives a range, kgce", examples=[None])
    kgce_max: Exact | None = Field(description="upper end where the source gives a range, kgce", examples=[None])
    lhv: Exact | None = Field(description="lower heating value, in lhv_unit", examples=["3600"])
    lhv_unit: str | None = Field(examples=["kJ/kWh"])
    basis: str = Field(examples=["equivalent value 当量值"])


class EmissionFactor(Citation):
    """A CO2 factor: of a fuel by its carbon, of electricity and heat by unit."""

    factor_type: str = Field(examples=["fuel_combustion"])
    factor_key: str = Field(description="fuel, or the region of a grid", examples=["bituminous"])
    factor_set: str = Field(examples=["guideline_default"])
    year: int | None = Field(description="data year; null for a fuel", examples=[None])
    name_zh: str = Field(examples=["烟煤"])
    name_en: str = Field(examples=["bituminous coal"])
    lhv: Exact | None = Field(description="lower heating value, in `lhv_unit`", examples=["23.204"])
    lhv_unit: str | None = Field(examples=["GJ/t"])
    carbon_content_tc_per_gj: Exact | None = Field(description="tC/GJ", examples=["0.02618"])
    oxidation_rate_pct: Exact | None = Field(description="per cent", examples=["93"])
    factor_value: Exact | None = Field(description="in `factor_unit`", examples=["2.0715"])
    factor_unit: str = Field(examples=["tCO2/t (= kgCO2/kg)"])


OnDay = Annotated[date | None, Query(description="in force on this day", examples=["2026-10-01"])]
KnownAt = Annotated[
    AwareDatetime | None,
    Query(description="as it was known at this instant", examples=["2026-11-10T00:00:00+08:00"]),
]


@router.get("/levels", response_model=list[Level], summary="Benchmark and baseline levels 标杆与基准水平")
def list_levels(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    domain: DomainFilter = None,
    on: OnDay = None,
    as_of: KnownAt = None,
) -> list[dict[str, Any]]:
    """Every edition that is loaded, or the one in force on a day. Old periods keep the edition of their first day."""
    return reference.levels(connection, domain_no=domain, on=on, as_of=as_of)


@router.get("/quota-limits", response_model=list[QuotaLimit], summary="Limits of the GB quota standards 能耗限额")
def list_quota_limits(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    on: OnDay = None,
    as_of: KnownAt = None,
) -> list[dict[str, Any]]:
    """Levels 1 to 3; in most products benchmark and baseline equal two of them, but not in all."""
    return reference.quota_limits(connection, on=on, as_of=as_of)


@router.get("/level-corrections", response_model=list[LevelCorrection], summary="Corrections of levels 限额修正")
def list_level_corrections(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    on: OnDay = None,
    as_of: KnownAt = None,
) -> list[dict[str, Any]]:
    """By product and condition; a line's conditions are reported to /correction-inputs."""
    return reference.level_corrections(connection, on=on, as_of=as_of)


@router.get("/carriers", response_model=list[Carrier], summary="Energy carriers 能源品种")
def list_carriers(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction
) -> list[dict[str, Any]]:
    """Carriers with their canonical unit."""
    return reference.carriers(connection)


@router.get("/standard-coal-factors", response_model=list[StandardCoalFactor], summary="Conversions to kgce 折标系数")
def list_standard_coal_factors(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction
) -> list[dict[str, Any]]:
    """By factor set: figures of different editions are never mixed silently."""
    return reference.standard_coal_factors(connection)


@router.get("/emission-factors", response_model=list[EmissionFactor], summary="CO2 factors 排放因子")
def list_emission_factors(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction
) -> list[dict[str, Any]]:
    """By type, key and year."""
    return reference.emission_factors(connection)
