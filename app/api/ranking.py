"""Ranking of a period and comparison with peers, by the lists, districts and industries of that period."""

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Transaction, allow
from app.api.csv_export import DOCUMENTED, Excel, Format, rows_csv
from app.api.ranges import AsOf
from app.api.ratios import DomainFilter, Ratio, VariantFilter
from app.api.shapes import Answer, DistrictFilter, Exact, Month
from app.db.figures import ranking
from app.db.figures.as_of import check_published
from app.db.figures.ranking import Question
from app.domain.calendar import next_month
from app.errors import Invalid

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
    benchmark: Exact | None = Field(examples=["100"])
    baseline: Exact | None = Field(examples=["117"])
    level_edition: str | None = Field(examples=["2023"])
    lines: int = Field(examples=[4])
    lines_at_benchmark: int = Field(examples=[1])
    best: Exact = Field(examples=["97.5"])
    median: Exact = Field(examples=["103.9"])
    mean: Exact | None = Field(description="weighted by output: the group's energy over its output")
    worst: Exact = Field(examples=["117.4"])
    distance_tce: Exact | None = Field(description="sum of the lines' distances", examples=["9120.5"])


class Ranking(Answer):
    """Lines of one product or domain in a period, best first, those left out, and the groups of peers."""

    grain: str = Field(description="month, quarter or year", examples=["month"])
    period: date = Field(description="first day of the period", examples=["2026-10-01"])
    ranked: list[Ranked]
    left_out: list[LeftOut] = Field(description="provisional, without output or without a level: with the reason")
    peers: list[Peers] = Field(description="by product and process, over the ranked lines")


CSV_COLUMNS = ["rank", *Compared.model_fields, "left_out_because"]


def asked_period(
    month: Month = None,
    quarter: Annotated[str | None, Query(pattern=r"^(19|20|21)[0-9]{2}-Q[1-4]$", examples=["2026-Q3"])] = None,
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
    in 2027 is the one of 2025. With `as_of` (months) the figures are those that were known then.
    """
    if variant is None and domain is None:
        raise Invalid(
            "name a variant or a domain: lines of different domains are not ranked together",
            detail_zh="请指定 variant 或 domain：不同领域的产线不放在一起排名",
            errors=[{"location": ["query", "variant"], "message": "variant or domain is missing"}],
        )
    grain, first, end = period
    check_published(grain, first, as_of)
    asked = Question(
        grain, first, end, variant, domain, district, industry,
        tier=tier, is_key_unit=key_units, is_two_high=two_high, as_of=as_of,
    )  # fmt: skip
    found = ranking.ranking(connection, caller.scope, asked)
    if format == "csv":
        rows = [*found["ranked"], *found["left_out"]]
        return rows_csv(f"ranking-{grain}-{first}", CSV_COLUMNS, rows, is_for_excel=excel)
    return {"grain": grain, "period": first, **found}
