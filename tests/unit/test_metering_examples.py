"""Every worked example of the calculation rules, sections 9 and 10, to the digit."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.domain.metering import (
    Installation,
    Meter,
    Reading,
    Reason,
    Service,
    Signal,
    is_within_load,
    judge,
    usage_hours,
    windows_in_service,
)
from app.domain.metering.hours import round_ratio

START = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def register(*values: str, start: datetime = START, step: timedelta = QUARTER) -> list[Reading]:
    return [Reading(start + i * step, Decimal(v)) for i, v in enumerate(values)]


def total(meter: Meter, readings: Sequence[Reading]) -> Decimal:
    return sum((h.quantity for h in usage_hours(meter, judge(meter, readings).steps)), Decimal(0))


def meter(**facts: object) -> Meter:
    return Meter(Signal.REGISTER, (Installation(START - timedelta(days=30), **facts),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("multiplier", "digits", "values", "kwh"),
    [
        pytest.param("80", None, ["14250", "15890"], "131200", id="plain, section 9"),
        pytest.param("8000", None, ["1234.56", "1240.11"], "44400", id="CT 400/5, PT 10,000/100"),
        pytest.param("80", 6, ["999990.50", "12.25"], "1740", id="rollover, modulus 1,000,000"),
        pytest.param("80", 6, ["5000.0", "4998.0"], "0", id="backward, no event"),
        pytest.param("80", None, ["100.0", "148.0"], "3840", id="example 10.3"),
    ],
)
def test_consumption_of_two_registers(multiplier: str, digits: int | None, values: list[str], kwh: str) -> None:
    point = meter(multiplier=Decimal(multiplier), digits=digits)
    assert total(point, register(*values)) == Decimal(kwh)


def test_backward_step_without_an_event_gives_no_value_and_a_finding() -> None:
    point = meter(multiplier=Decimal(80), digits=6)
    judgement = judge(point, register("5000.0", "4998.0"))
    assert judgement.steps == ()
    assert [f.reason for f in judgement.findings] == [Reason.BACKWARD_STEP]


@pytest.mark.parametrize(
    ("new_multiplier", "kwh"),
    [pytest.param("80", "2800", id="same multiplier"), pytest.param("120", "3336", id="new multiplier")],
)
def test_replacement_is_differenced_inside_each_meter(new_multiplier: str, kwh: str) -> None:
    exchange = START + timedelta(minutes=20)
    old = Installation(START - timedelta(days=9), exchange, Decimal(80), final_register=Decimal("88421.6"))
    new = Installation(exchange, None, Decimal(new_multiplier), initial_register=Decimal("0.0"))
    point = Meter(Signal.REGISTER, (old, new))
    readings = [Reading(START, Decimal("88400.0")), Reading(START + 2 * QUARTER, Decimal("13.4"))]
    assert total(point, readings) == Decimal(kwh)
    assert judge(point, readings).findings == ()


def test_replaced_meter_without_an_event_gives_no_consumption_one_finding_and_nothing_negative() -> None:
    """Section 12, check 5."""
    point = meter(multiplier=Decimal(80), digits=6, rated_load=Decimal(20_000))
    judgement = judge(point, register("88400.0", "88410.0", "13.4", "20.0"))
    hours = usage_hours(point, judgement.steps)
    assert [f.reason for f in judgement.findings] == [Reason.RESET]
    assert sum(h.quantity for h in hours) == (10 + Decimal("6.6")) * 80
    assert all(h.quantity >= 0 for h in hours)


def test_load_limit_of_a_630_kva_transformer_in_a_quarter_hour() -> None:
    """Example 9.1: 157.5 kWh at full load, limit 196.875 kWh."""
    assert is_within_load(Decimal("196.875"), Decimal(630), Decimal(900))
    assert not is_within_load(Decimal("196.876"), Decimal(630), Decimal(900))
    point = meter(rated_load=Decimal(630))
    assert total(point, register("0.125", "197")) == Decimal("196.875")
    judgement = judge(point, register("0.124", "197"))
    assert (judgement.steps, [f.reason for f in judgement.findings]) == ((), [Reason.IMPLAUSIBLE_JUMP])


def test_late_reading_splits_the_interval_and_leaves_the_sum() -> None:
    """Section 12, checks 3 and 4, for one register: only the split changes."""
    point = meter(multiplier=Decimal(80))
    known = register("100", "148", step=timedelta(hours=12))
    late = Reading(START + timedelta(hours=3), Decimal("130"))
    before, after = (usage_hours(point, judge(point, r).steps) for r in (known, [known[0], late, known[1]]))
    assert sum(h.quantity for h in before) == sum(h.quantity for h in after) == 3840
    assert {h.quantity for h in before} == {Decimal(320)}
    assert {h.quantity for h in after} == {Decimal(800), Decimal(160)}


def test_gap_between_two_good_registers_is_split_linearly_and_estimated() -> None:
    """Example 10.3: 320 kWh in each of the twelve hours, estimated; none of them received."""
    point = meter(multiplier=Decimal(80))
    hours = usage_hours(point, judge(point, register("100.0", "148.0", step=timedelta(hours=12))).steps)
    assert [h.quantity for h in hours] == [Decimal(320)] * 12
    assert {(h.windows_expected, h.windows_received, h.windows_estimated) for h in hours} == {(4, 0, 4)}


@pytest.mark.parametrize(("received", "passes"), [(86, False), (87, True)])
def test_completeness_of_a_day(received: int, passes: bool) -> None:
    """Example 10.2: 86 of 96 windows fail, 87 pass; estimated windows do not count as received."""
    day_start = datetime(2026, 3, 1, 16, tzinfo=UTC)
    values = [str(1000 + i) for i in range(received + 1)]
    readings = [*register(*values, start=day_start), Reading(day_start + timedelta(days=1), Decimal(2000))]
    point = meter()
    hours = usage_hours(point, judge(point, readings).steps)
    expected = windows_in_service(point, day_start, day_start + timedelta(days=1))
    assert (expected, sum(h.windows_received for h in hours)) == (96, received)
    assert (Decimal(received) / expected >= Decimal("0.9")) is passes


@pytest.mark.parametrize("lateness_s", [0, 449, 450])
def test_interval_of_at_most_one_and_a_half_times_the_expected_one_is_measured(lateness_s: int) -> None:
    point = meter()
    end = START + QUARTER + timedelta(seconds=lateness_s)
    (step,) = judge(point, [Reading(START, Decimal(1)), Reading(end, Decimal(2))]).steps
    assert step.is_measured
    (step,) = judge(point, [Reading(START, Decimal(1)), Reading(end + timedelta(seconds=451), Decimal(2))]).steps
    assert not step.is_measured


def test_split_is_rounded_at_the_hour_edge_then_differenced() -> None:
    point = meter()
    readings = [Reading(START + timedelta(minutes=50), Decimal(0)), Reading(START + timedelta(minutes=80), Decimal(1))]
    assert [h.quantity for h in usage_hours(point, judge(point, readings).steps)] == [
        Decimal("0.333333"),
        Decimal("0.666667"),
    ]


def test_a_split_is_rounded_to_the_nearest_half_away_from_zero() -> None:
    point = meter()
    readings = [Reading(START + timedelta(minutes=40), Decimal(0)), Reading(START + timedelta(minutes=70), Decimal(1))]
    assert [h.quantity for h in usage_hours(point, judge(point, readings).steps)] == [
        Decimal("0.666667"),
        Decimal("0.333333"),
    ]
    assert [round_ratio(*ratio) for ratio in ((1, 2), (3, 2), (-1, 2), (-3, 2), (1, 3), (-2, 3))] == [
        1,
        2,
        -1,
        -2,
        0,
        -1,
    ]


def test_windows_of_an_hour_are_no_more_than_it_has() -> None:
    """22.5 minutes measured are one and a half windows, 37.5 estimated two and a half: two and two."""
    at = [START, START + timedelta(minutes=22.5), START + timedelta(minutes=60)]
    (hour,) = usage_hours(meter(), judge(meter(), [Reading(t, Decimal(i)) for i, t in enumerate(at)]).steps)
    assert (hour.windows_expected, hour.windows_received, hour.windows_estimated) == (4, 2, 2)


@pytest.mark.parametrize(("minutes", "is_same"), [(7, True), (8, False), (10, False), (15, False)])
def test_a_tag_off_by_under_half_an_interval_means_the_nearest_one(minutes: int, is_same: bool) -> None:
    point = Meter(Signal.INTERVAL, (Installation(START),))
    readings = [Reading(START, Decimal(1)), Reading(START + timedelta(minutes=minutes), Decimal(2))]
    assert [f.reason for f in judge(point, readings).findings] == [Reason.OVERLAPPING_INTERVAL] * is_same
    assert total(point, readings) == (1 if is_same else 3)


def test_faster_sampling_gives_no_more_windows_than_expected() -> None:
    point = meter()
    readings = register(*map(str, range(61)), step=timedelta(minutes=1))
    (hour,) = usage_hours(point, judge(point, readings).steps)
    assert (hour.quantity, hour.windows_expected, hour.windows_received) == (60, 4, 4)


def test_windows_are_expected_only_in_service() -> None:
    service = Service(START + timedelta(minutes=30), None, 900)
    point = Meter(Signal.REGISTER, (Installation(START - timedelta(days=1)),), (service,))
    (hour,) = usage_hours(point, judge(point, register("0", "1", "2", "3", "4")).steps)
    assert (hour.quantity, hour.windows_expected, hour.windows_received) == (4, 2, 2)


def test_unit_factor_and_multiplier_both_apply() -> None:
    point = Meter(Signal.REGISTER, (Installation(START, multiplier=Decimal(80)),), (), Decimal("0.001"))
    assert total(point, register("14250000", "15890000")) == Decimal(131200)


def test_interval_signal_covers_the_time_from_its_start_tag() -> None:
    point = Meter(Signal.INTERVAL, (Installation(START),), (Service(START, None, 900),))
    hours = usage_hours(point, judge(point, register("1", "2", "3", "4", "5")).steps)
    assert [(h.hour_at, h.quantity, h.windows_received) for h in hours] == [
        (START, Decimal(10), 4),
        (START + timedelta(hours=1), Decimal(5), 1),
    ]


def test_interval_signal_with_a_tag_off_the_hour_is_split_like_a_register() -> None:
    point = Meter(Signal.INTERVAL, (Installation(START),))
    readings = [Reading(START + timedelta(minutes=55), Decimal("1"))]
    assert [h.quantity for h in usage_hours(point, judge(point, readings).steps)] == [
        Decimal("0.333333"),
        Decimal("0.666667"),
    ]


@pytest.mark.parametrize(
    ("offset_s", "value", "reason"),
    [
        pytest.param(300, "2", Reason.OVERLAPPING_INTERVAL, id="a second value for the same interval"),
        pytest.param(900, "-2", Reason.NEGATIVE_INTERVAL, id="negative"),
        pytest.param(900, "200", Reason.IMPLAUSIBLE_JUMP, id="more than the rated load can draw"),
    ],
)
def test_doubtful_interval_gives_no_usage(offset_s: int, value: str, reason: Reason) -> None:
    point = Meter(Signal.INTERVAL, (Installation(START, rated_load=Decimal(630)),))
    readings = [Reading(START, Decimal(1)), Reading(START + timedelta(seconds=offset_s), Decimal(value))]
    judgement = judge(point, readings)
    assert [f.reason for f in judgement.findings] == [reason]
    assert total(point, readings) == 1


def test_daily_interval_is_counted_where_it_starts() -> None:
    service = Service(START - timedelta(days=9), None, 86400)
    point = Meter(Signal.INTERVAL, (Installation(START - timedelta(days=9)),), (service,))
    midnight = datetime(2026, 2, 28, 16, tzinfo=UTC)
    hours = usage_hours(point, judge(point, [Reading(midnight, Decimal(240))]).steps)
    assert [h.quantity for h in hours] == [Decimal(10)] * 24
    assert [(h.windows_expected, h.windows_received) for h in hours] == [(1, 1)] + [(0, 0)] * 23
    assert windows_in_service(point, midnight, midnight + timedelta(days=1)) == 1


def test_gauge_is_integrated_by_trapezoids_and_split_at_the_hour() -> None:
    """100 kW rising to 200 kW over 15 minutes: 37.5 kWh; the first five minutes of them 9.722222 kWh."""
    point = Meter(Signal.GAUGE, (Installation(START),))
    first = START + timedelta(minutes=55)
    readings = [Reading(first, Decimal(100)), Reading(first + QUARTER, Decimal(200))]
    assert [h.quantity for h in usage_hours(point, judge(point, readings).steps)] == [
        Decimal("9.722222"),
        Decimal("27.777778"),
    ]


def test_gauge_leaves_a_long_gap_empty() -> None:
    point = Meter(Signal.GAUGE, (Installation(START),))
    assert judge(point, register("100", "100", step=timedelta(minutes=23))).steps == ()


@pytest.mark.parametrize(("value", "reason"), [("-1", Reason.NEGATIVE_LOAD), ("788", Reason.IMPLAUSIBLE_JUMP)])
def test_gauge_out_of_bounds_is_left_out(value: str, reason: Reason) -> None:
    point = Meter(Signal.GAUGE, (Installation(START, rated_load=Decimal(630)),))
    judgement = judge(point, register("1", value, "1"))
    assert (judgement.steps, [f.reason for f in judgement.findings]) == ((), [reason])
