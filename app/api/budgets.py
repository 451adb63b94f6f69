"""Energy budgets (用能预算) of enterprises: set with their method and source, and how they are used."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.key_units import Brought
from app.api.shapes import Answer, Exact, IdFilter, Instant
from app.db.figures import budgets
from app.domain.calendar import business_day
from app.errors import Invalid
from app.intake import entered as intake
from app.intake.entered import BudgetEntry
from app.intake.registry_file import Day
from app.intake.rows import Report

router = APIRouter(prefix="/api/v1/budgets", tags=["budgets"])
MOST_ROWS = 10_000


class BudgetReport(BaseModel):
    """Budgets to enter, all or nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "budgets": [
                        {
                            "uscc": "91120000MA0000001Q",
                            "year": 2026,
                            "method": "historical",
                            "past_tce": ["26000", "24000"],
                            "factor": "0.98",
                            "budget_tce": "24500",
                            "source": "区发改委核定（示例）",
                        }
                    ]
                }
            ]
        },
    )
    budgets: list[BudgetEntry] = Field(min_length=1, max_length=MOST_ROWS)
    dry_run: bool = Field(False, description="check and show, write nothing")


class Budget(Answer):
    """An enterprise's budget of a year and its use through a day."""

    enterprise_id: int = Field(examples=[7])
    uscc: str = Field(examples=["91120000MA0000001Q"])
    enterprise_name_zh: str = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str = Field(examples=["Example Cement Co., Ltd."])
    year: int = Field(examples=[2026])
    revision: int = Field(examples=[1])
    method: str = Field(description="baseline 基准法 or historical 历史法", examples=["historical"])
    conversion: str = Field(description="standard coal of budget and use", examples=["equivalent"])
    budget_tce: Exact = Field(description="of the year, tce", examples=["25000"])
    basis: dict[str, Any] = Field(
        description="what the method was fed with", examples=[{"past_tce": ["26000", "24000"]}]
    )
    source: str = Field(examples=["区发改委核定（示例）"])
    recorded_by: str = Field(examples=["operator"])
    recorded_at: Instant
    through: date = Field(description="last day that is counted", examples=["2026-06-30"])
    days_over: int = Field(examples=[181])
    days_in_year: int = Field(examples=[365])
    days_with_energy: int = Field(examples=[181])
    measured_share: Exact | None = Field(description="received / expected windows", examples=["0.9983"])
    factor_sets: list[str] = Field(description="conversions behind used_tce", examples=[["GB/T 2589-2020"]])
    used_tce: Exact | None = Field(
        description="measured energy less feedstock and newly added renewables", examples=["13400"]
    )
    feedstock_tce: Exact | None = Field(description="left out of used_tce", examples=["0"])
    new_renewables_tce: Exact | None = Field(description="entered for the year; left out of used_tce", examples=[None])
    used_pct: Exact | None = Field(description="u = used / budget", examples=["53.6"])
    time_pct: Exact = Field(description="t = days over / days of the year", examples=["49.589041095890"])
    ahead_points: Exact | None = Field(description="u - t: above 0 faster than time", examples=["4.01095890411"])
    projected_tce: Exact | None = Field(description="at the year's end, by projection_method", examples=["27022.099"])
    projected_pct: Exact | None = Field(description="projected_tce / budget_tce × 100", examples=["108.088"])
    projection_method: str = Field(
        description="linear_by_days: used / days x days of the year", examples=["linear_by_days"]
    )
    is_provisional: bool = Field(description="days or windows are missing: used_tce is too low")
    reason: str | None = Field(
        description="no_readings, no_factor, incomplete_readings, missing_days", examples=["missing_days"]
    )


@router.post("", response_model=Brought, summary="Enter energy budgets 录入用能预算")
def enter_budgets(
    body: BudgetReport, caller: Annotated[Caller, Depends(allow("operator"))], connection: Transaction, now: Now
) -> Report:
    """A figure, or what its method makes it of; a changed budget becomes a new revision. Any bad row lists all."""
    return intake.report_budgets(
        connection, caller.scope, body.budgets, actor=caller.name, now=now, is_dry_run=body.dry_run
    )


@router.get("", response_model=list[Budget], responses=DOCUMENTED, summary="Budgets and their use 用能预算使用情况")
def list_budgets(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    year: Annotated[int | None, Query(ge=2000, le=2100, description="default: this year", examples=[2026])] = None,
    through: Annotated[
        Day | None, Query(description="last day counted; default: yesterday", examples=["2026-06-30"])
    ] = None,
    enterprise_id: IdFilter = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Those that run furthest ahead of time first."""
    yesterday = business_day(now) - timedelta(days=1)
    asked = year or (through or yesterday).year
    day = through or min(yesterday, date(asked, 12, 31))
    if day.year != asked or day > yesterday:
        wrong = f"a day of {asked}" if day.year != asked else "over yet"
        raise Invalid(
            f"{day} is not {wrong}: name a day of the year up to yesterday, {yesterday}",
            detail_zh=f"{day} 不是 {asked} 年内已过去的日期：最晚为 {yesterday}",
            errors=[{"location": ["query", "through"], "message": f"not {wrong}"}],
        )
    rows = budgets.use_of_budgets(connection, caller.scope, year=asked, through=day, enterprise_id=enterprise_id)
    if format == "csv":
        columns = [name for name in Budget.model_fields if name != "basis"]
        return rows_csv(f"budgets-{asked}", columns, rows, is_for_excel=excel)
    return rows
