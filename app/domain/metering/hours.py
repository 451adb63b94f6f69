"""Accepted steps into hours: quantities that sum to the total exactly, and windows by covered time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from app.domain.calendar import HOUR, hour_floor
from app.domain.metering.increments import GRID_ORIGIN
from app.domain.metering.rules import EXACT, HOUR_S
from app.domain.metering.terms import DEFAULT_INTERVAL_S, Meter, Step

PLACES = Decimal("0.000001")
MICROSECOND = timedelta(microseconds=1)
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UsageHour:
    """Usage of one point in one hour, canonical units, six decimals; windows are counts of expected intervals."""

    hour_at: datetime
    quantity: Decimal
    windows_expected: int
    windows_received: int
    windows_estimated: int


@dataclass(slots=True)
class _Sum:
    quantity: Decimal = Decimal(0)
    measured: timedelta = timedelta()
    estimated: timedelta = timedelta()
    long_received: int = 0
    long_estimated: int = 0


def round_ratio(numerator: int, denominator: int) -> int:
    """Round a ratio half away from zero, as PostgreSQL rounds numeric; the denominator is positive."""
    size = (2 * abs(numerator) + denominator) // (2 * denominator)
    return size if numerator >= 0 else -size


def _round_scaled(numerator: Decimal, denominator: int) -> Decimal:
    """Round numerator / denominator to six decimals, half away from zero, without an intermediate rounding."""
    exponent = numerator.as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    whole = int(EXACT.scaleb(numerator, digits))
    return Decimal(round_ratio(whole * 10**6, denominator * 10**digits)).scaleb(-6)


def running_total(step: Step, at: datetime) -> Decimal:
    """Return the running total of a step at an instant inside it, rounded to six decimals.

    A register's total is linear between its ends (calculation rules, section 10); a gauge's is the integral of a
    linearly changing load.
    """
    whole, part = (step.to_at - step.from_at) // MICROSECOND, (at - step.from_at) // MICROSECOND
    if step.start_load is not None and step.end_load is not None:
        difference = EXACT.subtract(step.end_load, step.start_load)
        slope = EXACT.multiply(difference, Decimal(part * part))
        level = EXACT.multiply(step.start_load, Decimal(2 * whole * part))
        return _round_scaled(EXACT.add(level, slope), 2 * whole * HOUR_S * 10**6)
    if part in (0, whole):
        return (step.end if part else step.start).quantize(PLACES, ROUND_HALF_UP, context=EXACT)
    rise = EXACT.multiply(EXACT.subtract(step.end, step.start), Decimal(part))
    return _round_scaled(EXACT.add(EXACT.multiply(step.start, Decimal(whole)), rise), whole)


def hour_pieces(step: Step) -> Iterator[tuple[datetime, Decimal, timedelta]]:
    """Yield (hour, quantity, covered time) of a step; the quantities telescope to the rounded total."""
    from_at = step.from_at.astimezone(UTC)
    to_at = step.to_at.astimezone(UTC)
    total = running_total(step, from_at)
    while from_at < to_at:
        hour_at = hour_floor(from_at)
        until = min(to_at, hour_at + HOUR)
        reached = running_total(step, until)
        yield hour_at, reached - total, until - from_at
        from_at, total = until, reached


def usage_hours(
    meter: Meter,
    steps: Iterable[Step],
    from_at: datetime | None = None,
    to_at: datetime | None = None,
) -> list[UsageHour]:
    """Return the hours that the steps reach, in order, only those in [from_at, to_at) if given."""
    sums: dict[datetime, _Sum] = defaultdict(_Sum)
    for step in steps:
        _add(meter, sums, step)
    hours = sorted(h for h in sums if (from_at is None or h >= from_at) and (to_at is None or h < to_at))
    return [_usage(meter, hour_at, sums[hour_at]) for hour_at in hours]


def _add(meter: Meter, sums: dict[datetime, _Sum], step: Step) -> None:
    for hour_at, quantity, covered in hour_pieces(step):
        entry = sums[hour_at]
        entry.quantity += quantity
        if step.is_measured:
            entry.measured += covered
        else:
            entry.estimated += covered
    interval_s = meter.interval_s(step.from_at)
    if interval_s > HOUR_S:  # such windows are counted where they start
        windows = round_ratio((step.to_at - step.from_at) // MICROSECOND, interval_s * 10**6)
        entry = sums[hour_floor(step.from_at)]
        if step.is_measured:
            entry.long_received += windows
        else:
            entry.long_estimated += windows


def _usage(meter: Meter, hour_at: datetime, entry: _Sum) -> UsageHour:
    interval_s, in_service = _in_service(meter, hour_at)
    if interval_s > HOUR_S:
        expected = _long_windows(hour_at, interval_s) if in_service else 0
        return UsageHour(hour_at, entry.quantity, expected, entry.long_received, entry.long_estimated)
    width = interval_s * 10**6
    expected = windows_in_service(meter, hour_at, hour_at + HOUR)
    measured = min(entry.measured, in_service)
    received = min(expected, round_ratio(measured // MICROSECOND, width))
    estimated_time = min(entry.estimated, in_service)
    estimated = min(expected - received, round_ratio(estimated_time // MICROSECOND, width))
    return UsageHour(hour_at, entry.quantity, expected, received, estimated)


def _long_windows(hour_at: datetime, interval_s: int) -> int:
    """Windows longer than an hour that start in this hour, counted from midnight UTC+8."""
    interval = timedelta(seconds=interval_s)
    before = hour_at - GRID_ORIGIN - MICROSECOND
    return (before + HOUR) // interval - before // interval


def _in_service(meter: Meter, hour_at: datetime) -> tuple[int, timedelta]:
    """Return the expected interval of an hour (of its first stretch in service) and the time in service in it."""
    stretches = list(_stretches(meter, hour_at, hour_at + HOUR))
    if not stretches:
        return DEFAULT_INTERVAL_S, timedelta()
    return stretches[0][1], sum((duration for duration, _ in stretches), timedelta())


def _stretches(meter: Meter, from_at: datetime, to_at: datetime) -> Iterator[tuple[timedelta, int]]:
    """Yield (duration, expected interval) of the stretches of [from_at, to_at) in service, in order of time."""
    services = [(s.from_at, s.to_at, s.interval_s) for s in meter.services]
    for start, end, interval_s in services or [(from_at, None, DEFAULT_INTERVAL_S)]:
        for installation in meter.installations:
            first = max(from_at, start, installation.from_at)
            last = min(to_at, end or END_OF_TIME, installation.to_at or END_OF_TIME)
            if first < last:
                yield last - first, interval_s


def windows_in_service(meter: Meter, from_at: datetime, to_at: datetime) -> int:
    """Return the windows expected in [from_at, to_at): time in service / expected interval, rounded once."""
    numerator, denominator = 0, 1
    for duration, interval_s in _stretches(meter, from_at, to_at):
        width = interval_s * 10**6
        numerator, denominator = (
            numerator * width + (duration // MICROSECOND) * denominator,
            denominator * width,
        )
    return round_ratio(numerator, denominator)


def is_steady(meter: Meter, from_at: datetime, to_at: datetime) -> bool:
    """Whether one meter and one expected interval hold from start to end: then equal times expect equal windows."""
    durations = [duration for duration, _ in _stretches(meter, from_at, to_at)]
    return durations == [to_at - from_at]
