"""Figures that people enter with their source: GDP, value added, statistics of energy; and targets of regions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.key_units import Brought
from app.api.shapes import Answer, Exact, Instant
from app.db import entered
from app.db.access import OF_REGIONS
from app.domain.rounding import plain
from app.intake import entered as intake
from app.intake.entered import FigureEntry, FigureKind, TargetEntry, TargetKey
from app.intake.rows import Report

router = APIRouter(prefix="/api/v1", tags=["targets"])
MOST_ROWS = 10_000


class FigureReport(BaseModel):
    """Figures to enter, all or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "figures": [
                        {
                            "district_code": "120110",
                            "kind": "gdp",
                            "year": 2025,
                            "value": "9104200",
                            "unit": "10^4 yuan",
                            "price_base_year": 2020,
                            "source": "统计公报 2025",
                        }
                    ]
                }
            ]
        },
    )
    figures: list[FigureEntry] = Field(min_length=1, max_length=MOST_ROWS)
    dry_run: bool = Field(False, description="check and show, write nothing")


class EnteredFigure(Answer):
    """A figure of a region or an enterprise in a year, with its source."""

    district_code: str | None = Field(description="120000 is the city", examples=["120110"])
    uscc: str | None = Field(examples=[None])
    kind: str = Field(examples=["gdp"])
    year: int = Field(examples=[2025])
    value: Exact = Field(description="in `unit`", examples=["9104200"])
    unit: str = Field(examples=["10^4 yuan"])
    price_base_year: int | None = Field(description="constant prices of this year", examples=[2020])
    source: str = Field(examples=["统计公报 2025"])
    revision: int = Field(description="1 is the first entry; nothing is overwritten", examples=[1])
    recorded_by: str = Field(examples=["operator"])
    recorded_at: Instant


class FigureList(Answer):
    """Entered figures, newest year first."""

    items: list[EnteredFigure]
    is_complete: bool = Field(description="false: there are more than `limit`; ask for one year or kind")


class TargetReport(BaseModel):
    """Targets to enter, all or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "targets": [
                        {
                            "district_code": "120110",
                            "base_year": 2020,
                            "target_year": 2025,
                            "reduction_pct": "14",
                            "source": "津政办发（示例）",
                        }
                    ]
                }
            ]
        },
    )
    targets: list[TargetEntry] = Field(min_length=1, max_length=MOST_ROWS)
    dry_run: bool = Field(False, description="check and show, write nothing")


class RegionTarget(Answer):
    """A region's own target under a target of the plan, its latest revision."""

    district_code: str = Field(examples=["120110"])
    target_key: str = Field(examples=["city_energy_intensity"])
    base_year: int = Field(examples=[2020])
    target_year: int = Field(examples=[2025])
    reduction_pct: Exact = Field(description="by which the plan's figure is to fall, per cent", examples=["14"])
    revision: int = Field(examples=[1])
    source: str = Field(examples=["津政办发（示例）"])
    confidence: str = Field(examples=["confirmed"])
    recorded_by: str = Field(examples=["operator"])
    recorded_at: Instant


@router.post("/entered-figures", response_model=Brought, summary="Enter figures with their source 录入统计数据")
def enter_figures(
    body: FigureReport, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction, now: Now
) -> Report:
    """GDP and value added at constant prices, energy statistics of regions, newly added renewables of an enterprise.
    A changed value becomes a new revision; any bad row lists all of them and nothing is written.
    """
    return intake.report_figures(
        connection, caller.scope, body.figures, actor=caller.name, now=now, is_dry_run=body.dry_run
    )


@router.get("/entered-figures", response_model=FigureList, responses=DOCUMENTED, summary="Entered figures 统计数据")
def list_figures(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    year: Annotated[int | None, Query(ge=2000, le=2100, examples=[2025])] = None,
    kind: FigureKind | None = None,
    history: Annotated[bool, Query(description="every revision, not only the latest")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 1000,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Figures of regions for whoever sees the region; an enterprise sees its own."""
    rows = entered.figures(connection, caller.scope, limit=limit + 1, year=year, kind=kind, is_with_history=history)
    if format == "csv":
        return rows_csv("entered-figures", list(EnteredFigure.model_fields), rows[:limit], is_for_excel=excel)
    return {"items": rows[:limit], "is_complete": len(rows) <= limit}


@router.post("/targets", response_model=Brought, summary="Enter targets of regions 录入各区目标")
def enter_targets(
    body: TargetReport, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction, now: Now
) -> Report:
    """The plan orders targets for each district and prints none: they are entered, with their document."""
    return intake.report_targets(
        connection, caller.scope, body.targets, actor=caller.name, now=now, is_dry_run=body.dry_run
    )


@router.get("/targets", response_model=list[RegionTarget], responses=DOCUMENTED, summary="Targets of regions 各区目标")
def list_targets(
    *,
    caller: Annotated[Caller, Depends(allow(*OF_REGIONS))],
    connection: Transaction,
    target: TargetKey | None = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """What was entered; the city's own target is the plan's, in /targets/progress."""
    rows = [
        {**row, "reduction_pct": plain(row["reduction_pct"])}
        for row in entered.targets(connection, caller.scope, target)
    ]
    if format == "csv":
        return rows_csv("targets", list(RegionTarget.model_fields), rows, is_for_excel=excel)
    return rows
