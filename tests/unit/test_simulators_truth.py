"""The laws of the simulated city: values follow from seed, point and instant, and add up exactly."""

from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.plan import PointPlan
from simulators.shapes import SLOTS, activity, cumulative, draw
from simulators.truth import DAY_S, QUARTER_S, City, Meter, day_start_s, number_of

CITY = City(seed=1)
METERS = sorted(CITY.meters.items())
REGISTERS = [(key, meter) for key, meter in METERS if meter.plan.signal == "register"]
BEGIN_S = day_start_s(number_of(date(2026, 9, 1)))
instants = st.integers(BEGIN_S, BEGIN_S + 90 * DAY_S)


def test_draw_is_the_published_splitmix64() -> None:
    # First outputs of splitmix64 with seed 0 (the generator adds the constant before mixing).
    assert [draw(0, number) for number in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@given(st.sampled_from(METERS), instants, instants, instants)
def test_usage_is_additive_and_never_negative(meter: tuple[tuple[str, str], Meter], a: int, b: int, c: int) -> None:
    (gateway, point), law = meter
    early, middle, late = sorted((a, b, c))
    if law.plan.signal == "gauge":
        early, middle, late = (at_s - at_s % QUARTER_S for at_s in (early, middle, late))
    first = CITY.usage_between(gateway, point, early, middle)
    second = CITY.usage_between(gateway, point, middle, late)
    assert first >= 0
    assert first + second == CITY.usage_between(gateway, point, early, late)


@given(st.sampled_from(REGISTERS), instants, st.integers(1, 2 * DAY_S))
def test_a_register_and_its_multiplier_give_the_usage(
    meter: tuple[tuple[str, str], Meter], from_s: int, length_s: int
) -> None:
    (gateway, point), law = meter
    first, last = (CITY.register_at(gateway, point, at_s) for at_s in (from_s, from_s + length_s))
    step = last - first + (10**law.plan.digits if last < first else 0)
    assert step * law.plan.multiplier == CITY.usage_between(gateway, point, from_s, from_s + length_s)
    assert 0 <= first < 10**law.plan.digits
    assert -first.as_tuple().exponent == law.plan.decimals  # type: ignore[operator]


def test_the_edges_of_a_day_are_the_law_at_these_instants() -> None:
    day = number_of(date(2026, 10, 7))
    for _, law in METERS[::7]:
        by_instant = [law.quanta_until(day_start_s(day) + slot * QUARTER_S) for slot in range(SLOTS + 1)]
        assert law.quarter_edges(day) == by_instant


def test_another_city_counts_otherwise_and_the_same_one_the_same() -> None:
    key, at_s = ("gw-clinker-01", "E101"), BEGIN_S + 12_345
    assert City(seed=1).register_at(*key, at_s) == CITY.register_at(*key, at_s)
    assert City(seed=2).register_at(*key, at_s) != CITY.register_at(*key, at_s)


@pytest.mark.parametrize("step_s", [10, QUARTER_S])
def test_no_register_step_exceeds_the_rated_load(step_s: int) -> None:
    """A service may refuse steps over rated load x time x 1.25; normal operation stays below, also sped up."""
    day = number_of(date(2026, 10, 7))
    for (gateway, point), law in REGISTERS:
        limit = Decimal(law.plan.rated_load * step_s) / 3600 * Decimal("1.25")
        # Evenly spaced over the day, every slot of the quarter hour pattern included.
        starts = range(day_start_s(day), day_start_s(day) + DAY_S, QUARTER_S if step_s == QUARTER_S else 1_090)
        worst = max(CITY.usage_between(gateway, point, at_s, at_s + step_s) for at_s in starts)
        assert worst <= limit, (gateway, point)


def test_some_register_rolls_over_within_two_months() -> None:
    rolled = [
        key for key, law in REGISTERS
        if CITY.register_at(*key, BEGIN_S + 75 * DAY_S) < CITY.register_at(*key, BEGIN_S)
        and law.plan.carrier == "natural_gas"
    ]  # fmt: skip
    assert rolled


def test_a_kiln_is_repaired_two_days_in_29_and_runs_otherwise() -> None:
    days = [activity("continuous", 7, day) for day in range(29 * 40)]
    assert sum(share < 700 for share in days) == 2 * 40
    assert all(share >= 910 for share in days if share >= 700)


@pytest.mark.parametrize("shape", ["flat", "batch", "day_night", "afternoon"])
def test_a_shape_covers_the_day_and_only_grows(shape: str) -> None:
    for template in range(8):
        sums = cumulative(shape, template)
        assert len(sums) == SLOTS + 1
        assert sums[0] == 0
        assert all(after > before for before, after in pairwise(sums))


def test_an_instant_before_the_meters_came_is_refused() -> None:
    with pytest.raises(ValueError, match="2025-01-01"):
        CITY.register_at("gw-clinker-01", "E101", day_start_s(number_of(date(2024, 12, 31))))


def point_plan(gateway: str, code: str) -> PointPlan:
    return CITY.meters[gateway, code].plan


def test_data_centre_output_is_what_its_it_meter_counts() -> None:
    line = next(line for line in CITY.lines if line.output_kind == "it_electricity")
    day = number_of(date(2026, 10, 7))
    start_s = day_start_s(day)
    usage = CITY.usage_between(line.gateway, "T101", start_s, start_s + DAY_S)
    assert CITY.output_of(line, day) == usage > 0
    assert not point_plan(line.gateway, "T101").in_boundary
