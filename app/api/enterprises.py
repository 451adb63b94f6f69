"""Enterprises: the list, and one of them with its units, lines, gateways and points."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.districts import EnergyTotal
from app.api.ratios import Ratio
from app.api.shapes import Answer, Cursor, DistrictFilter, Exact, Id, Instant, Limit, decode_cursor, next_cursor
from app.db.figures import enterprises, ratios, totals
from app.db.scope import Scope
from app.domain.calendar import business_day

router = APIRouter(prefix="/api/v1/enterprises", tags=["enterprises"])
Status = Literal["at_benchmark", "between", "below_baseline", "unknown"]


class Enterprise(Answer):
    """An enterprise in its present district and industry."""

    id: int = Field(examples=[7])
    uscc: str = Field(description="统一社会信用代码, GB 32100-2015", examples=["91120000MA0000001X"])
    name_zh: str = Field(examples=["示例水泥有限公司"])
    name_en: str = Field(examples=["Example Cement Co., Ltd."])
    district_code: str = Field(examples=["120119"])
    district_name_zh: str = Field(examples=["蓟州区"])
    district_name_en: str = Field(examples=["Jizhou District"])
    industry_code: str = Field(description="GB/T 4754", examples=["3011"])
    industry_name_zh: str = Field(examples=["水泥制造"])
    industry_name_en: str = Field(examples=["Manufacture of cement"])
    key_unit_year: int | None = Field(description="year of the latest key-unit list it is on", examples=[2026])
    key_unit_tier: str | None = Field(examples=["10000_tce"])
    is_two_high: bool = Field(description="on the two-high (两高) list of that year")


class EnterprisePage(Answer):
    """One page of enterprises."""

    items: list[Enterprise]
    next_cursor: str | None = Field(description="ask again with `cursor` set to this; null on the last page")


class ProcessUnit(Answer):
    """One node of the tree of process units."""

    id: int
    code: str = Field(examples=["kiln"])
    parent_id: int | None
    scope: int = Field(description="1 plant, 2 process, 3 process unit, 4 equipment", examples=[2])
    name_zh: str = Field(examples=["熟料烧成"])
    name_en: str = Field(examples=["Clinker burning"])


class Gateway(Answer):
    """A gateway and what it last said of itself."""

    code: str = Field(examples=["gw-clinker-01"])
    zone: str = Field(examples=["Asia/Shanghai"])
    heartbeat_s: int = Field(examples=[900])
    is_enabled: bool
    is_online: bool | None = Field(description="null: never heard of")
    seen_at: Instant | None
    queue_depth: int | None = Field(description="messages still waiting in the gateway")
    clock_skew_s: float | None = Field(description="gateway's clock minus the service's, in seconds")
    last_reading_at: Instant | None
    last_commit_at: Instant | None


class Point(Answer):
    """A metering point with its assignment and meter now, and its last reading as sent."""

    id: int = Field(examples=[31])
    gateway_code: str = Field(examples=["gw-clinker-01"])
    code: str = Field(examples=["E001"])
    name_zh: str
    name_en: str
    carrier_key: str | None = Field(examples=["electricity"])
    carrier_name_zh: str | None = Field(examples=["电力"])
    carrier_name_en: str | None = Field(examples=["electricity"])
    signal: str = Field(description="register, interval or gauge", examples=["register"])
    unit: str = Field(description="unit on the wire", examples=["kWh"])
    process_unit_code: str | None = Field(examples=["kiln"])
    flow: str | None = Field(description="in, out, recovered or feedstock", examples=["in"])
    in_boundary: bool | None = Field(description="counts to its unit's total, or only checks it")
    expected_interval_s: int | None = Field(examples=[900])
    meter_serial: str | None = Field(examples=["S1"])
    multiplier: Exact | None = Field(examples=["80"])
    last_reading_at: Instant | None
    last_value: Exact | None = Field(description="in `unit`, before the multiplier", examples=["104512.75"])


class EnterpriseDetail(Enterprise):
    """An enterprise with everything the registry has of it and each line's latest ratio."""

    energy_this_month: EnergyTotal
    energy_last_month: EnergyTotal
    process_units: list[ProcessUnit]
    lines: list[Ratio]
    gateways: list[Gateway]
    points: list[Point]


@router.get("", response_model=EnterprisePage, summary="List enterprises 企业列表")
def list_enterprises(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    district: DistrictFilter = None,
    industry: Annotated[
        str | None, Query(pattern=r"^[A-Z]?\d{0,4}$", description="code, or the start of one", examples=["30"])
    ] = None,
    status: Annotated[Status | None, Query(description="has a line of this status")] = None,
    search: Annotated[
        str | None, Query(min_length=1, max_length=100, description="in names, or start of the credit code")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Ordered by id. Pages by cursor: rows added meanwhile never make one appear twice or be skipped."""
    rows = enterprises.list_enterprises(
        connection,
        caller.scope,
        limit=limit + 1,
        after_id=decode_cursor(cursor),
        district_code=district,
        industry_code=industry,
        status=status,
        search=search,
    )
    return {"next_cursor": next_cursor(rows, limit), "items": rows}


@router.get("/{enterprise_id}", response_model=EnterpriseDetail, summary="One enterprise 企业详情")
def get_enterprise(
    enterprise_id: Id,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
) -> dict[str, Any]:
    """Process units, lines with their latest ratio, gateways with state, points with the last reading."""
    found = enterprises.enterprise(connection, caller.scope, enterprise_id)
    lines = ratios.latest_ratios(connection, caller.scope, enterprise_id=enterprise_id, limit=1000)
    return {
        **found,
        **totals.energy_of_months(connection, Scope(enterprise_id=enterprise_id), business_day(now)),
        "process_units": enterprises.process_units(connection, enterprise_id),
        "lines": lines,
        "gateways": enterprises.gateways(connection, enterprise_id),
        "points": enterprises.points(connection, enterprise_id, now),
    }
