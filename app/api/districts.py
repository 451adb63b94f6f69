"""Totals of the city and of its districts."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Exact, Names
from app.db.figures import totals
from app.domain.calendar import business_day

router = APIRouter(prefix="/api/v1", tags=["districts"])


class EnergyTotal(Answer):
    """Energy of a stretch as standard coal: in + feedstock - out - recovered; and its CO2."""

    equivalent_tce: Exact | None = Field(
        description="当量值; electricity at 0.1229 kgce/kWh; null while a carrier has no factor", examples=["1968.2146"]
    )
    equal_tce: Exact | None = Field(
        description="等价值; null while a carrier has no factor of the year", examples=["2893.4711"]
    )
    feedstock_equivalent_tce: Exact | None = Field(
        description="part of equivalent_tce used as raw material 原料用能", examples=["0"]
    )
    co2_t: Exact | None = Field(description="tonnes of CO2 of the carriers that have a factor", examples=["7255.5851"])


class LinesByStatus(Answer):
    """How many production lines have each status in their latest month that counts."""

    at_benchmark: int = Field(description="达到标杆水平", examples=[3])
    between: int = Field(description="标杆与基准之间", examples=[11])
    below_baseline: int = Field(description="低于基准水平", examples=[1])
    unknown: int = Field(description="无法判定: no level, no output or no figure yet", examples=[2])


class Totals(Answer):
    """What stands at the top of every overview."""

    enterprises: int = Field(examples=[24])
    alerts_open: int = Field(description="alerts that are open or acknowledged", examples=[2])
    energy_this_month: EnergyTotal
    energy_last_month: EnergyTotal
    lines_by_status: LinesByStatus


class Summary(Totals):
    """Totals of everything the caller may see."""

    gateways: int = Field(description="enabled gateways", examples=[25])
    gateways_online: int = Field(examples=[24])
    windows_received_today: int = Field(
        description="metering windows of today that have been received", examples=[4032]
    )


class District(Names, Totals):
    """One district with its totals."""

    group_name: str | None = Field(description="core, suburban or outer", examples=["core"])


@router.get("/summary", response_model=Summary, summary="Totals of everything in scope 总览")
def get_summary(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction, now: Now
) -> dict[str, Any]:
    """Counts, energy and CO2 of this and the last month, open alerts, lines by status."""
    return totals.summary(connection, caller.scope, business_day(now))


@router.get("/districts", response_model=list[District], summary="Districts with totals 各区")
def get_districts(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction, now: Now
) -> list[dict[str, Any]]:
    """A month's energy belongs to the district in which the enterprise is on the month's last day."""
    return totals.districts(connection, caller.scope, business_day(now))
