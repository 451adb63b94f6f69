"""Energy as standard coal, and CO2, of an enterprise, a district or everything in scope."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.ranges import AsOf, asked_range, check_as_of
from app.api.shapes import Answer, DistrictFilter, Exact, IdFilter
from app.api.usage import written
from app.db.figures import energy, enterprises
from app.db.scope import Scope
from app.domain.grid import Grid
from app.errors import NotFound

router = APIRouter(prefix="/api/v1/energy", tags=["energy"])


class EnergyValues(Answer):
    """Standard coal and CO2; null while a part of it has no factor."""

    equivalent_kgce: Exact | None = Field(description="当量值, kgce", examples=["1968214.6"])
    equal_kgce: Exact | None = Field(description="等价值, kgce; null while a carrier has no factor of the year")
    co2_kg: Exact | None = Field(examples=["7255585.1"])


class Windows(Answer):
    """How much of a figure was measured, in metering windows."""

    windows_expected: int | None = Field(examples=[2976])
    windows_received: int | None = Field(examples=[2971])
    windows_estimated: int | None = Field(examples=[5])


class Factors(Answer):
    """What a figure was converted by."""

    factor_sets: list[str] | None = Field(examples=[["GB/T 2589-2020"]])
    emission_sets: list[str] | None = Field(examples=[["MEE enterprise guideline 2022"]])
    has_recalled_factor: bool = Field(description="a factor's source was not read in a public copy")
    is_co2_provisional: bool = Field(description="the factor of the year is not published yet: the latest one is used")


class EnergyStep(EnergyValues, Windows):
    """Signed energy of one step: in + feedstock - out - recovered; null where there is no row."""

    start: str = Field(examples=["2026-10-01"])
    feedstock_equivalent_kgce: Exact | None = Field(description="part of equivalent_kgce used as raw material")


class EnergyOfCarrier(EnergyValues, Windows, Factors):
    """One carrier in one flow over the range, unsigned."""

    carrier_key: str = Field(examples=["electricity"])
    name_zh: str = Field(examples=["电力"])
    name_en: str = Field(examples=["Electricity"])
    flow: str = Field(description="in, out, recovered or feedstock", examples=["in"])
    quantity: Exact = Field(examples=["5200000"])
    unit: str = Field(examples=["kWh"])


class EnergyTotal(EnergyValues, Windows, Factors):
    """Signed energy over the range: in + feedstock - out - recovered."""

    feedstock_equivalent_kgce: Exact | None = Field(description="part of equivalent_kgce used as raw material")
    carriers_without_equivalent_factor: list[str]
    carriers_without_equal_factor: list[str]
    carriers_without_co2_factor: list[str] = Field(
        description="left out of co2_kg: no emissions of their own, or no factor loaded", examples=[["fresh_water"]]
    )


class Energy(Answer):
    """Energy of a subject on a grid."""

    subject: Literal["enterprise", "district", "scope"] = Field(description="whose energy: `scope` is all you may see")
    grain: Literal["hour", "day", "month"]
    start: str = Field(examples=["2026-10-01"])
    end: str = Field(description="excluded", examples=["2026-11-01"])
    total: EnergyTotal
    by_carrier: list[EnergyOfCarrier]
    steps: list[EnergyStep]


@router.get("", response_model=Energy, summary="Energy, standard coal and CO2 能耗")
def get_energy(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    asked: Annotated[Grid, Depends(asked_range)],
    enterprise_id: IdFilter = None,
    district: DistrictFilter = None,
    carrier: Annotated[str | None, Query(max_length=60, examples=["electricity"])] = None,
    flow: Annotated[Literal["in", "out", "recovered", "feedstock"] | None, Query()] = None,
    as_of: AsOf = None,
) -> dict[str, Any]:
    """Of an enterprise, of a district (its enterprises at the time), else of everything in scope. `by_carrier` splits
    the range by carrier and flow; filters give one of them as a series.
    """
    check_subject(connection, caller.scope, enterprise_id, district)
    check_as_of(asked, as_of)
    question = energy.Question(asked.grain, asked.start, asked.end, enterprise_id, district, carrier, flow, as_of)
    return {
        "subject": "enterprise" if enterprise_id else "district" if district else "scope",
        "grain": asked.grain,
        "start": written(asked.start),
        "end": written(asked.end),
        "total": energy.total(connection, caller.scope, question),
        "by_carrier": energy.by_carrier(connection, caller.scope, question),
        "steps": _full_grid(asked, energy.steps(connection, caller.scope, question)),
    }


def check_subject(connection: Transaction, scope: Scope, enterprise_id: int | None, district: str | None) -> None:
    if enterprise_id is not None:
        enterprises.enterprise(connection, scope, enterprise_id)
    if district is not None and scope.district_code not in (None, district):
        raise NotFound(f"district {district} is outside your scope", detail_zh=f"区 {district} 不在您的范围内")


def _full_grid(asked: Grid, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known: dict[date | datetime, dict[str, Any]] = {row["start"]: row for row in rows}
    empty = dict.fromkeys(name for name in EnergyStep.model_fields if name != "start")
    return [{**known.get(start, empty), "start": written(start)} for start in asked.starts()]
