"""Signals that are not totalised: the energy of intervals (tagged by their start), and momentary loads (gauges)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from app.domain.metering import rules
from app.domain.metering.rules import EXACT
from app.domain.metering.terms import Installation, Meter, Reading, Reason, Step

# Intervals are counted from midnight UTC+8 (calculation rules, section 9, rule 5).
GRID_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(hours=8)

Counted = tuple[Reading, Installation]
Note = tuple[Reason, Reading]


def slot_of(at: datetime, interval_s: int) -> int:
    """Return the number of the interval that a start tag means; a tag may be off by under half an interval."""
    interval = timedelta(seconds=interval_s)
    return (at - GRID_ORIGIN + interval / 2) // interval


def interval_steps(meter: Meter, counted: list[Counted]) -> tuple[list[Step], list[Note]]:
    """Return one measured step per interval reading, covering [at, at + expected interval).

    Of two readings that mean the same interval the earlier tag counts; neither order of arrival nor any third reading
    matters. A negative value, or one above the load limit, gives no usage.
    """
    steps: list[Step] = []
    notes: list[Note] = []
    taken: tuple[int, int] | None = None
    for reading, installation in counted:
        interval_s = meter.interval_s(reading.at)
        slot = (interval_s, slot_of(reading.at, interval_s))
        energy = _scaled(meter, reading, installation)
        reason = _interval_doubt(installation, energy, interval_s)
        if slot == taken:
            reason = Reason.OVERLAPPING_INTERVAL
        taken = slot
        if reason is None:
            to_at = reading.at + timedelta(seconds=interval_s)
            steps.append(Step(reading.at, to_at, Decimal(0), energy, is_measured=not reading.is_manual))
        else:
            notes.append((reason, reading))
    return steps, notes


def gauge_steps(meter: Meter, counted: list[Counted]) -> tuple[list[Step], list[Note]]:
    """Return steps between neighbouring loads at most 1.5 x the expected interval apart (derived energy).

    The trapezoid rule: the load goes linearly from one reading to the next. A longer gap is left empty, since nothing
    is known of the load in it.
    """
    notes = [(reason, r) for r, i in counted if (reason := _load_doubt(meter, r, i)) is not None]
    doubted = {reading.at for _, reading in notes}
    standing = [(r, i) for r, i in counted if r.at not in doubted]
    return list(_trapezoids(meter, standing)), notes


def _trapezoids(meter: Meter, standing: list[Counted]) -> Iterator[Step]:
    for (first, installation), (second, next_installation) in pairwise(standing):
        seconds = rules.seconds_of(second.at - first.at)
        if installation is not next_installation or (seconds > rules.MEASURED_FACTOR * meter.interval_s(first.at)):
            continue
        loads = _scaled(meter, first, installation), _scaled(meter, second, installation)
        yield Step(
            first.at,
            second.at,
            Decimal(0),
            # Only for reading: hours are split from the loads, without this division.
            EXACT.divide(EXACT.multiply(EXACT.add(*loads), seconds), Decimal(2 * rules.HOUR_S)),
            is_measured=not (first.is_manual or second.is_manual),
            start_load=loads[0],
            end_load=loads[1],
        )


def _scaled(meter: Meter, reading: Reading, installation: Installation) -> Decimal:
    assert reading.value is not None  # noqa: S101 - readings without a value are not counted
    factor = EXACT.multiply(installation.multiplier, meter.canonical_per_unit)
    return EXACT.multiply(reading.value, factor)


def _interval_doubt(installation: Installation, energy: Decimal, interval_s: int) -> Reason | None:
    if energy < 0:
        return Reason.NEGATIVE_INTERVAL
    rated_load = installation.rated_load
    if rated_load is not None and not rules.is_within_load(energy, rated_load, Decimal(interval_s)):
        return Reason.IMPLAUSIBLE_JUMP
    return None


def _load_doubt(meter: Meter, reading: Reading, installation: Installation) -> Reason | None:
    load = _scaled(meter, reading, installation)
    if load < 0:
        return Reason.NEGATIVE_LOAD
    rated_load = installation.rated_load
    if rated_load is not None and load > EXACT.multiply(rated_load, rules.LOAD_MARGIN):
        return Reason.IMPLAUSIBLE_JUMP
    return None
