"""Key energy-using units: the list of a year, what measured energy proposes, and who holds the energy-manager post."""

from datetime import date
from fractions import Fraction
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.shapes import Answer, Exact, IdFilter, Instant
from app.db import key_units
from app.domain.benchmark import COMPLETENESS_MIN
from app.domain.calendar import business_day
from app.domain.key_units import Appointment, Post, post_on, tier_of
from app.domain.rounding import plain
from app.intake import key_units as intake
from app.intake.key_units import EnergyManagerEntry, KeyUnitEntry
from app.intake.rows import Report

router = APIRouter(prefix="/api/v1", tags=["key units"])
MOST_ROWS = 10_000
Year = Annotated[int | None, Query(ge=2000, le=2100, description="default: this year", examples=[2025])]


class Brought(Answer):
    """What rows did, or with `dry_run` would do."""

    is_dry_run: bool = Field(examples=[False])
    added: int = Field(examples=[2])
    changed: int = Field(examples=[1])
    removed: int = Field(examples=[0])
    unchanged: int = Field(examples=[21])
    changes: list[str] = Field(examples=[["+ 2025 91120000MA0000001Q 10000_tce, two-high"]])


class Unit(Answer):
    """An enterprise in the district and industry of the year in question."""

    enterprise_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    enterprise_name_zh: str = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str = Field(examples=["Example Cement Co., Ltd."])
    district_code: str = Field(examples=["120119"])
    district_name_zh: str = Field(examples=["蓟州区"])
    district_name_en: str = Field(examples=["Jizhou District"])
    industry_code: str = Field(examples=["3011"])
    industry_name_zh: str = Field(examples=["水泥制造"])
    industry_name_en: str = Field(examples=["Manufacture of cement"])


class KeyUnit(Unit):
    """A unit on the list of a year."""

    year: int = Field(examples=[2025])
    tier: str = Field(examples=["10000_tce"])
    is_two_high: bool = Field(description="on the ledger of two-high (两高) projects", examples=[True])
    source: str = Field(examples=["2025年重点用能单位名单"])
    recorded_by: str = Field(examples=["operator"])
    recorded_at: Instant


class Proposal(Unit):
    """What the measured energy of a year proposes for the list."""

    equivalent_tce: Exact | None = Field(description="当量值 measured in the year", examples=["48211.7"])
    equal_tce: Exact | None = Field(
        description="等价值; null while a carrier has no factor of the year", examples=["61120.4"]
    )
    factor_sets: list[str] = Field(description="conversions to standard coal", examples=[["GB/T 2589-2020"]])
    months: int = Field(description="months of the year with energy", examples=[12])
    measured_share: Exact | None = Field(description="received / expected windows", examples=["0.9983"])
    is_whole_year: bool = Field(description="12 months and 90 % of their windows: else the figure is too low")
    proposed_tier: str | None = Field(description="by equivalent_tce; null: below every tier", examples=["10000_tce"])
    listed_tier: str | None = Field(description="on the list of the year", examples=["5000_tce"])
    is_different: bool = Field(description="the list says otherwise", examples=[True])


class TierCitation(Answer):
    """A tier, where it begins, and who says so."""

    tier: str = Field(examples=["10000_tce"])
    at_least_tce: Exact = Field(
        description="annual energy use from which the tier begins, that figure included, tce", examples=["10000"]
    )
    name_zh: str = Field(examples=["年综合能源消费量一万吨标准煤以上"])
    name_en: str = Field(examples=["10,000 tce a year or more"])
    managed_by_zh: str = Field(examples=["区节能主管部门"])
    managed_by_en: str = Field(examples=["district energy authority"])
    source: str = Field(examples=["节约能源法 (2018-10-26) 第五十二条"])
    confidence: str = Field(examples=["confirmed"])
    note: str = Field(examples=[""])


class Proposals(Answer):
    """Units whose energy was measured, with the thresholds used."""

    year: int = Field(examples=[2025])
    conversion: str = Field(description="in which standard coal tiers are proposed", examples=["equivalent"])
    tiers: list[TierCitation]
    items: list[Proposal]


class PostState(Unit):
    """The energy-management post of a unit on the list (节约能源法, Art. 55)."""

    tier: str = Field(examples=["10000_tce"])
    post: Post = Field(description="held, expired, or empty: nobody was ever appointed", examples=["held"])
    holder: str | None = Field(examples=["李某"])
    title: str | None = Field(examples=["工程师"])
    appointed_on: date | None = Field(examples=["2025-03-01"])
    expires_on: date | None = Field(description="last day of the term; null: without end", examples=["2028-02-29"])
    filed_on: date | None = Field(description="null: not filed with the energy authority", examples=["2025-03-10"])


class Compliance(Answer):
    """Posts of the units on the list of a year, as of a day; those that are not held come first."""

    on: date = Field(examples=["2026-10-15"])
    year: int = Field(examples=[2026])
    basis: str = Field(examples=["节约能源法 (2018-10-26) 第五十五条"])
    not_held: int = Field(description="posts that are empty or expired", examples=[1])
    items: list[PostState]


class Manager(Answer):
    """One appointment."""

    enterprise_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    enterprise_name_zh: str = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str = Field(examples=["Example Cement Co., Ltd."])
    district_code: str = Field(examples=["120119"])
    holder: str = Field(examples=["李某"])
    title: str = Field(examples=["工程师"])
    appointed_on: date = Field(examples=["2025-03-01"])
    expires_on: date | None = Field(examples=["2028-02-29"])
    filed_on: date | None = Field(examples=["2025-03-10"])
    recorded_by: str = Field(examples=["operator"])
    recorded_at: Instant


class KeyUnitRequest(BaseModel):
    """The list of each year that is named: what is not in it leaves that year's list."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "key_units": [
                        {
                            "year": 2025,
                            "uscc": "91120000MA0000001Q",
                            "tier": "10000_tce",
                            "two_high": True,
                            "source": "2025年重点用能单位名单",
                        }
                    ]
                }
            ]
        },
    )
    key_units: list[KeyUnitEntry] = Field(min_length=1, max_length=MOST_ROWS)
    dry_run: bool = Field(False, description="check and show, write nothing")


class ManagerRequest(BaseModel):
    """Appointments, all or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "energy_managers": [
                        {
                            "uscc": "91120000MA0000001Q",
                            "holder": "李某",
                            "title": "工程师",
                            "appointed_on": "2025-03-01",
                            "expires_on": "2028-02-29",
                        }
                    ]
                }
            ]
        },
    )
    energy_managers: list[EnergyManagerEntry] = Field(min_length=1, max_length=MOST_ROWS)
    dry_run: bool = Field(False, description="check and show, write nothing")


@router.post("/key-units", response_model=Brought, summary="Bring in the key-unit list of a year 导入重点用能单位名单")
def write_key_units(
    body: KeyUnitRequest, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction
) -> Report:
    """The rows are the whole list of each year they name; other years stay. All or nothing, every bad row named."""
    return intake.report_list(connection, caller.scope, body.key_units, actor=caller.name, is_dry_run=body.dry_run)


@router.get(
    "/key-units", response_model=list[KeyUnit], responses=DOCUMENTED, summary="Key units of a year 重点用能单位"
)
def list_key_units(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    year: Year = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """In the districts and industries of that year."""
    today = business_day(now)
    rows = key_units.list_units(connection, caller.scope, year=year or today.year, today=today)
    if format == "csv":
        return rows_csv(f"key-units-{year or today.year}", list(KeyUnit.model_fields), rows, is_for_excel=excel)
    return rows


@router.get(
    "/key-units/proposal", response_model=Proposals, responses=DOCUMENTED, summary="Tiers by measured energy 名单建议"
)
def propose_key_units(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    year: Year = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """The tier that each enterprise's measured energy of the year reaches, beside its tier on the list. The authority
    decides; a year that is not measured whole proposes too low a tier and says so.
    """
    today = business_day(now)
    asked = year or today.year
    tiers = key_units.thresholds(connection)
    rows = []
    for row in key_units.measured(connection, caller.scope, year=asked, today=today):
        expected, received = row.pop("windows_expected"), row.pop("windows_received")
        energy = row["equivalent_tce"]
        proposed = tier_of(Fraction(energy), tiers) if energy is not None else None
        is_whole = row["months"] == 12 and received >= COMPLETENESS_MIN * expected
        share = plain(Fraction(received, expected), 4) if expected else None
        rows.append(
            {**row, "measured_share": share, "is_whole_year": is_whole, "proposed_tier": proposed,
             "is_different": proposed != row["listed_tier"]}
        )  # fmt: skip
    if format == "csv":
        return rows_csv(f"key-unit-proposal-{asked}", list(Proposal.model_fields), rows, is_for_excel=excel)
    return {"year": asked, "conversion": "equivalent", "tiers": key_units.tiers(connection), "items": rows}


@router.post("/energy-managers", response_model=Brought, summary="Report energy managers 上报能源管理负责人")
def write_energy_managers(
    body: ManagerRequest,
    caller: Annotated[Caller, Depends(allow("operator", "enterprise"))],
    connection: Transaction,
) -> Report:
    """An enterprise's key reports its own; the same enterprise and `appointed_on` again changes the appointment."""
    return intake.report_managers(
        connection, caller.scope, body.energy_managers, actor=caller.name, is_dry_run=body.dry_run
    )


@router.get("/energy-managers", response_model=list[Manager], summary="Energy managers 能源管理负责人")
def list_energy_managers(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction, enterprise_id: IdFilter = None
) -> list[dict[str, Any]]:
    """Every appointment there was, of each enterprise the latest first."""
    return key_units.appointments(connection, caller.scope, enterprise_id=enterprise_id)


@router.get(
    "/compliance/energy-managers", response_model=Compliance, responses=DOCUMENTED, summary="Posts held 岗位设置情况"
)
def get_post_compliance(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    on: Annotated[date | None, Query(description="as of this day; default: today", examples=["2026-10-15"])] = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Every unit on the list of the day's year with the state of its energy-management post on that day."""
    today = business_day(now)
    day = on or today
    terms: dict[int, list[dict[str, Any]]] = {}
    for row in key_units.appointments(connection, caller.scope):
        terms.setdefault(row["enterprise_id"], []).append(row)
    listed = key_units.list_units(connection, caller.scope, year=day.year, today=today)
    items = [_post_of(unit, terms.get(unit["enterprise_id"], []), day) for unit in listed]
    items.sort(key=lambda row: (row["post"] == Post.HELD, row["district_code"], row["enterprise_id"]))
    if format == "csv":
        return rows_csv(f"energy-managers-{day}", list(PostState.model_fields), items, is_for_excel=excel)
    not_held = sum(row["post"] != Post.HELD for row in items)
    basis = "节约能源法 (2018-10-26) 第五十五条"
    return {"on": day, "year": day.year, "basis": basis, "not_held": not_held, "items": items}


def _post_of(unit: dict[str, Any], terms: list[dict[str, Any]], day: date) -> dict[str, Any]:
    post, found = post_on(day, [Appointment(t["holder"], t["appointed_on"], t["expires_on"]) for t in terms])
    term = next((t for t in terms if found and t["appointed_on"] == found.appointed_on), None)
    shown = {
        name: term[name] if term else None for name in ("holder", "title", "appointed_on", "expires_on", "filed_on")
    }
    return {**{name: unit[name] for name in Unit.model_fields}, "tier": unit["tier"], "post": post, **shown}
