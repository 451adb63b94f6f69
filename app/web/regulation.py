"""Pages a regulator works with: ranking of a period, key units with posts and budgets, quality of the data."""

from datetime import date, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from app.db import findings, key_units
from app.db.figures import budgets, enterprises, ranking
from app.db.figures.ranking import Question
from app.db.scope import Scope
from app.domain.calendar import business_day, next_month
from app.domain.faults import titled
from app.domain.key_units import Post
from app.domain.periods import calendar_period, written_period
from app.errors import Invalid
from app.web.pages import Now, Visit, render, sign_in_form, visit

FINDINGS_SHOWN = 200

router = APIRouter(include_in_schema=False)
Year = Annotated[int | None, Query(ge=2000, le=2100)]


@router.get("/ranking")
def get_ranking(
    request: Request,
    now: Now,
    of: Annotated[str | None, Query(max_length=100)] = None,
    period: Annotated[str | None, Query(max_length=7)] = None,
) -> Response:
    """One product, or one domain (its number), in one period: ranked lines, peers, and those left out with reasons."""
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        scope = seen.caller.scope
        subjects, periods = ranking.subjects(connection, scope), ranking.periods(connection, scope)
        written = [written_period(grain, first) for grain, first in periods]
        chosen_of = of or _first_of(subjects)
        chosen = period or _last_over(periods, business_day(seen.now))
        found = None
        if chosen_of and chosen:
            found = ranking.ranking(connection, scope, _question(chosen_of, chosen))
        return render(
            "ranking.html",
            seen,
            domains=_domains(subjects),
            periods=written,
            chosen_of=chosen_of,
            chosen=chosen,
            found=found,
            found_grain=_bounds(chosen)[0] if chosen else None,
            csv_query=_api_query(chosen_of, chosen) if found else "",
        )


def _first_of(subjects: list[dict[str, Any]]) -> str | None:
    return str(subjects[0]["domain_no"] or subjects[0]["variant_key"]) if subjects else None


def _domains(subjects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group the products by domain, in the order of the catalogue; some belong to none."""
    found: dict[Any, dict[str, Any]] = {}
    for row in subjects:
        own = found.setdefault((row["domain_no"], row["domain_zh"]), {**row, "products": []})
        own["products"].append(row)
    return list(found.values())


def _last_over(periods: list[tuple[str, date]], today: date) -> str | None:
    """The newest month that is over, else the newest month, else the newest period."""
    months = [first for grain, first in periods if grain == "month"]
    over = [first for first in months if next_month(first) <= today]
    if months:
        return written_period("month", (over or months)[0])
    return written_period(*periods[0]) if periods else None


def _question(of: str, period: str) -> Question:
    grain, first, end = _bounds(period)
    variant, domain = (None, int(of)) if of.isascii() and of.isdecimal() and len(of) <= 3 else (of, None)
    return Question(grain, first, end, variant, domain)


def _bounds(period: str) -> tuple[str, date, date]:
    """Return grain, first day and end (excluded) of a written period."""
    try:
        return calendar_period(period)
    except ValueError as error:
        raise Invalid(str(error), detail_zh=f"“{period}”不是时段：请写 2026-10、2026-Q3 或 2025") from error


def _api_query(of: str | None, period: str | None) -> str:
    """The same question to the API, as CSV."""
    assert of is not None  # noqa: S101 - for the type checker: asked only with both
    assert period is not None  # noqa: S101
    question = _question(of, period)
    subject = {"variant": question.variant_key} if question.variant_key else {"domain": question.domain_no}
    return urlencode({question.grain: period, **subject, "format": "csv", "excel": "true"})


@router.get("/key-units")
def get_key_units(request: Request, now: Now, year: Year = None) -> Response:
    """The list of a year with its energy-management posts, and energy budgets used against time elapsed."""
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        scope, today = seen.caller.scope, business_day(seen.now)
        asked = year or today.year
        units = (
            key_units.posts(connection, scope, day=min(today, date(asked, 12, 31)), today=today)
            if (asked <= today.year)
            else []
        )
        return render(
            "key_units.html",
            seen,
            year=asked,
            years=range(today.year, today.year - 6, -1),
            units=units,
            not_held=sum(row["post"] != Post.HELD for row in units),
            budgets=_budgets(connection, scope, asked, today),
        )


def _budgets(connection: Connection, scope: Scope, year: int, today: date) -> list[dict[str, Any]]:
    """Budgets of a year that has a whole day behind it, those furthest ahead of time first."""
    through = min(today - timedelta(days=1), date(year, 12, 31))
    return budgets.use_of_budgets(connection, scope, year=year, through=through) if through.year == year else []


@router.get("/data-quality")
def get_data_quality(request: Request, now: Now) -> Response:
    """Open findings by their clock, and the gateways that are silent."""
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        return render("data_quality.html", seen, **_quality(connection, seen.caller.scope, seen))


def _quality(connection: Connection, scope: Scope, seen: Visit) -> dict[str, Any]:
    today = business_day(seen.now)
    rows = findings.list_findings(connection, scope, today=today, limit=FINDINGS_SHOWN, is_open=True, is_by_clock=True)
    return {
        "counts": findings.count_open(connection, scope, today),
        "kinds": [titled(row) for row in findings.count_kinds(connection, scope, today)],
        "findings": [titled(row) for row in rows],
        "silent": enterprises.silent_gateways(connection, scope),
    }
