"""Energy and output to ratios: many lines at once, by month, judged against the level in force; then quarter and year.

Only what differs is written, so that a second run changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.db import levels, ratio_inputs, ratios, revisions, stale
from app.db.ratio_inputs import EnergyAsked, EnergyOfMonth, Line, Output, Yardsticks
from app.db.stale import Claim
from app.domain import benchmark, calendar, quota
from app.domain.benchmark import COMPLETENESS_MIN, Level, Period, Windows
from app.domain.periods import Grain
from app.domain.periods import months_of as grain_months
from app.pipeline import announce, periods

STAGE = "benchmark"
# One transaction takes so many lines; a batch that fails is cut down to the line that fails.
MOST_LINES = 256
EnergyReader = Callable[[Connection, Sequence[EnergyAsked]], Sequence[Mapping[date, EnergyOfMonth]]]


def run(engine: Engine, now: datetime) -> int:
    """Compute the stale months of a batch of lines and mark these for the alert stage; return the marks taken."""
    most = MOST_LINES
    while True:
        try:
            return _work_off(engine, now, most)
        except Exception as error:
            if most == 1 or (isinstance(error, DBAPIError) and error.connection_invalidated):
                raise
            most //= 4


def _work_off(engine: Engine, now: datetime, most: int) -> int:
    with engine.begin() as connection:
        claims = stale.claim_many(connection, STAGE, most)
        levels.let_judge(connection)
        # Revisions carry the cause of their own line's marks, so lines go by what made them stale.
        for cause, of_cause in groupby(sorted(claims, key=lambda claim: claim.cause), key=lambda claim: claim.cause):
            revisions.begin_run(connection, now, cause)
            months = {claim.subject_id: months_of(claim) for claim in of_cause}
            changed = recompute(connection, months, now)
            marks = [(line_id, None, *_bounds(months[line_id])) for line_id in sorted(changed)]
            stale.mark_many(connection, "alert", marks, cause=cause)
        if claims:
            announce.revised(connection, now)
        return sum(len(claim.marks) for claim in claims)


def refresh(engine: Engine, now: datetime) -> int:
    """Mark what changes by the clock alone: a month that has closed, a line whose latest closed month is another."""
    month = calendar.month_of(calendar.month_of(calendar.business_day(now)) - timedelta(days=1))
    bounds = calendar.month_bounds(month)
    with engine.begin() as connection:
        return ratios.mark_closed(connection, month, bounds) + ratios.mark_alerts(connection, bounds)


def recompute(connection: Connection, months: Mapping[int, Sequence[date]], now: datetime) -> set[int]:
    """Bring the given months (in order) of lines, and the quarters and years around them, up to their inputs.

    Returns the lines of which a figure changed.
    """
    asked = [
        (line, [month for month in months[line.line_id] if periods.is_in_service(line, month)])
        for line in ratio_inputs.lines(connection, list(months))
    ]
    years = {month.year for of_line in months.values() for month in of_line}
    before = ratios.stored(connection, list(months), min(years), max(years))
    after = {key: row for key, row in before.items() if key[2] != "month" or key[3] not in months[key[0]]}
    wanted = [(line, kept) for line, kept in asked if kept]
    for (line, _), of_line in zip(wanted, figures_of(connection, wanted, now), strict=True):
        for month, figures in of_line.items():
            after[line.line_id, line.variant_key, "month", month] = tuple(figures.values())
    _put_longer(connection, [line for line, _ in asked], months, after, now)
    fresh = {key: row for key, row in after.items() if before.get(key) != row}
    gone = before.keys() - after.keys()
    ratios.remove(connection, sorted(gone))
    ratios.write(connection, fresh, now)
    return {key[0] for key in fresh} | {key[0] for key in gone}


def _put_longer(
    connection: Connection,
    lines: Sequence[Line],
    months: Mapping[int, Sequence[date]],
    figures: dict[ratios.Key, tuple[Any, ...]],
    now: datetime,
) -> None:
    """Put the quarters and years of the lines' months beside their months; those of a former product go."""
    touched = {line_id: _longer_periods(of_line) for line_id, of_line in months.items()}
    by_line: dict[tuple[int, str], dict[date, dict[str, Any]]] = defaultdict(dict)
    for (line_id, variant_key, grain, period), row in list(figures.items()):
        if grain == "month":
            by_line[line_id, variant_key][period] = dict(zip(ratios.FIGURES, row, strict=True))
        elif (Grain(grain), period) in touched[line_id]:
            del figures[line_id, variant_key, grain, period]
    years = sorted({period for of_line in touched.values() for grain, period in of_line if grain is Grain.YEAR})
    yearly = ratio_inputs.yearly_outputs(connection, lines, years)
    for place, line in enumerate(lines):
        of_months = by_line[line.line_id, line.variant_key]
        for grain, period in touched[line.line_id]:
            output = yearly.get((place, period)) if grain is Grain.YEAR else None
            found = periods.figures(line, grain, period, of_months, now, output)
            if found is not None:
                figures[line.line_id, line.variant_key, grain.value, period] = tuple(found.values())


def _longer_periods(months: Sequence[date]) -> set[tuple[Grain, date]]:
    return {(grain, grain_months(grain, month)[0]) for month in months for grain in periods.STORED_GRAINS}


def figures_of(
    connection: Connection,
    wanted: Sequence[tuple[Line, Sequence[date]]],
    now: datetime,
    energy: EnergyReader = ratio_inputs.energy,
) -> list[dict[date, dict[str, Any]]]:
    """Return per line the ratio of each month, by column in the order of FIGURES, from the inputs as they stand.

    `energy`: of whole months and of single days; an explanation derives it from the readings, not from the table.
    """
    if not wanted:
        return []
    lines = [line for line, _ in wanted]
    reports = _reports(connection, wanted, now)
    asked = [EnergyAsked(line, *_energy_periods(of_line)) for line, of_line in zip(lines, reports, strict=True)]
    energies, served = energy(connection, asked), ratio_inputs.services(connection, lines)
    yardsticks = ratio_inputs.yardsticks(connection, lines)
    inputs = ratio_inputs.correction_inputs(connection, [line.line_id for line in lines])
    found = []
    for line, of_line, by_month, points in zip(lines, reports, energies, served, strict=True):
        of_variant, conditions = yardsticks[line.variant_key], inputs.get(line.line_id, [])
        figures = {}
        for month, report in of_line.items():
            energy_of_month = by_month.get(month, EnergyOfMonth())
            expected = ratio_inputs.windows_expected(points, _stretches(month, report, now))
            windows = Windows(expected, energy_of_month.received, energy_of_month.estimated)
            compared = _compared(of_variant, conditions, month)
            figures[month] = _figures(line, report, energy_of_month, windows, compared)
        found.append(figures)
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """What a line's output of a month is. output_days: the days whose energy counts; empty for the whole month."""

    period: Period
    output_days: tuple[date, ...] = field(default=())
    source: str | None = None  # reported | metered | both


def _reports(
    connection: Connection, wanted: Sequence[tuple[Line, Sequence[date]]], now: datetime
) -> list[dict[date, Report]]:
    first = min(months[0] for _, months in wanted)
    last = calendar.next_month(max(months[-1] for _, months in wanted))
    given = ratio_inputs.outputs(connection, [line for line, _ in wanted], first, last)
    found = []
    for (line, months), of_line in zip(wanted, given, strict=True):
        by_month: dict[date, list[Output]] = defaultdict(list)
        for output in of_line:
            by_month[output.month].append(output)
        found.append({month: _report(line, month, by_month[month], now) for month in months})
    return found


def _report(line: Line, month: date, given: Sequence[Output], now: datetime) -> Report:
    """A figure of the whole month goes before those of its days; a reported day before what a meter counted."""
    is_over = calendar.month_bounds(month)[1] <= now
    counted = [output for output in given if not output.days]
    if not counted:
        reported = {day for output in given if output.windows is None for day in output.days}
        counted = [output for output in given if output.windows is None or output.days[0] not in reported]
    days = tuple(sorted({day for output in counted for day in output.days}))
    values = [output.value for output in counted if output.value is not None]
    windows = [output.windows for output in counted if output.windows is not None]
    expected, received = sum(pair[0] for pair in windows), sum(pair[1] for pair in windows)
    period = Period(
        is_over=is_over,
        output=sum(values, Decimal(0)) if values else None,
        is_output_unit_known=len(values) == len(counted),
        has_missing_output_days=is_over and 0 < len(days) < _days_in_service(line, month),
        has_incomplete_output=received < COMPLETENESS_MIN * expected,
    )
    sources = ["reported"] * (len(windows) < len(counted)) + ["metered"] * bool(windows)
    source = "both" if len(sources) > 1 else next(iter(sources), None)
    # With an output on every day the month's own energy is that of its days.
    is_whole = len(days) == (calendar.next_month(month) - month).days
    return Report(period, () if is_whole else days, source)


def _days_in_service(line: Line, month: date) -> int:
    last = min(calendar.next_month(month), line.to_on or date.max)
    return max((last - max(month, line.from_on)).days, 0)


def _energy_periods(reports: Mapping[date, Report]) -> tuple[list[date], list[date]]:
    """The months that count as a whole, and the days of the others."""
    whole = [month for month, report in reports.items() if not report.output_days]
    return whole, [day for report in reports.values() for day in report.output_days]


def _stretches(month: date, report: Report, now: datetime) -> list[tuple[datetime, datetime]]:
    """The stretches whose windows are expected, up to now: the month, or exactly the days that have an output."""
    bounds: Iterable[tuple[datetime, datetime]] = [calendar.month_bounds(month)]
    if report.output_days:
        bounds = [(calendar.day_start(first), calendar.day_bounds(last)[1]) for first, last in _runs(report)]
    return [(from_at, min(to_at, now)) for from_at, to_at in bounds if from_at < now]


def _runs(report: Report) -> list[tuple[date, date]]:
    """Output days joined where one follows the other."""
    runs: list[tuple[date, date]] = []
    for day in report.output_days:
        if runs and day - runs[-1][1] == timedelta(days=1):
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs


@dataclass(frozen=True, slots=True)
class Compared:
    """What a month is compared with: level and limit in force, corrected by the line's conditions."""

    level: Level | None
    limit: quota.QuotaLimit | None
    limits: quota.Limits
    applied: tuple[quota.Applied, ...]


def _compared(of_variant: Yardsticks, conditions: Sequence[tuple[str, date, Decimal]], month: date) -> Compared:
    inputs = {key: value for key, from_month, value in conditions if from_month <= month}  # the latest stands last
    by = quota.applied(of_variant.corrections, inputs, month) if inputs else ()
    level = benchmark.level_of_month(of_variant.levels, month)
    limit = quota.limit_of_month(of_variant.limits, month)
    limits = quota.NO_LIMITS
    if limit is not None:
        limits = (
            quota.corrected(limit.level_1, "1", by),
            quota.corrected(limit.level_2, "2", by),
            quota.corrected(limit.level_3, "3", by),
        )
    return Compared(level and _corrected(level, by), limit, limits, by)


def _corrected(level: Level, by: Sequence[quota.Applied]) -> Level:
    if not any(one.level in ("benchmark", "baseline") for one in by):
        return level
    return benchmark.with_levels(
        level, quota.corrected(level.benchmark, "benchmark", by), quota.corrected(level.baseline, "baseline", by)
    )


def _figures(line: Line, report: Report, energy: EnergyOfMonth, windows: Windows, compared: Compared) -> dict[str, Any]:
    """A month by column, in the order of ratios.FIGURES."""
    level, limits = compared.level, compared.limits
    found = benchmark.assess(line.indicator, energy.amounts, windows, level, report.period)
    graded = None if found.actual is None else quota.grade(found.actual, limits, line.indicator.direction)
    return {
        "actual": periods.stored(found.actual),
        "unit": line.unit,
        "energy": periods.stored(found.energy, periods.ENERGY_PLACES),
        "output": report.period.output,
        "output_source": report.source,
        "level_id": level.level_id if level else None,
        "benchmark": level.benchmark if level else None,
        "baseline": level.baseline if level else None,
        "level_confidence": level.confidence if level else None,
        "status": found.status.value,
        "ratio": periods.stored(found.ratio),
        "position": periods.stored(found.position),
        "quota_limit_id": compared.limit.quota_limit_id if compared.limit else None,
        "quota_level_1": limits[0],
        "quota_level_2": limits[1],
        "quota_level_3": limits[2],
        "quota_grade": graded and graded.value,
        "corrections": [_applied(one) for one in compared.applied] or None,
        "reason": found.reason and found.reason.value,
        "is_provisional": found.is_provisional,
        "windows_expected": windows.expected,
        "windows_received": windows.received,
        "windows_estimated": windows.estimated,
        "factor_set": " + ".join(sorted(energy.factor_sets)) or None,
        "has_recalled_factor": energy.has_recalled_factor,
    }


def _applied(one: quota.Applied) -> dict[str, str]:
    return {
        "input_key": one.input_key,
        "level": one.level,
        "value": format(one.value, "f"),
        "points": format(one.points, "f"),
        "added": format(one.added, "f"),
    }


def months_of(claim: Claim) -> list[date]:
    """Return the months that the marks of a claim touch, in order."""
    return sorted({month for mark in claim.marks for month in _months(mark.from_at, mark.to_at)})


def _bounds(months: Sequence[date]) -> tuple[datetime, datetime]:
    return calendar.month_bounds(months[0])[0], calendar.month_bounds(months[-1])[1]


def _months(from_at: datetime, to_at: datetime) -> list[date]:
    month = calendar.month_of(calendar.business_day(from_at))
    last = calendar.business_day(to_at - timedelta(microseconds=1))
    months = []
    while month <= last:
        months.append(month)
        month = calendar.next_month(month)
    return months
