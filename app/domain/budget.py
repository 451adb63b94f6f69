"""Energy budgets (用能预算): how one is set, how much of it is used against the time that is over, where it leads."""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

Number = Decimal | Fraction | int


class ProjectionMethod(StrEnum):
    """How the year's end is projected; a projection without its method's name says nothing."""

    LINEAR_BY_DAYS = "linear_by_days"  # used so far / days over x days of the year


def baseline_budget_tce(products: Sequence[tuple[Number, Number]]) -> Fraction:
    """Return the budget by the baseline method: the sum of output (t) x baseline energy (kgce/t), in tce."""
    if not products:
        raise ValueError("the baseline method needs an output and its baseline unit energy")
    return sum((Fraction(output) * Fraction(unit_kgce) for output, unit_kgce in products), Fraction(0)) / 1000


def historical_budget_tce(past_tce: Sequence[Number], factor: Number = 1) -> Fraction:
    """Return the budget by the historical method: the mean of past years' energy (tce) x factor."""
    if not past_tce:
        raise ValueError("the historical method needs the energy of at least one past year")
    return sum((Fraction(year) for year in past_tce), Fraction(0)) / len(past_tce) * Fraction(factor)


@dataclass(frozen=True, slots=True)
class Use:
    """A budget in use: energy so far and the days it took."""

    used_tce: Number
    budget_tce: Number
    days_over: int
    days_in_year: int

    @property
    def used_pct(self) -> Fraction | None:
        """u = used / budget, in per cent; None for a budget of nothing."""
        return Fraction(self.used_tce) / Fraction(self.budget_tce) * 100 if self.budget_tce else None

    @property
    def time_pct(self) -> Fraction:
        """t = days over / days of the year, in per cent."""
        return Fraction(self.days_over, self.days_in_year) * 100

    @property
    def ahead_points(self) -> Fraction | None:
        """u - t in percentage points: above zero the budget is used faster than the year passes."""
        return None if self.used_pct is None else self.used_pct - self.time_pct

    def projected_tce(self, method: ProjectionMethod = ProjectionMethod.LINEAR_BY_DAYS) -> Fraction | None:
        """Return the energy of the whole year if it goes on like this; None before the first day is over."""
        if method is not ProjectionMethod.LINEAR_BY_DAYS:
            raise ValueError(f"unknown projection method {method!r}")
        return Fraction(self.used_tce) / self.days_over * self.days_in_year if self.days_over else None


def days_in_year(year: int) -> int:
    """Return 365 or 366."""
    return 366 if calendar.isleap(year) else 365


def day_of_year(day: date) -> int:
    """Return how many days of its year are over when a day is: 181 for 30 June of a common year."""
    return day.timetuple().tm_yday
