"""What a line can make in a whole year, by the capacity that it is registered or reported with. Exact."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

HOURS_OF_A_DAY = 24


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measure; of a rate (kW, t/h), `per_unit` is canonical units in one hour."""

    canonical: str
    per_unit: Decimal
    is_rate: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a line can make, in its unit: `t/a`, `10^4 t/a`, `t/d`, `kW` …"""

    value: Decimal
    unit: str


def holding(on: date, reported: Mapping[date, Capacity], registered: Capacity | None) -> Capacity | None:
    """Return the capacity that holds on a day: the latest reported one by the day it begins, else the registry's."""
    begun = [day for day in reported if day <= on]
    held = reported[max(begun)] if begun else registered
    return held if held is not None and held.value > 0 else None


def amount_of_year(capacity: Capacity, year: int, wanted: str, units: Mapping[str, Unit]) -> Fraction | None:
    """Return in a unit what a capacity amounts to in a calendar year; None where its unit does not convert to it.

    A capacity by the year is taken as it is, one by the day or the hour for every day of the year without a stop.
    """
    days = (date(year + 1, 1, 1) - date(year, 1, 1)).days
    hours = days * HOURS_OF_A_DAY
    rate = units.get(capacity.unit)
    if rate is not None and rate.is_rate:
        canonical, times = rate.canonical, Fraction(rate.per_unit) * hours
    else:
        of_unit, _, time = capacity.unit.rpartition("/")
        amount = units.get(of_unit, Unit(of_unit, Decimal(1)))
        canonical, times = amount.canonical, Fraction(amount.per_unit) * {"a": 1, "d": days, "h": hours}.get(time, 0)
    asked = units.get(wanted, Unit(wanted, Decimal(1)))
    if canonical != asked.canonical or asked.is_rate or not times:
        return None
    return Fraction(capacity.value) * times / Fraction(asked.per_unit)
