"""Ranking of a period and comparison with peers, by the lists, districts and industries of that period."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from sqlalchemy import Connection

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.ranges import AsOf
from app.api.ratios import DomainFilter, Ratio, VariantFilter
from app.api.shapes import Answer, DistrictFilter, Exact, Month
from app.db.figures import ranking
from app.db.figures.as_of import check_published
from app.db.figures.ranking import Question
from app.domain.calendar import next_month
from app.domain.periods import Grain, months_of
from app.errors import Invalid
from app.pipeline import positions

router = APIRouter(prefix="/api/v1", tags=["ranking"])
Tier = Literal["5000_tce", "10000_tce", "500000_tce"]
QUARTER_MONTHS = 3


class Compared(Ratio):
    """A line with what its enterprise was in the period, and how far it is from the benchmark."""

    industry_code: str = Field(description="GB/T 4754, as of the end of the period", examples=["3011"])
    industry_name_zh: str | None = Field(examples=["水泥制造"])
    industry_name_en: str | None = Field(examples=["Manufacture of cement"])
    key_unit_tier: str | None = Field(description="on the key-unit list of the period's year", examples=["10000_tce"])
    is_two_high: bool = Field(description="on the two-high (两高) ledger of the period's year", examples=[True])
    gap: Exact | None = Field(description="actual - benchmark, in `unit`", examples=["17.4"])
    distance_tce: Exact | None = Field(
        description="what reaching the benchmark would save: (actual - benchmark) x output where above, else 0;"
        " electricity by its equivalent value; null without a level",
        examples=["2610"],
    )


class Ranked(Compared):
    """A ranked line."""

    rank: int = Field(description="1 is the best; equal figures share a rank", examples=[1])


class LeftOut(Compared):
    """A line that is not ranked."""

    left_out_because: str = Field(examples=["incomplete_readings"])


class Peers(Answer):
    """What the ranked lines of one product by one process come to together."""

    variant_key: str = Field(examples=["ndrc723-15-cement-clinker"])
    product_zh: str = Field(examples=["水泥熟料"])
    product_en: str = Field(examples=["Cement clinker"])
    indicator_zh: str = Field(examples=["单位产品综合能耗"])
    unit: str = Field(examples=["kgce/t"])
    benchmark: Exact | None = Field(description="标杆水平, in `unit`", examples=["100"])
    baseline: Exact | None = Field(description="基准水平, in `unit`", examples=["117"])
    level_edition: str | None = Field(examples=["2023"])
    level_confidence: str | None = Field(description="confirmed or recalled", examples=["confirmed"])
    lines: int = Field(examples=[4])
    lines_at_benchmark: int = Field(examples=[1])
    best: Exact = Field(description="in `unit`", examples=["97.5"])
    median: Exact = Field(description="in `unit`", examples=["103.9"])
    mean: Exact | None = Field(
        description="weighted by output: the group's energy over its output", examples=["109.881938"]
    )
    worst: Exact = Field(description="in `unit`", examples=["117.4"])
    distance_tce: Exact | None = Field(description="sum of the lines' distances", examples=["9120.5"])


class Ranking(Answer):
    """Lines of one product or domain in a period, best first, those left out, and the groups of peers."""

    grain: str = Field(description="month, quarter or year", examples=["month"])
    period: date = Field(description="first day of the period", examples=["2026-10-01"])
    ranked: list[Ranked]
    left_out: list[LeftOut] = Field(description="provisional, without output or without a level: with the reason")
    peers: list[Peers] = Field(description="by product and process, over the ranked lines")


CSV_COLUMNS = ["rank", *(name for name in Compared.model_fields if name != "corrections"), "left_out_because"]


def asked_period(
    month: Month = None,
    quarter: Annotated[str | None, Query(pattern=r"^\d{4}-Q[1-4]$", examples=["2026-Q3"])] = None,
    year: Annotated[int | None, Query(ge=2000, le=2100, description="calendar year", examples=[2025])] = None,
) -> tuple[str, date, date]:
    """Return grain, first day and end (excluded) of the one period that is asked for."""
    if sum(one is not None for one in (month, quarter, year)) != 1:
        raise Invalid(
            "name one period: month (2026-10), quarter (2026-Q3) or year (2025)",
            detail_zh="请指定一个时段：month、quarter 或 year",
            errors=[{"location": ["query", "month"], "message": "one of month, quarter, year"}],
        )
    if month is not None:
        first = date.fromisoformat(f"{month}-01")
        return "month", first, next_month(first)
    if quarter is not None:
        first = date(int(quarter[:4]), int(quarter[-1]) * QUARTER_MONTHS - 2, 1)
        return "quarter", first, next_month(first + timedelta(days=62))
    assert year is not None  # noqa: S101 - for the type checker: one of the three is given
    return "year", date(year, 1, 1), date(year + 1, 1, 1)


Period = Annotated[tuple[str, date, date], Depends(asked_period)]


@router.get("/ranking", response_model=Ranking, responses=DOCUMENTED, summary="Ranking and peers 排名与对标")
def get_ranking(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    period: Period,
    variant: VariantFilter = None,
    domain: DomainFilter = None,
    district: DistrictFilter = None,
    industry: Annotated[
        str | None, Query(pattern=r"^[A-Z]?\d{0,4}$", description="code, or the start of one", examples=["30"])
    ] = None,
    tier: Annotated[Tier | None, Query(description="only this tier of the year's key-unit list")] = None,
    key_units: Annotated[bool | None, Query(description="only (or never) units of the year's list")] = None,
    two_high: Annotated[bool | None, Query(description="only (or never) units of the two-high ledger")] = None,
    as_of: AsOf = None,
    format: Format = "json",
    excel: Excel = False,
) -> Any:
    """Among the lines the caller may see, by position, then by ratio. Name a variant or a domain: lines of different
    domains are not compared. Key-unit list, district and industry are those of the period: a ranking of 2025 asked for
    in 2027 is the one of 2025. What was put right since (a late reading, an output) is in it; with `as_of` the figures
    are those that were known then, a quarter's and a year's made of their months. An official ranks the
    enterprises that are the district's today.
    """
    if variant is None and domain is None:
        raise Invalid(
            "name a variant or a domain: lines of different domains are not ranked together",
            detail_zh="请指定 variant 或 domain：不同领域的产线不放在一起排名",
            errors=[{"location": ["query", "variant"], "message": "variant or domain is missing"}],
        )
    grain, first, end = period
    check_published("month", months_of(Grain(grain), first)[-1], as_of)
    asked = Question(
        grain, first, end, variant, domain, district, industry,
        tier=tier, is_key_unit=key_units, is_two_high=two_high, as_of=as_of,
    )  # fmt: skip
    known = _as_known(connection, caller, asked, now) if as_of is not None and grain != "month" else None
    found = ranking.ranking(connection, caller.scope, asked, known)
    if format == "csv":
        rows = [*found["ranked"], *found["left_out"]]
        return rows_csv(f"ranking-{grain}-{first}", CSV_COLUMNS, rows, is_for_excel=excel)
    return {"grain": grain, "period": first, **found}


def _as_known(connection: Connection, caller: Caller, asked: Question, now: datetime) -> list[dict[str, Any]]:
    """The figures of a quarter or a year out of the months that were known at `as_of`."""
    grain = Grain(asked.grain)
    lines = positions.question(
        grain, asked.period, variant_key=asked.variant_key, domain_no=asked.domain_no, as_of=asked.as_of
    )
    rows = positions.figures(connection, caller.scope, grain, asked.period, lines, now)
    return [{name: row[name] for name in Ratio.model_fields} for row in rows if row["months"]]
