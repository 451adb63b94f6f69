"""Validation rules at their edges: what is written in the monitoring rules, to the digit."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from app.domain import validation
from app.domain.calendar import day_start, month_published_at
from app.domain.faults import REASONS
from app.domain.metering import Installation, Meter, Reason, Service, Signal
from app.domain.validation import FeederDay, Rule, UsageDay

DAY = date(2026, 10, 12)
OCTOBER = date(2026, 10, 1)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
REGISTER = Meter(Signal.REGISTER, (Installation(BEGAN),), (Service(BEGAN),))


def usage(quantity: str = "10", expected: int = 96, received: int = 96, *, moved: bool | None = None) -> UsageDay:
    amount = Decimal(quantity)
    return UsageDay(amount, expected, received, amount != 0 if moved is None else moved)


def test_example_10_2_of_96_windows_86_fail_and_87_pass() -> None:
    breach = validation.incomplete_day(DAY, usage(received=86))
    assert breach is not None
    assert breach.detail == {"expected": 96, "received": 86, "share": "89.58 %"}
    assert (breach.from_at, breach.to_at) == (day_start(DAY), day_start(DAY) + timedelta(days=1))
    assert validation.incomplete_day(DAY, usage(received=87)) is None
    assert validation.incomplete_day(DAY, usage(expected=0, received=0)) is None
    assert validation.incomplete_day(DAY, usage(expected=10, received=9)) is None


def test_a_month_is_judged_once_it_is_published() -> None:
    published = month_published_at(OCTOBER)
    assert validation.incomplete_month(OCTOBER, 100, 89, published - timedelta(seconds=1)) is None
    assert validation.incomplete_month(OCTOBER, 100, 89, published) is not None
    assert validation.incomplete_month(OCTOBER, 100, 90, published) is None


def test_example_10_1_days_against_the_month() -> None:
    breach = validation.monthly_deviation(OCTOBER, Decimal(94_800), Decimal(100_000), "M001")
    assert breach is not None
    assert breach.detail["deviation"] == "5.20 %"
    assert validation.monthly_deviation(OCTOBER, Decimal(95_000), Decimal(100_000), "M001") is None
    assert validation.monthly_deviation(OCTOBER, Decimal("105000.000001"), Decimal(100_000), "M001") is not None
    assert validation.monthly_deviation(OCTOBER, Decimal(0), Decimal(0), "M001") is None
    assert validation.monthly_deviation(OCTOBER, Decimal(1), Decimal(0), "M001") is not None


@pytest.mark.parametrize(
    ("meter", "is_breach"),
    [
        (REGISTER, True),
        (Meter(Signal.INTERVAL, REGISTER.installations, REGISTER.services), False),
        (Meter(Signal.REGISTER, (Installation(day_start(DAY)),), REGISTER.services), False),
        (Meter(Signal.REGISTER, REGISTER.installations, (Service(day_start(DAY)),)), False),
        (Meter(Signal.REGISTER, REGISTER.installations, (Service(BEGAN, interval_s=172_800),)), False),
        (Meter(Signal.REGISTER, REGISTER.installations, ()), True),
    ],
)
def test_a_day_starts_with_a_register(meter: Meter, is_breach: bool) -> None:
    found = validation.no_day_start(DAY, meter, usage(), is_read_at_start=False)
    assert (found is not None) == is_breach
    assert validation.no_day_start(DAY, meter, usage(), is_read_at_start=True) is None
    assert validation.no_day_start(DAY, meter, usage(received=0), is_read_at_start=False) is None


def test_a_standstill_is_a_finding_where_the_weekday_always_moved() -> None:
    still, moved, unknown = usage("0"), usage("10"), usage("10", received=3)
    assert validation.frozen(DAY, still, [moved, moved, unknown, moved]) is not None
    assert validation.frozen(DAY, still, [moved, moved]) is not None
    assert validation.frozen(DAY, still, [moved, unknown, unknown]) is None
    assert validation.frozen(DAY, still, [moved, still, moved]) is None
    assert validation.frozen(DAY, usage("0", received=80), [moved] * 4) is None
    assert validation.frozen(DAY, usage("0", expected=2, received=2), [moved] * 4) is None
    assert validation.frozen(DAY, moved, [moved] * 4) is None
    # A load that stays at 50 kW gives energy and is frozen all the same.
    assert validation.frozen(DAY, usage("1200", moved=False), [moved] * 4) is not None
    assert validation.frozen_compared_with(DAY) == [DAY - timedelta(days=7 * n) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("least_delay", "messages", "reported", "skew"),
    [
        ("0.4", 90, None, None),
        ("-60", 90, None, None),
        ("-61", 1, None, 61),
        ("60", 90, None, None),
        ("61", 90, None, -61),
        ("61", 3, None, None),
        (None, 0, "75.2", 75),
        (None, 0, "-60", None),
        ("0.4", 90, "-75.2", -75),
    ],
)
def test_clocks(least_delay: str | None, messages: int, reported: str | None, skew: int | None) -> None:
    delay, said = (Decimal(v) if v is not None else None for v in (least_delay, reported))
    breach = validation.clock_skew(DAY, delay, messages, said)
    assert (breach.detail["skew_s"] if breach else None) == skew


def test_a_feeder_against_its_sub_meters() -> None:
    def day(feeder: str, *subs: str, received: int = 96, signs: tuple[int, ...] | None = None) -> FeederDay:
        rows = tuple(usage(sub, received=received) for sub in subs)
        return FeederDay(usage(feeder), rows, signs or (1,) * len(subs))

    assert validation.feeder_deviation(OCTOBER, [day("100", "60", "35")]) is None
    breach = validation.feeder_deviation(OCTOBER, [day("100", "60", "34"), day("100", "60", "35.999999")])
    assert breach is not None
    assert breach.detail == {"feeder": "200", "sub_meters": "189.999999", "deviation": "5.00 %", "days": 2}
    assert validation.feeder_deviation(OCTOBER, [day("100", "60", "10", received=80)]) is None
    assert validation.feeder_deviation(OCTOBER, [day("100")]) is None
    assert validation.feeder_deviation(OCTOBER, [day("100", "120", "20", signs=(1, -1))]) is None
    assert validation.feeder_deviation(OCTOBER, [FeederDay(usage("0", 0, 0), (usage("5"),), (1,))]) is None


def test_a_day_is_judged_at_noon_of_the_next() -> None:
    noon = day_start(DAY) + timedelta(hours=36)
    assert not validation.is_due_for_validation(DAY, noon - timedelta(seconds=1))
    assert validation.is_due_for_validation(DAY, noon)


def test_the_fault_clock_counts_working_days() -> None:
    thursday = date(2026, 10, 15)
    assert validation.repaired_by(thursday, {}) == (date(2026, 10, 20), False)
    official = {date(2026, 10, 17): True, date(2026, 10, 19): False}  # an invented make-up Saturday and holiday
    assert validation.repaired_by(thursday, official) == (date(2026, 10, 20), True)
    assert validation.repaired_by(date(2026, 10, 16), {date(2026, 10, 17): True}) == (date(2026, 10, 20), True)
    # Over New Year into a year that is not loaded.
    assert validation.repaired_by(date(2026, 12, 30), {date(2026, 10, 1): False}) == (date(2027, 1, 4), False)
    assert validation.repaired_by(date(2026, 12, 28), {date(2026, 10, 1): False}) == (date(2026, 12, 31), True)


def test_every_reason_has_a_name_in_both_languages() -> None:
    for reason in (*Reason, *Rule):
        assert all(REASONS[reason.value]), reason
