"""Figures of quarters, years, years to date and twelve months out of the months of a line.

The stage stores quarters and years, which are ranked; what runs with the present (year to date, twelve months), and any
longer period as it was known at an instant, is made from the months when it is asked for, by the same rules.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

from app.domain import calendar, periods, quota
from app.domain.accounting import to_decimal
from app.domain.benchmark import Indicator, Level, Windows
from app.domain.periods import Grain, MonthOfLine

# A stored figure keeps so many decimals; statuses are decided on the exact fraction before. Energy is kept whole:
# longer periods are its sums.
STORED_PLACES, ENERGY_PLACES = 12, 60
STORED_GRAINS = (Grain.QUARTER, Grain.YEAR)
Figures = Mapping[str, Any]


class InService(Protocol):
    """A line as far as a period needs it."""

    @property
    def indicator(self) -> Indicator: ...
    @property
    def unit(self) -> str: ...
    @property
    def from_on(self) -> date: ...
    @property
    def to_on(self) -> date | None: ...


def is_in_service(line: InService, month: date) -> bool:
    """Whether a line was in service in a month, or in a part of it."""
    return line.from_on < calendar.next_month(month) and (line.to_on is None or month < line.to_on)


def figures(
    line: InService,
    grain: Grain,
    period: date,
    months: Mapping[date, Figures],
    now: datetime,
    yearly_output: Decimal | None = None,
) -> dict[str, Any] | None:
    """Return the figure of a period by column (ratios.FIGURES) from its months' figures; None before it begins.

    `yearly_output`, a reported figure of the whole year in the indicator's unit, goes before the months' own.
    """
    covered = periods.months_of(grain, period)
    expected = [month for month in covered if is_in_service(line, month) and calendar.month_bounds(month)[0] <= now]
    if not expected:
        return None
    given = [(month, months[month]) for month in expected if month in months]
    found = periods.total(
        line.indicator,
        grain,
        [_month(month, row) for month, row in given],
        expected,
        is_over=calendar.month_bounds(covered[-1])[1] <= now,
        yearly_output=yearly_output,
    )
    rows = [row for _, row in given]
    of = found.assessment
    graded = None if of.actual is None else quota.grade(of.actual, found.limits, line.indicator.direction)
    return {
        "actual": stored(of.actual),
        "unit": line.unit,
        "energy": stored(of.energy, ENERGY_PLACES),
        "output": found.output,
        "output_source": "reported" if yearly_output is not None else _source(rows),
        "level_id": found.level.level_id if found.level else None,
        "benchmark": found.level.benchmark if found.level else None,
        "baseline": found.level.baseline if found.level else None,
        "level_confidence": found.level.confidence if found.level else None,
        "status": of.status.value,
        "ratio": stored(of.ratio),
        "position": stored(of.position),
        "quota_limit_id": found.quota_limit_id,
        "quota_level_1": found.limits[0],
        "quota_level_2": found.limits[1],
        "quota_level_3": found.limits[2],
        "quota_grade": graded and graded.value,
        "corrections": None,
        "reason": of.reason and of.reason.value,
        "is_provisional": of.is_provisional,
        "windows_expected": found.windows.expected,
        "windows_received": found.windows.received,
        "windows_estimated": found.windows.estimated,
        "factor_set": _factor_set(rows),
        "has_recalled_factor": any(row["has_recalled_factor"] for row in rows),
    }


def stored(value: Fraction | None, places: int = STORED_PLACES) -> Decimal | None:
    """Return a figure with the decimals that are stored of it."""
    return None if value is None else to_decimal(value, places)


def _month(month: date, row: Figures) -> MonthOfLine:
    return MonthOfLine(
        month=month,
        energy=row["energy"],
        output=row["output"],
        has_value=row["actual"] is not None,
        reason=row["reason"],
        windows=Windows(row["windows_expected"] or 0, row["windows_received"] or 0, row["windows_estimated"] or 0),
        level=Level(row["level_id"], row["benchmark"], row["baseline"], row["level_confidence"] or ""),
        limits=(row["quota_level_1"], row["quota_level_2"], row["quota_level_3"]),
        quota_limit_id=row["quota_limit_id"],
    )


def _source(rows: Sequence[Figures]) -> str | None:
    sources = {row["output_source"] for row in rows} - {None}
    return "both" if len(sources) > 1 else next(iter(sources), None)


def _factor_set(rows: Sequence[Figures]) -> str | None:
    """Every set that a part was converted by: a change of sets within a period is named, never hidden."""
    names = {name for row in rows if row["factor_set"] for name in row["factor_set"].split(" + ")}
    return " + ".join(sorted(names)) or None
