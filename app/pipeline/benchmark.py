"""Energy and output to a ratio: one line, the months marked stale, judged against the level in force."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Engine

from app.db import ratios, revisions, stale
from app.db.ratios import EnergyOfMonth, Line, Output
from app.domain import benchmark, calendar
from app.domain.accounting import to_decimal
from app.domain.benchmark import Assessment, Level, Period, Windows
from app.pipeline import announce

STAGE = "benchmark"
# A stored figure keeps so many decimals; statuses are decided on the exact fraction before.
STORED_PLACES = 12


def run(engine: Engine, now: datetime) -> int:
    """Compute one line's stale months and mark it for the alert stage; return the marks taken, 0 when idle."""
    with engine.begin() as connection:
        claim = stale.claim(connection, STAGE)
        if claim is None:
            return 0
        revisions.begin_run(connection, now, claim.cause)
        months = sorted({month for mark in claim.marks for month in _months(mark.from_at, mark.to_at)})
        if recompute(connection, claim.subject_id, months, now):
            from_at, to_at = calendar.month_bounds(months[0])[0], calendar.month_bounds(months[-1])[1]
            stale.mark(connection, "alert", claim.subject_id, from_at, to_at, cause=claim.cause)
            announce.revised(connection, now)
        return len(claim.marks)


def refresh(engine: Engine, now: datetime) -> int:
    """Mark what changes by the clock alone: a month that has closed, a line whose latest closed month is another."""
    month = calendar.month_of(calendar.month_of(calendar.business_day(now)) - timedelta(days=1))
    bounds = calendar.month_bounds(month)
    with engine.begin() as connection:
        return ratios.mark_closed(connection, month, bounds) + ratios.mark_alerts(connection, bounds)


def recompute(connection: Connection, line_id: int, months: Sequence[date], now: datetime) -> int:
    """Bring the ratios of a line up to its inputs; return how many changed."""
    line = ratios.line(connection, line_id)
    if line is None:
        return 0
    in_service = [
        month
        for month in months
        if line.from_on < calendar.next_month(month) and (line.to_on is None or month < line.to_on)
    ]
    changed = ratios.remove(connection, line_id, [month for month in months if month not in in_service])
    if not in_service:
        return changed
    for month, figures in figures_of(connection, line, in_service, now).items():
        changed += ratios.write(connection, line, month, figures, now)
    return changed


def figures_of(
    connection: Connection,
    line: Line,
    months: Sequence[date],
    now: datetime,
    energy: Callable[[Connection, Line, Sequence[date], Sequence[date]], Mapping[date, EnergyOfMonth]] = ratios.energy,
) -> dict[date, dict[str, Any]]:
    """Return the ratio of each month, by column, from the inputs as they stand.

    `energy`: of whole months and of single days; an explanation derives it from the readings, not from the table.
    """
    reports = _reports(connection, line, months, now)
    whole = [month for month, report in reports.items() if not report.output_days]
    days = [day for report in reports.values() for day in report.output_days]
    energies = energy(connection, line, whole, days)
    expected = ratios.windows_expected(connection, line, _periods(reports, now))
    levels = ratios.levels(connection, line.variant_key)
    figures = {}
    for month, report in reports.items():
        of_month = energies.get(month, EnergyOfMonth())
        windows = Windows(expected.get(month, 0), of_month.received, of_month.estimated)
        level = benchmark.level_of_month(levels, month)
        found = benchmark.assess(line.indicator, of_month.amounts, windows, level, report.period)
        figures[month] = _figures(found, report.period.output, level, of_month, windows)
    return figures


@dataclass(frozen=True, slots=True)
class Report:
    """What a line reported for a month. output_days: the days whose energy counts; empty for the whole month."""

    period: Period
    output_days: tuple[date, ...] = field(default=())


def _reports(connection: Connection, line: Line, months: Sequence[date], now: datetime) -> dict[date, Report]:
    given: dict[date, list[Output]] = defaultdict(list)
    for output in ratios.outputs(connection, line, months[0], calendar.next_month(months[-1])):
        given[calendar.month_of(output.period)].append(output)
    return {month: _report(line, month, given[month], now) for month in months}


def _report(line: Line, month: date, given: Sequence[Output], now: datetime) -> Report:
    """A figure of the whole month goes before figures of its days."""
    is_over = calendar.month_bounds(month)[1] <= now
    of_month = [output for output in given if output.grain == "month"]
    counted = of_month or list(given)
    values = [output.value for output in counted if output.value is not None]
    missing = not of_month and bool(counted) and len(counted) < _days_in_service(line, month)
    period = Period(
        is_over=is_over,
        output=sum(values, Decimal(0)) if values else None,
        is_output_unit_known=len(values) == len(counted),
        has_missing_output_days=is_over and missing,
    )
    return Report(period, () if of_month else tuple(sorted(output.period for output in counted)))


def _days_in_service(line: Line, month: date) -> int:
    last = min(calendar.next_month(month), line.to_on or date.max)
    return max((last - max(month, line.from_on)).days, 0)


def _periods(reports: dict[date, Report], now: datetime) -> list[tuple[date, datetime, datetime]]:
    """The stretches whose windows are expected, up to now: the month, or exactly the days that have an output."""
    stretches = []
    for month, report in reports.items():
        bounds = [calendar.day_bounds(day) for day in report.output_days] or [calendar.month_bounds(month)]
        stretches += [(month, from_at, min(to_at, now)) for from_at, to_at in bounds if from_at < now]
    return stretches


def _figures(
    found: Assessment, output: Decimal | None, level: Level | None, of_month: EnergyOfMonth, windows: Windows
) -> dict[str, Any]:
    return {
        "actual": _stored(found.actual),
        "energy": _stored(found.energy),
        "output": output,
        "level_id": level.level_id if level else None,
        "benchmark": level.benchmark if level else None,
        "baseline": level.baseline if level else None,
        "level_confidence": level.confidence if level else None,
        "status": found.status,
        "ratio": _stored(found.ratio),
        "position": _stored(found.position),
        "reason": found.reason,
        "is_provisional": found.is_provisional,
        "factor_set": " + ".join(sorted(of_month.factor_sets)) or None,
        "has_recalled_factor": of_month.has_recalled_factor,
        "windows_expected": windows.expected,
        "windows_received": windows.received,
        "windows_estimated": windows.estimated,
    }


def _stored(value: Fraction | None) -> Decimal | None:
    return None if value is None else to_decimal(value, STORED_PLACES)


def _months(from_at: datetime, to_at: datetime) -> list[date]:
    month = calendar.month_of(calendar.business_day(from_at))
    last = calendar.business_day(to_at - timedelta(microseconds=1))
    months = []
    while month <= last:
        months.append(month)
        month = calendar.next_month(month)
    return months
