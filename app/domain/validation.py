"""Validation of what the rollup made: completeness, day start, standstill, sums that must agree, clocks. Pure.

Metering judges readings and the steps between them; validation judges days and months of a point against what the
monitoring rules ask for (online_monitoring_spec.md, section 6; calculation_rules.md, section 10). A rule returns a
Breach or None; a breach is a finding with a fault clock (`due_on`). (P) marks a convention of this product.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from app.domain.benchmark import COMPLETENESS_MIN
from app.domain.calendar import day_bounds, day_published_at, day_start, month_bounds, month_of, month_published_at
from app.domain.metering import Meter, Reason, Signal

# A day starts with a register read at 00:00, give or take one minute (N10). A clock that is off by more breaks it.
DAY_START_TOLERANCE = timedelta(minutes=1)
CLOCK_TOLERANCE_S = Decimal(60)
# Fewer messages in a day do not show that all of them were late (P): one prompt message disproves a slow clock.
CLOCK_LEAST_MESSAGES = 4
# Days against the monthly value: a deviation of at most 5 % (N10). A feeder against its sub-meters: the same (P).
MONTHLY_TOLERANCE = Decimal("0.05")
FEEDER_TOLERANCE = Decimal("0.05")
# An interval of so many seconds is a value of a month: its tag says which one, day 1, give or take a day (N10).
MONTHLY_INTERVAL_S = 28 * 86_400
MONTH_START_TOLERANCE = timedelta(days=1)
# Frozen (P): all expected intervals of a day without a movement, where the same weekday of the four weeks before moved.
# The weekday is compared because works rest on Sundays; at least two of the four must be known.
FROZEN_WEEKS, FROZEN_LEAST_KNOWN = 4, 2
FROZEN_LEAST_WINDOWS = 24
# Faults are to be repaired within three working days (provincial rule, P5).
WORKING_DAYS = 3
SATURDAY = 5
# What metering notes though nothing is to be repaired: a register that rolled over is counted. It has no clock.
NO_FAULT = frozenset({Reason.ROLLOVER})
DAY, MONTH = "day", "month"


class Rule(StrEnum):
    """What was broken. Public: stored in `finding.reason`, next to the reasons of metering."""

    INCOMPLETE = "incomplete"
    OUT_OF_RANGE = "out_of_range"
    NO_DAY_START = "no_day_start"
    FROZEN = "frozen"
    CLOCK_SKEW = "clock_skew"
    MONTHLY_DEVIATION = "monthly_deviation"
    FEEDER_DEVIATION = "feeder_deviation"


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that a day or a month of a point (or a day of a gateway) breaks; its period identifies it."""

    rule: Rule
    grain: str
    from_at: datetime
    to_at: datetime
    detail: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageDay:
    """What a day of a point holds. `has_moved`: its register rose, its energy was above zero, its load changed."""

    quantity: Decimal
    expected: int
    received: int
    has_moved: bool

    @property
    def is_complete(self) -> bool:
        """Whether the share of received windows is enough; a day without any expected window is."""
        return is_complete(self.expected, self.received)


def is_complete(expected: int, received: int) -> bool:
    """Whether received / expected is at least 90 %, compared without a division."""
    return received >= COMPLETENESS_MIN * expected


def incomplete_day(day: date, usage: UsageDay) -> Breach | None:
    """Completeness of a day (calculation rules, example 10.2: 86 of 96 windows fail, 87 pass)."""
    return _incomplete(DAY, day_bounds(day), usage.expected, usage.received)


def incomplete_month(month: date, expected: int, received: int, now: datetime) -> Breach | None:
    """Completeness of a month, once it is published."""
    if now < month_published_at(month):
        return None
    return _incomplete(MONTH, month_bounds(month), expected, received)


def _incomplete(grain: str, bounds: tuple[datetime, datetime], expected: int, received: int) -> Breach | None:
    if is_complete(expected, received):
        return None
    detail: dict[str, str | int] = {
        "expected": expected,
        "received": received,
        "share": _percent(Decimal(received), Decimal(expected)),
    }
    return Breach(Rule.INCOMPLETE, grain, *bounds, detail)


@dataclass(frozen=True, slots=True)
class Range:
    """The lowest and the highest value that counts of a day, and what the registry allows; in the point's unit."""

    lowest: Decimal
    highest: Decimal
    value_min: Decimal | None
    value_max: Decimal | None


def out_of_range(day: date, values: Range) -> Breach | None:
    """Values outside the point's registered range (dataValueMin, dataValueMax).

    They count until an edit voids them (P): metering judges by what a meter can physically have counted, and a limit
    that was registered too low must not stop a register.
    """
    is_low = values.value_min is not None and values.lowest < values.value_min
    is_high = values.value_max is not None and values.highest > values.value_max
    if not is_low and not is_high:
        return None
    named = {"lowest": values.lowest, "highest": values.highest, "value_min": values.value_min}
    named["value_max"] = values.value_max
    detail = {name: format(value, "f") for name, value in named.items() if value is not None}
    return Breach(Rule.OUT_OF_RANGE, DAY, *day_bounds(day), detail)


def no_day_start(day: date, meter: Meter, usage: UsageDay, *, is_read_at_start: bool) -> Breach | None:
    """A register must be read at 00:00 within one minute, if it was in service before and was read that day at all."""
    start = day_start(day)
    if meter.signal is not Signal.REGISTER or is_read_at_start or usage.received == 0:
        return None
    if meter.interval_s(start) > 86_400 or not _is_in_service_over(meter, start):
        return None
    return Breach(Rule.NO_DAY_START, DAY, *day_bounds(day), {"tolerance_s": int(DAY_START_TOLERANCE.total_seconds())})


def _is_in_service_over(meter: Meter, at: datetime) -> bool:
    """Whether one meter and one assignment were there before an instant and after it."""
    return all(
        any(row.from_at < at and (row.to_at is None or at < row.to_at) for row in rows)
        for rows in (meter.installations, meter.services)
        if rows
    )


def frozen(day: date, usage: UsageDay, same_weekdays: Sequence[UsageDay]) -> Breach | None:
    """A register (or load) that stood still for a whole complete day on which it always moved in the weeks before."""
    if usage.has_moved or usage.expected < FROZEN_LEAST_WINDOWS or not usage.is_complete:
        return None
    known = [one for one in same_weekdays if one.is_complete and one.expected > 0]
    if len(known) < FROZEN_LEAST_KNOWN or not all(one.has_moved for one in known):
        return None
    return Breach(Rule.FROZEN, DAY, *day_bounds(day), {"windows": usage.received, "weeks_moved": len(known)})


def frozen_compared_with(day: date) -> list[date]:
    """Return the days that a standstill is compared with."""
    return [day - timedelta(weeks=n) for n in range(1, FROZEN_WEEKS + 1)]


def clock_skew(day: date, least_delay_s: Decimal | None, messages: int, reported_s: Decimal | None) -> Breach | None:
    """A gateway's clock off by more than a minute.

    `least_delay_s`: the least time from a message's `sent_at` to its receipt on that day. Below -60 s its clock is
    ahead for certain; above 60 s over several messages it is behind, or every message was held back so long.
    `reported_s`: the gateway's clock minus the service's at its last heartbeat, if that was on this day.
    """
    skew_s: Decimal | None = None
    if least_delay_s is not None and (
        least_delay_s < -CLOCK_TOLERANCE_S or (least_delay_s > CLOCK_TOLERANCE_S and messages >= CLOCK_LEAST_MESSAGES)
    ):
        skew_s = -least_delay_s
    elif reported_s is not None and abs(reported_s) > CLOCK_TOLERANCE_S:
        skew_s = reported_s
    if skew_s is None:
        return None
    # Whole seconds: the figure is an estimate, and a finding should not look new for a millisecond.
    return Breach(Rule.CLOCK_SKEW, DAY, *day_bounds(day), {"skew_s": int(skew_s)})


def monthly_deviation(month: date, day_sum: Decimal, monthly: Decimal, checked_by: str) -> Breach | None:
    """The days of a point against the value reported for the month (example 10.1: 5.2 % fails, 5.0 % passes)."""
    if not _deviates(day_sum, monthly, MONTHLY_TOLERANCE):
        return None
    detail = {
        "day_sum": format(day_sum, "f"),
        "monthly": format(monthly, "f"),
        "deviation": _percent(abs(day_sum - monthly), monthly),
        "checked_by": checked_by,
    }
    return Breach(Rule.MONTHLY_DEVIATION, MONTH, *month_bounds(month), detail)


@dataclass(frozen=True, slots=True)
class FeederDay:
    """A day of a feeder and of its sub-meters, those that feed back with a minus sign."""

    feeder: UsageDay
    sub_meters: tuple[UsageDay, ...]
    signs: tuple[int, ...]

    @property
    def is_comparable(self) -> bool:
        """Whether all of them were in service and are complete: what is missing is a fault of its own."""
        meters = (self.feeder, *self.sub_meters)
        return bool(self.sub_meters) and all(one.expected > 0 and one.is_complete for one in meters)


def feeder_deviation(month: date, days: Iterable[FeederDay]) -> Breach | None:
    """A feeder against the sum of its sub-meters over the comparable days of a month so far: at most 5 % apart (P)."""
    comparable = [day for day in days if day.is_comparable]
    feeder = sum((day.feeder.quantity for day in comparable), Decimal(0))
    subs = sum(
        (sign * sub.quantity for day in comparable for sub, sign in zip(day.sub_meters, day.signs, strict=True)),
        Decimal(0),
    )
    if not comparable or not _deviates(subs, feeder, FEEDER_TOLERANCE):
        return None
    detail: dict[str, str | int] = {
        "feeder": format(feeder, "f"),
        "sub_meters": format(subs, "f"),
        "deviation": _percent(abs(subs - feeder), feeder),
        "days": len(comparable),
    }
    return Breach(Rule.FEEDER_DEVIATION, MONTH, *month_bounds(month), detail)


def _deviates(found: Decimal, reference: Decimal, tolerance: Decimal) -> bool:
    return abs(found - reference) > tolerance * abs(reference)


def _percent(part: Decimal, whole: Decimal) -> str:
    """A share as it is shown, `89.58 %`; nothing to divide by is said so."""
    return f"{part / abs(whole) * 100:.2f} %" if whole else "no reference"


def is_due_for_validation(day: date, now: datetime) -> bool:
    """A day is judged when it is published: until noon of the next day a gateway may still deliver it."""
    return day_published_at(day) <= now


def month_published_with(day: date) -> date | None:
    """Return the last day of the month that was published since the day before this one was, or None.

    A month is judged with any of its days, but only from the 5th on, when all of them were handed over before: where
    nothing arrives meanwhile, nobody else would ask for it.
    """
    last_of_month = month_of(day) - timedelta(days=1)
    published_at = month_published_at(last_of_month)
    is_new = day_published_at(day - timedelta(days=1)) < published_at <= day_published_at(day)
    return last_of_month if is_new else None


def repaired_by(found_on: date, workdays: Mapping[date, bool]) -> tuple[date, bool]:
    """Return the third working day after a fault was found, and whether the official calendar knew all days on the way.

    `workdays` holds what the official calendar says: holidays and make-up workdays, or every day. A year of which it
    holds nothing is not loaded: there Monday to Friday are taken for working days.
    """
    loaded = {day.year for day in workdays}
    day, left, is_official = found_on, WORKING_DAYS, True
    while left:
        day += timedelta(days=1)
        is_official &= day.year in loaded
        left -= workdays.get(day, day.weekday() < SATURDAY)
    return day, is_official
