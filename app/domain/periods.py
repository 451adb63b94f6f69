"""Figures of a quarter, a year to date, a year and twelve months: sums of months, judged like a month. Exact.

Months add up to the year. The level of a period is that of its first month: old periods keep the old edition.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from app.domain import benchmark
from app.domain.accounting import to_decimal
from app.domain.benchmark import Assessment, Indicator, Level, Reason, Status, Windows
from app.domain.calendar import month_of
from app.domain.quota import NO_LIMITS, Limits

_EXACT = Context(prec=200, traps=[Inexact])
MONTHS_OF_A_YEAR = 12
_PERIOD = re.compile(r"(?P<year>[12]\d{3})(-Q(?P<quarter>[1-4])|-(?P<month>0[1-9]|1[0-2]))?", re.ASCII)


class Grain(StrEnum):
    """The period of a figure. Quarter and year are named by their first month, the other two by their last."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR_TO_DATE = "year_to_date"
    YEAR = "year"
    ROLLING_12_MONTHS = "rolling_12_months"


def previous_months(month: date, count: int) -> date:
    """Return the first day of the month `count` months before."""
    ordinal = month.year * 12 + month.month - 1 - count
    return date(ordinal // 12, ordinal % 12 + 1, 1)


def calendar_period(written: str) -> tuple[str, date, date]:
    """Return grain, first day and end (excluded) of a month `2026-10`, a quarter `2026-Q3` or a year `2025`.

    ValueError for anything else.
    """
    match = _PERIOD.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} is no period: write 2026-10, 2026-Q3 or 2025")
    year, quarter, month = match["year"], match["quarter"], match["month"]
    grain = Grain.MONTH if month else Grain.QUARTER if quarter else Grain.YEAR
    first = date(int(year), int(month) if month else int(quarter) * 3 - 2 if quarter else 1, 1)
    return grain.value, first, previous_months(first, -len(months_of(grain, first)))


def written_period(grain: str, first: date) -> str:
    """Return a month, quarter or year by its first day as `calendar_period` reads it."""
    if grain == Grain.QUARTER:
        return f"{first.year}-Q{(first.month + 2) // 3}"
    return f"{first:%Y-%m}" if grain == Grain.MONTH else f"{first.year}"


@lru_cache(maxsize=4096)
def months_of(grain: Grain, period: date) -> tuple[date, ...]:
    """Return the months of the period that a month names: a quarter or a year that it lies in, or that it ends."""
    month = month_of(period)
    first, count = {
        Grain.MONTH: (month, 1),
        Grain.QUARTER: (month.replace(month=(month.month - 1) // 3 * 3 + 1), 3),
        Grain.YEAR_TO_DATE: (month.replace(month=1), month.month),
        Grain.YEAR: (month.replace(month=1), MONTHS_OF_A_YEAR),
        Grain.ROLLING_12_MONTHS: (previous_months(month, MONTHS_OF_A_YEAR - 1), MONTHS_OF_A_YEAR),
    }[grain]
    return tuple(previous_months(first, -n) for n in range(count))


@dataclass(frozen=True, slots=True)
class MonthOfLine:
    """A line's stored month: what a longer period is summed from."""

    month: date
    energy: Decimal | None
    output: Decimal | None
    has_value: bool
    reason: str | None
    windows: Windows
    level: Level
    limits: Limits = NO_LIMITS
    quota_limit_id: int | None = None

    @property
    def counts(self) -> bool:
        """Whether energy and output of the month enter the sums: also those of a month that stood still."""
        return self.has_value or (
            self.reason == Reason.NO_OUTPUT and self.output == 0 and self.energy is not None and self._was_read
        )

    @property
    def has_energy(self) -> bool:
        """Whether the month's energy is known, whatever its output."""
        return self.energy is not None and self._was_read

    @property
    def _was_read(self) -> bool:
        return self.windows.received + self.windows.estimated > 0


@dataclass(frozen=True, slots=True)
class PeriodOfLine:
    """The figure of a longer period with the level and limits it was judged by, and the windows it rests on."""

    assessment: Assessment
    output: Decimal | None
    windows: Windows
    level: Level | None
    limits: Limits
    quota_limit_id: int | None


def total(
    indicator: Indicator,
    grain: Grain,
    months: Sequence[MonthOfLine],
    expected: Sequence[date],
    *,
    is_over: bool,
    yearly_output: Decimal | None = None,
) -> PeriodOfLine:
    """Return the figure over months (in order of time) of a line.

    `expected` are the months of the period that have begun, in which the line was in service: one that does not count
    makes the figure provisional. `yearly_output`, a figure of the whole year, goes before the months' own.
    """
    is_whole = grain is Grain.YEAR and yearly_output is not None
    counted = [month for month in months if (month.has_energy if is_whole else month.counts)]
    windows = Windows(
        sum(month.windows.expected for month in months),
        sum(month.windows.received for month in months),
        sum(month.windows.estimated for month in months),
    )
    energy = _sum([month.energy for month in counted])
    output = yearly_output if is_whole else _sum([month.output for month in counted])
    level = _level(months, counted)
    limits, quota_limit_id = _limits(months, counted)
    if not counted or not output:
        found = Assessment(
            actual=None,
            energy=Fraction(energy) if counted else None,
            status=Status.UNKNOWN,
            ratio=None,
            position=None,
            reason=_why_none(months),
            is_provisional=not is_over,
        )
        return PeriodOfLine(found, output if counted else None, windows, level, limits, quota_limit_id)
    is_full = grain in (Grain.YEAR, Grain.ROLLING_12_MONTHS) and len(counted) == MONTHS_OF_A_YEAR
    doubt = _why_provisional(
        indicator, windows, counted, is_over=is_over, is_missing=len(counted) < len(expected), is_full=is_full
    )
    found = benchmark.judged(indicator, Fraction(energy), output, level, doubt)
    return PeriodOfLine(found, output, windows, level, limits, quota_limit_id)


def _sum(amounts: Sequence[Decimal | None]) -> Decimal:
    found = Decimal(0)
    for amount in amounts:
        found = _EXACT.add(found, amount or Decimal(0))
    return found


def _why_none(months: Sequence[MonthOfLine]) -> Reason:
    """The reason that all months share, else that there is no output for a figure."""
    reasons = {month.reason for month in months if not month.counts}
    return Reason(reasons.pop() or Reason.NO_OUTPUT) if len(reasons) == 1 else Reason.NO_OUTPUT


def _why_provisional(
    indicator: Indicator,
    windows: Windows,
    counted: Sequence[MonthOfLine],
    *,
    is_over: bool,
    is_missing: bool,
    is_full: bool,
) -> Reason | None:
    """The gravest doubt: data first, then time."""
    carried = (Reason.MISSING_OUTPUT_DAYS, Reason.INCOMPLETE_OUTPUT)
    doubts = [
        (not windows.is_complete, Reason.INCOMPLETE_READINGS),
        (is_missing, Reason.MISSING_MONTHS),
        *((any(month.reason == reason for month in counted), reason) for reason in carried),
        (not is_over, Reason.OPEN_PERIOD),
        (indicator.is_judged_on_year and not is_full, Reason.JUDGED_ON_YEAR),
    ]
    return next((reason for holds, reason in doubts if holds), None)


def _level(months: Sequence[MonthOfLine], counted: Sequence[MonthOfLine]) -> Level | None:
    """The edition of the first month; where its months were corrected differently, their mean by output."""
    if not months or months[0].level.level_id is None:
        return None
    first = months[0].level
    same = [month for month in counted if month.level.level_id == first.level_id]
    if not same:
        return first
    return replace(
        first,
        benchmark=_mean([(month.level.benchmark, month.output) for month in same]),
        baseline=_mean([(month.level.baseline, month.output) for month in same]),
    )


def _limits(months: Sequence[MonthOfLine], counted: Sequence[MonthOfLine]) -> tuple[Limits, int | None]:
    if not months or months[0].quota_limit_id is None:
        return NO_LIMITS, None
    first = months[0].quota_limit_id
    same = [month for month in counted if month.quota_limit_id == first] or [months[0]]
    level_1, level_2, level_3 = (_mean([(month.limits[n], month.output) for month in same]) for n in range(3))
    return (level_1, level_2, level_3), first


def _mean(levels: Sequence[tuple[Decimal | None, Decimal | None]]) -> Decimal | None:
    """The mean of a level over months, by output and to twelve decimals; the level itself where it did not change."""
    known = [(level, output or Decimal(0)) for level, output in levels if level is not None]
    if len({level for level, _ in known}) <= 1:
        return known[0][0] if known else None
    weight = sum((Fraction(output) for _, output in known), Fraction(0))
    if not weight:
        return known[0][0]
    mean = sum((Fraction(level) * Fraction(output) for level, output in known), Fraction(0)) / weight
    return to_decimal(mean, 12)


def index(parts: Sequence[tuple[Decimal, Decimal, Decimal, Decimal]]) -> Fraction | None:
    """Return the index of a unit with several products: actual energy / sum of output x benchmark.

    Parts are (energy, output, benchmark, base units in one of the indicator), all in one unit of energy. At most 1
    means that together they reach the benchmark. None unless both sums are positive: across signs it would mislead.
    """
    actual = sum((Fraction(energy) for energy, _, _, _ in parts), Fraction(0))
    allowed = sum(
        (Fraction(output) * Fraction(level) * Fraction(base) for _, output, level, base in parts), Fraction(0)
    )
    return actual / allowed if actual > 0 and allowed > 0 else None
