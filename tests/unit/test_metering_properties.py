"""Laws of metering: totals are kept, order does not matter, and a judgement looks no further than it says."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.calendar import hour_ceiling, hour_floor
from app.domain.metering import (
    CONTEXT_AFTER,
    CONTEXT_BEFORE,
    ZONE_AFTER,
    ZONE_BEFORE,
    Finding,
    Installation,
    Judgement,
    Meter,
    Reading,
    Service,
    Signal,
    UsageHour,
    judge,
    usage_hours,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=15)
SERVICES = (Service(START - timedelta(days=1), None, 900),)
RISES = ["0", "0", "1", "3.5", "20", "90"]
FAULTS = ["zero", "flip", "spike", "dip", "jitter", "reset", "bad", "disputed", "missing", "odd"]
SEEDS = st.integers(0, 2**32)


def history(seed: int, longest: int = 260) -> list[Reading]:
    """A register's year in small: rises, standstills, and every fault of the threads, most of them close together.

    Drawn by one seed: in the time of one example with drawn lists there are ten of these, and faults that meet are
    what the laws are about.
    """
    rng = random.Random(seed)
    count, centre = rng.choice([longest, rng.randint(2, longest)]), rng.randint(0, longest)
    begun = rng.randint(0, count)
    still = range(begun, begun + rng.choice([0, rng.randint(0, 70)]))
    spread = rng.choice([8, 20, longest])
    faults = {
        centre + rng.randint(-spread, spread): (rng.choice(FAULTS), rng.randint(1, 5))
        for _ in range(rng.randint(0, 12))
    }
    value, readings, active = Decimal(rng.choice(["0", "150", "99900"])), [], ("", 0)
    for i in range(count):
        rise = Decimal(0) if i in still else Decimal(rng.choice(RISES))
        value = (value + rise) % 100_000
        active = faults.get(i, (active[0], active[1] - 1))
        fault = active[0] if active[1] > 0 else ""
        if fault == "reset":
            value, active = Decimal(0), ("", 0)
        readings += shown(START + i * STEP, value, fault)
    return readings


def histories(longest: int = 260) -> st.SearchStrategy[list[Reading]]:
    return SEEDS.map(lambda seed: history(seed, longest))


@st.composite
def places(draw: st.DrawFn, longest: int = 260) -> tuple[list[Reading], int]:
    """A history, and the number of a step most often near what is wrong in it."""
    seed = draw(SEEDS)
    readings = history(seed, longest)
    odd = [i for i, (a, b) in enumerate(pairwise(readings)) if not 0 <= rise_of(a, b) <= 90]
    near = random.Random(seed).choice(odd) if odd else len(readings) // 2
    return readings, near + draw(st.integers(-25, 25))


def rise_of(before: Reading, after: Reading) -> Decimal:
    return Decimal(-1) if before.value is None or after.value is None else after.value - before.value


def shown(at: datetime, value: Decimal, fault: str) -> list[Reading]:
    if fault == "missing":
        return []
    if fault == "disputed":
        return [Reading(at, None, is_disputed=True)]
    if fault == "odd":
        return [Reading(at + timedelta(minutes=7), value)]
    changed = {"zero": Decimal(0), "flip": value * 1000, "spike": value + 5000, "dip": value - 7}
    changed["jitter"] = value - Decimal("0.5")
    return [Reading(at, changed.get(fault, value), quality=2 if fault == "bad" else 0)]


@st.composite
def meters(draw: st.DrawFn) -> Meter:
    rated_load = draw(st.sampled_from([None, Decimal(300), Decimal(2000)]))
    digits = draw(st.sampled_from([None, 5]))
    began, multiplier = START - timedelta(hours=5), Decimal("80.1")
    if draw(st.booleans()):
        initial = draw(st.sampled_from([None, Decimal(0)]))
        only = Installation(began, None, multiplier, digits, rated_load, initial_register=initial)
        return Meter(Signal.REGISTER, (only,), SERVICES, Decimal("0.001"))
    exchange = START + draw(st.integers(0, 180)) * STEP + draw(st.sampled_from([timedelta(), STEP / 5]))
    final, initial = draw(st.sampled_from([(None, None), (Decimal(400), Decimal(0)), (Decimal(10**5), None)]))
    old = Installation(began, exchange, multiplier, digits, rated_load, final_register=final)
    new = Installation(exchange, None, Decimal(3), digits, rated_load, initial_register=initial)
    return Meter(Signal.REGISTER, (old, new), SERVICES, Decimal("0.001"))


def hours_of(meter: Meter, readings: list[Reading]) -> list[UsageHour]:
    return usage_hours(meter, judge(meter, readings).steps)


def counts(reading: Reading) -> bool:
    return reading.value is not None and reading.quality < 2


def outward(readings: list[Reading], at: datetime, count: int, *, back: bool) -> datetime | None:
    """Return the instant of the count-th reading that counts before (or from) an instant, None past the end."""
    side = [r.at for r in readings if counts(r) and (r.at < at if back else r.at >= at)]
    if len(side) < count:
        return None
    return side[-count] if back else side[count - 1]


def windowed(meter: Meter, readings: list[Reading], from_at: datetime, to_at: datetime) -> Judgement:
    """Judge a stretch with its context only, as the rollup does."""
    low = outward(readings, from_at, CONTEXT_BEFORE, back=True)
    high = outward(readings, to_at, CONTEXT_AFTER, back=False)
    inside = [r for r in readings if (low is None or r.at >= low) and (high is None or r.at <= high)]
    return judge(meter, inside, known_from=low, known_to=high)


def between(findings: tuple[Finding, ...], from_at: datetime, to_at: datetime) -> list[Finding]:
    return [f for f in findings if from_at <= f.from_at < to_at]


@settings(max_examples=60, deadline=None)
@given(meters(), places(), st.integers(1, 60))
def test_a_stretch_with_its_context_equals_the_full_recomputation(
    meter: Meter, place: tuple[list[Reading], int], length: int
) -> None:
    readings, first = place
    from_at = hour_floor(START + first * STEP)
    to_at = from_at + timedelta(hours=length // 4 + 1)
    full, part = judge(meter, readings), windowed(meter, readings, from_at, to_at)
    assert usage_hours(meter, part.steps, from_at, to_at) == usage_hours(meter, full.steps, from_at, to_at)
    assert between(part.findings, from_at, to_at) == between(full.findings, from_at, to_at)


@pytest.mark.parametrize("still", [1, 30, 47, 48, 49, 60])
def test_how_long_a_register_stood_still_is_looked_up_in_the_context(still: int) -> None:
    """What a stuck gateway held back may come at once, for at most 48 readings: the window sees no less than all."""
    meter = Meter(Signal.REGISTER, (Installation(START - timedelta(days=1), rated_load=Decimal(400)),), SERVICES)
    values = [*range(0, 1000, 10), *[990] * still, 990 + 120 * min(still + 1, 48), 10_000]
    readings = [Reading(START + i * STEP, Decimal(value)) for i, value in enumerate(values)]
    from_at = hour_floor(readings[-2].at)
    full, part = judge(meter, readings), windowed(meter, readings, from_at, from_at + timedelta(hours=2))
    assert between(part.findings, from_at, START + timedelta(days=9)) == list(full.findings)
    assert [f.from_at for f in full.findings] == [readings[-2].at]


@settings(max_examples=60, deadline=None)
@given(meters(), places(), st.integers(1, 30), st.sampled_from(["0", "170", "1e6"]))
def test_a_change_reaches_no_further_than_its_zone(
    meter: Meter, place: tuple[list[Reading], int], length: int, value: str
) -> None:
    readings, first = place
    from_at, to_at = START + first * STEP, START + (first + length) * STEP
    kept = [r for r in readings if not from_at <= r.at < to_at]
    late = [*kept, *(Reading(r.at, Decimal(value)) for r in readings if from_at <= r.at < to_at and r.at.minute)]
    changed = sorted(late, key=lambda r: r.at)
    low = outward(kept, from_at, ZONE_BEFORE, back=True)
    high = outward(kept, to_at, ZONE_AFTER, back=False)
    zone_from = hour_floor(low) if low else START - timedelta(days=9)
    zone_to = hour_ceiling(high) if high else START + timedelta(days=9)
    for was, now in [(judge(meter, readings), judge(meter, changed)), (judge(meter, kept), judge(meter, readings))]:
        for outer in [(START - timedelta(days=9), zone_from), (zone_to, START + timedelta(days=9))]:
            assert usage_hours(meter, was.steps, *outer) == usage_hours(meter, now.steps, *outer)
            assert between(was.findings, *outer) == between(now.findings, *outer)


@settings(max_examples=25, deadline=None)
@given(meters(), histories(120))
def test_hours_sum_to_the_rounded_steps(meter: Meter, readings: list[Reading]) -> None:
    steps = judge(meter, readings).steps
    six = Decimal("0.000001")
    expected = sum((s.end.quantize(six, "ROUND_HALF_UP") - s.start.quantize(six, "ROUND_HALF_UP") for s in steps), 0)
    assert sum((h.quantity for h in usage_hours(meter, steps)), Decimal(0)) == expected
    assert all(s.end >= s.start and s.to_at > s.from_at for s in steps)
    assert all(a.to_at <= b.from_at for a, b in pairwise(steps))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(RISES), min_size=2, max_size=90), st.data())
def test_a_left_out_reading_leaves_the_total(rises: list[str], data: st.DataObject) -> None:
    """What comes back to its course keeps the total, whatever it showed meanwhile."""
    meter = Meter(Signal.REGISTER, (Installation(START, rated_load=Decimal(400)),))
    value, readings = Decimal(20_000), []
    for i, rise in enumerate(rises):
        value += Decimal(rise)
        readings.append(Reading(START + i * STEP, value))
    place = data.draw(st.integers(1, max(1, len(readings) - 2)))
    wrong = data.draw(st.sampled_from([Decimal(0), value * 1000, Decimal("1e12")]))
    if len(readings) < 3:
        return
    faulty = [*readings[:place], Reading(readings[place].at, wrong), *readings[place + 1 :]]
    assert sum(h.quantity for h in hours_of(meter, faulty)) == readings[-1].value - readings[0].value  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(histories(150))
def test_windows_never_exceed_what_is_expected(readings: list[Reading]) -> None:
    meter = Meter(Signal.REGISTER, (Installation(START - timedelta(hours=5)),), SERVICES)
    for hour in hours_of(meter, readings):
        assert 0 <= hour.windows_received + hour.windows_estimated <= hour.windows_expected == 4
