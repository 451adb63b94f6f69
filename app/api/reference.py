"""Official figures: levels, conversions to standard coal, CO2 factors and carriers, each with its source."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.ratios import DomainFilter
from app.api.shapes import Answer, Exact
from app.db.figures import reference

router = APIRouter(prefix="/api/v1/reference", tags=["reference"])


class Citation(Answer):
    """Where a figure comes from."""

    source: str = Field(examples=["发改产业〔2023〕723号"])
    edition: str | None = Field(examples=["2023"])
    confidence: str = Field(description="confirmed: a public copy was read; recalled: it was not")
    valid_from: date | None = Field(description="null where the source states no date", examples=["2023-07-04"])
    valid_to: date | None
    note: str


class Level(Citation):
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
    deadline_on: date | None = Field(description="until when lines below the baseline are to be changed or closed")


class Carrier(Citation):
    """An energy carrier or medium, with the keys of its factors."""

    carrier_key: str = Field(examples=["electricity"])
    name_zh: str = Field(examples=["电力"])
    name_en: str = Field(examples=["Electricity"])
    unit: str = Field(description="canonical unit", examples=["kWh"])
    kind: str = Field(description="primary, secondary or medium", examples=["secondary"])
    equivalent_factor_key: str
    equal_factor_key: str | None
    emission_type: str | None
    emission_key: str | None


class StandardCoalFactor(Citation):
    """A conversion to standard coal."""

    factor_key: str = Field(examples=["electricity_equivalent"])
    factor_set: str = Field(examples=["GB/T 2589-2020"])
    name_zh: str
    name_en: str
    unit: str = Field(examples=["kWh"])
    kgce_per_unit: Exact | None = Field(examples=["0.1229"])
    kgce_min: Exact | None
    kgce_max: Exact | None
    lhv: Exact | None = Field(description="lower heating value, in lhv_unit")
    lhv_unit: str | None
    basis: str


class EmissionFactor(Citation):
    """A CO2 factor: of a fuel by its carbon, of electricity and heat by unit."""

    factor_type: str = Field(examples=["grid"])
    factor_key: str
    factor_set: str
    year: int | None = Field(examples=[2023])
    name_zh: str
    name_en: str
    lhv: Exact | None
    lhv_unit: str | None
    carbon_content_tc_per_gj: Exact | None
    oxidation_rate_pct: Exact | None
    factor_value: Exact | None = Field(examples=["0.6796"])
    factor_unit: str = Field(examples=["kgCO2/kWh"])


@router.get("/levels", response_model=list[Level], summary="Benchmark and baseline levels 标杆与基准水平")
def list_levels(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    domain: DomainFilter = None,
    on: Annotated[date | None, Query(description="in force on this day", examples=["2026-10-01"])] = None,
) -> list[dict[str, Any]]:
    """Every edition that is loaded, or the one in force on a day."""
    return reference.levels(connection, domain_no=domain, on=on)


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
