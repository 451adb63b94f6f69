"""New editions of levels, limits, corrections and factors; and the conditions of lines that correct their limits."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from pydantic import ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.outputs import Reported
from app.api.shapes import Answer, Exact, IdFilter, Instant, Reasoned
from app.db import corrections
from app.intake import corrections as corrections_intake
from app.intake import factors as factors_intake
from app.intake import levels as levels_intake
from app.intake import outputs as outputs_intake
from app.intake.corrections import CorrectionEntry
from app.intake.factors import FactorReport
from app.intake.levels import EditionReport

router = APIRouter(prefix="/api/v1", tags=["reference"])
MOST_INPUTS = 1000
MOST_CSV = 5_000_000
Csv = Annotated[
    str,
    Body(
        media_type="text/csv",
        max_length=MOST_CSV,
        description="UTF-8, columns as in the bundled file of the table",
        examples=[
            "variant_key,benchmark,baseline,referenced_standard,deadline_on,note,source,edition,confidence,valid_from,"
            "valid_to\nndrc723-15-cement-clinker,95,110,GB 16780,,,document no. …,2027,confirmed,2027-01-01,\n"
        ],
    ),
]


class EditionChange(Answer):
    """One row of the file that is not there as given."""

    variant_key: str | None = Field(examples=["ndrc723-15-cement-clinker"])
    name: str = Field(examples=["ndrc723-15-cement-clinker · 2027 · 2027-01-01"])
    is_correction_of_a_row: bool = Field(description="true: it supersedes a row of this edition; false: it is new")
    before: str | None = Field(
        description="what it supersedes, or what held until it begins",
        examples=["benchmark 100, baseline 117 (2021/2023, confirmed)"],
    )
    after: str = Field(examples=["benchmark 95, baseline 110 from 2027-01-01 (2027, confirmed)"])
    lines: int = Field(description="lines of which computed months are touched", examples=[3])
    months: int = Field(description="computed months that are touched", examples=[9])
    statuses: dict[str, int] = Field(
        description="computed months that change their status", examples=[{"between → below_baseline": 4}]
    )


class Edition(Answer):
    """What an import changed, or with `dry_run` would change."""

    table: str = Field(description="by the columns of the file", examples=["efficiency_level"])
    inserted: int = Field(examples=[1])
    superseded: int = Field(examples=[0])
    unchanged: int = Field(examples=[66])
    lines: int = Field(examples=[3])
    months: int = Field(description="months that are computed again", examples=[9])
    changes: list[EditionChange]
    is_dry_run: bool


@router.post("/reference/levels/import", response_model=Edition, summary="Bring in an edition of levels 导入新版本")
def import_levels(
    body: Csv,
    caller: Annotated[Caller, Depends(allow("operator"))],
    connection: Transaction,
    now: Now,
    dry_run: Annotated[bool, Query(description="check and show what would change, write nothing")] = False,
) -> EditionReport:
    """Benchmark and baseline, quota limits, or corrections, told apart by the columns. Any bad row lists all of them
    and nothing is written. Editions stand beside each other by `valid_from`: a period keeps the one that was in force
    on its first day. The touched months are computed again; what was published before stays as a revision.
    """
    return levels_intake.bring_in(connection, body, actor=caller.name, now=now, is_dry_run=dry_run)


FactorCsv = Annotated[
    str,
    Body(
        media_type="text/csv",
        max_length=MOST_CSV,
        description="UTF-8, columns as in the bundled standard_coal_factors.csv or emission_factors.csv",
        examples=[
            "factor_type,factor_key,factor_set,year,name_zh,name_en,lhv,lhv_unit,carbon_content_tc_per_gj,"
            "oxidation_rate_pct,factor_value,factor_unit,note,source,edition,confidence,valid_from,valid_to\n"
            "grid_electricity,CN-120000,MEE/NBS average,2023,天津市,Tianjin,,,,,0.6796,kgCO2/kWh,,announcement,"
            "公告2025年第47号,confirmed,,\n"
        ],
    ),
]


class FactorChange(Answer):
    """One row of the file that is not there as given."""

    name: str = Field(examples=["grid_electricity · CN-120000 · MEE/NBS average · 2023"])
    is_correction_of_a_row: bool = Field(description="true: it supersedes a row; false: it is new")
    before: str | None = Field(
        description="what it supersedes, or what held until it begins",
        examples=["0.7041 kgCO2/kWh of 2022 (MEE/NBS average, confirmed)"],
    )
    after: str = Field(examples=["0.6796 kgCO2/kWh of 2023 (MEE/NBS average, confirmed)"])
    carriers: list[str] = Field(description="carriers that it converts", examples=[["electricity"]])
    process_units: int = Field(description="process units whose energy this row alone computes again", examples=[12])
    months: int = Field(description="months of these units that this row alone computes again", examples=[36])


class FactorEdition(Answer):
    """What an import of factors changed, or with `dry_run` would change."""

    table: str = Field(description="by the columns of the file", examples=["emission_factor"])
    inserted: int = Field(examples=[1])
    superseded: int = Field(examples=[0])
    unchanged: int = Field(examples=[0])
    process_units: int = Field(description="process units whose energy is computed again", examples=[12])
    months: int = Field(description="months of these units that are computed again", examples=[36])
    changes: list[FactorChange]
    is_dry_run: bool


@router.post("/reference/factors/import", response_model=FactorEdition, summary="Bring in conversion factors 导入系数")
def import_factors(
    body: FactorCsv,
    caller: Annotated[Caller, Depends(allow("operator"))],
    connection: Transaction,
    now: Now,
    dry_run: Annotated[bool, Query(description="check and show what would change, write nothing")] = False,
) -> FactorReport:
    """Factors of standard coal or of CO2, told apart by the columns. Any bad row lists all of them and nothing is
    written. A row converts from its `valid_from` (or data year) on, until the next one of its key begins. A row that
    comes with the project is not overwritten, unless it has no figure. The energy it touches, CO2 and ratios are
    computed again; what was published before stays as a revision.
    """
    return factors_intake.bring_in(connection, body, actor=caller.name, now=now, is_dry_run=dry_run)


class CorrectionReport(Reasoned):
    """Conditions to report, all or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {
                            "line_id": 7,
                            "input_key": "clinker_share",
                            "from_month": "2026-10",
                            "value": "78",
                            "evidence": "mill log",
                        }
                    ]
                }
            ]
        },
    )
    inputs: list[CorrectionEntry] = Field(min_length=1, max_length=MOST_INPUTS)


class CorrectionInput(Answer):
    """The latest revision of one condition; it holds until the next month that has one."""

    line_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    process_unit: str = Field(examples=["furnace"])
    code: str = Field(description="the line's code", examples=["bf-1"])
    input_key: str = Field(examples=["ore_grade"])
    from_month: date = Field(examples=["2026-10-01"])
    revision: int = Field(examples=[1])
    value: Exact | None = Field(description="null: withdrawn", examples=["60.5"])
    evidence: str = Field(examples=["burden analysis of October"])
    reported_by: str = Field(examples=["enterprise-7"])
    reported_at: Instant


class CorrectionInputList(Answer):
    """Conditions, newest month first."""

    items: list[CorrectionInput]
    is_complete: bool = Field(description="false: there are more than `limit`; ask for one line")


@router.post("/correction-inputs", response_model=Reported, summary="Report conditions of lines 上报修正条件")
def report_correction_inputs(
    body: CorrectionReport,
    caller: Annotated[Caller, Depends(allow("operator", "enterprise"))],
    connection: Transaction,
    now: Now,
) -> outputs_intake.Reported:
    """Clinker share, ore grade, scrap share …: what /reference/level-corrections lists for the line's product. All or
    nothing; nothing is overwritten. What begins in a closed year, after 31 March of the year that follows, is changed
    by operators only, with `closed_year_reason`; equal values need none.
    """
    reason = body.closed_year_reason
    return corrections_intake.report(connection, caller, body.inputs, now=now, closed_year_reason=reason)


@router.get("/correction-inputs", response_model=CorrectionInputList, summary="List conditions of lines 修正条件列表")
def list_correction_inputs(
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    line_id: IdFilter = None,
    limit: Annotated[int, Query(ge=1, le=MOST_INPUTS)] = 500,
) -> dict[str, Any]:
    """The latest revision of each."""
    rows = corrections.list_inputs(connection, caller.scope, limit=limit + 1, line_id=line_id)
    return {"items": rows[:limit], "is_complete": len(rows) <= limit}
