"""Sections 3 and 4 of the calculation rules, to the digit, and the guards around them."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import benchmark, rounding
from app.domain.benchmark import Direction, Level, Reason, Status

D = Decimal


@pytest.mark.parametrize(
    ("actual", "level", "baseline", "status", "ratio", "position"),
    [
        ("98.477", "100", "117", Status.AT_BENCHMARK, "0.98477", "1.0896"),
        ("100.000", "100", "117", Status.AT_BENCHMARK, "1.0000", "1.0000"),
        ("107.0", "100", "117", Status.BETWEEN, "1.0700", "0.5882"),
        ("117.0", "100", "117", Status.BETWEEN, "1.1700", "0.0000"),
        ("117.4", "100", "117", Status.BELOW_BASELINE, "1.1740", "-0.0235"),
        ("-20", "-30", "-10", Status.BETWEEN, "1.5000", "0.5000"),
        ("-31", "-30", "-10", Status.AT_BENCHMARK, "0.9677", "1.0500"),
        ("16", "-30", "-10", Status.BELOW_BASELINE, None, "-1.3000"),
        ("13120", "13000", "13350", Status.BETWEEN, "1.0092", "0.6571"),
    ],
)
def test_table_of_section_4(actual, level, baseline, status, ratio, position):
    x, b, low = D(actual), D(level), D(baseline)
    assert benchmark.status(x, b, low) is status
    found = benchmark.ratio(x, b)
    if ratio is None:
        assert found is None
    else:
        places = -D(ratio).as_tuple().exponent
        assert found is not None
        assert rounding.round_places(found, places) == D(ratio)
    found_position = benchmark.position(x, b, low)
    assert found_position is not None
    assert rounding.round_places(found_position, 4) == D(position)


def test_full_value_comparison_of_example_11_1():
    assert benchmark.status(D("117.4"), D(100), D(117)) is Status.BELOW_BASELINE
    assert rounding.round_places(D("117.4"), 0) == 117  # the rounded value would have passed


@pytest.mark.parametrize(("actual", "level"), [("16", "-30"), ("-5", "30"), ("0", "-30"), ("10", "0"), ("0", "0")])
def test_no_ratio_across_signs_or_with_a_zero(actual, level):
    assert benchmark.ratio(D(actual), D(level)) is None


def test_a_product_without_a_level_is_unknown():
    assert benchmark.status(D(1), None, None) is Status.UNKNOWN
    assert benchmark.ratio(D(1), None) is None
    assert benchmark.position(D(1), None, D(3)) is None


def test_one_level_decides_what_it_can():
    assert benchmark.status(D(1), D(2), None) is Status.AT_BENCHMARK
    assert benchmark.status(D(3), D(2), None) is Status.UNKNOWN
    assert benchmark.status(D(3), None, D(2)) is Status.BELOW_BASELINE
    assert benchmark.status(D(2), None, D(2)) is Status.UNKNOWN


def test_higher_is_better_turns_the_comparison():
    levels = (D(80), D(60), Direction.HIGHER_IS_BETTER)
    assert benchmark.status(D(80), *levels) is Status.AT_BENCHMARK
    assert benchmark.status(D(60), *levels) is Status.BETWEEN
    assert benchmark.status(D(59), *levels) is Status.BELOW_BASELINE


def test_capacity_share_of_example_4_1():
    lines = [
        (D(5000), "t/d", benchmark.status(D("98.5"), 100, 117)),
        (D(4000), "t/d", benchmark.status(D(104), 100, 117)),
        (D(2500), "t/d", benchmark.status(D("100.0"), 100, 117)),
        (D(2000), "t/d", benchmark.status(D(119), 100, 117)),
    ]
    share = benchmark.capacity_share(lines)
    assert (share.at_benchmark, share.total) == (7500, 13500)
    assert share.share_pct is not None
    assert rounding.round_places(share.share_pct, 2) == D("55.56")
    assert share.is_above(30)
    assert (share.lines_at_benchmark, share.lines) == (2, 4)


@pytest.mark.parametrize(("reached", "met"), [("30.00", False), ("30.01", True), ("29.99", False)])
def test_a_share_of_exactly_30_percent_is_not_met(reached, met):
    rest = D(100) - D(reached)
    share = benchmark.capacity_share([(D(reached), "t/a", Status.AT_BENCHMARK), (rest, "t/a", Status.UNKNOWN)])
    assert share.is_above(30) is met
    assert share.is_above(30, or_equal=True) is (met or D(reached) == 30)


def test_no_capacity_has_no_share_and_two_units_are_refused():
    assert benchmark.capacity_share([]).share_pct is None
    assert not benchmark.capacity_share([]).is_above(0)
    with pytest.raises(ValueError, match="one unit"):
        benchmark.capacity_share([(1, "t/d", Status.BETWEEN), (1, "kW", Status.BETWEEN)])


CLINKER = benchmark.Indicator("equivalent", None, False, D(1))
FULL = benchmark.Windows(2976, 2976, 0)
LEVEL = Level(1, D(100), D(117), "confirmed")


def amount(carrier="raw_coal", flow="in", kgce="9700000", unit="kg", quantity="1"):
    return benchmark.EnergyAmount(carrier, unit, flow, D(quantity), None if kgce is None else D(kgce), None)


def test_unit_product_of_section_3():
    found = benchmark.assess(CLINKER, [amount()], FULL, LEVEL, benchmark.Period(True, D(98500)))
    assert found.actual == Fraction(9_700_000, 98_500)
    assert rounding.round_places(found.actual, 3) == D("98.477")
    assert (found.status, found.reason, found.is_provisional) == (Status.AT_BENCHMARK, None, False)


def test_process_energy_of_a_converter_may_be_negative():
    amounts = [amount("electricity", "in", "40"), amount("converter_gas", "recovered", "60", "m3")]
    found = benchmark.assess(
        CLINKER, amounts, FULL, Level(2, D(-30), D(-10), "confirmed"), benchmark.Period(True, D(1))
    )
    assert (found.actual, found.status, found.ratio) == (-20, Status.BETWEEN, Fraction(3, 2))


def test_pue_of_section_3_is_provisional_on_a_month():
    pue = benchmark.Indicator("physical", frozenset({"electricity"}), False, D(1), is_judged_on_year=True)
    amounts = [amount("electricity", kgce=None, unit="kWh", quantity="12480000"), amount("fresh_water")]
    found = benchmark.assess(
        pue, amounts, FULL, Level(3, D("1.3"), D("1.5"), "recalled"), benchmark.Period(True, D(9600000))
    )
    assert found.actual == Fraction(13, 10)
    assert (found.status, found.reason, found.is_provisional) == (
        Status.AT_BENCHMARK,
        Reason.JUDGED_ON_YEAR,
        True,
    )


def test_feedstock_counts_only_where_the_indicator_says_so():
    amounts = [amount(kgce="100"), amount("naphtha", "feedstock", "900")]
    feeding = benchmark.Indicator("equivalent", None, True, D("1.4286"))
    period = benchmark.Period(True, D(1))
    assert benchmark.assess(CLINKER, amounts, FULL, None, period).actual == 100
    assert benchmark.assess(feeding, amounts, FULL, None, period).actual == Fraction(1000) / Fraction("1.4286")


@pytest.mark.parametrize(
    ("period", "windows", "amounts", "reason"),
    [
        (benchmark.Period(True, None), FULL, [amount()], Reason.NO_OUTPUT),
        (benchmark.Period(True, D(0)), FULL, [amount()], Reason.NO_OUTPUT),
        (benchmark.Period(True, D(5), is_output_unit_known=False), FULL, [amount()], Reason.UNKNOWN_OUTPUT_UNIT),
        (benchmark.Period(True, D(5)), benchmark.Windows(2976, 0, 0), [], Reason.NO_READINGS),
        (benchmark.Period(True, D(5)), FULL, [amount(kgce=None)], Reason.NO_FACTOR),
    ],
)
def test_no_value_with_its_reason(period, windows, amounts, reason):
    found = benchmark.assess(CLINKER, amounts, windows, LEVEL, period)
    assert (found.actual, found.status, found.ratio, found.reason) == (None, Status.UNKNOWN, None, reason)


def test_one_carrier_under_two_factor_sets_gives_no_value():
    """Rules, section 8: factor sets are not mixed inside one inventory."""
    old, new = (replace(amount("fresh_water"), factor_sets=(f"GB/T 2589-{year}",)) for year in (2008, 2020))
    period = benchmark.Period(True, D(98500))
    mixed = benchmark.assess(CLINKER, [amount(), old, replace(new, flow="out")], FULL, LEVEL, period)
    assert (mixed.actual, mixed.status, mixed.reason) == (None, Status.UNKNOWN, Reason.MIXED_FACTOR_SETS)
    over_a_change = replace(new, factor_sets=("GB/T 2589-2008", "GB/T 2589-2020"))
    assert benchmark.assess(CLINKER, [over_a_change], FULL, LEVEL, period).reason is Reason.MIXED_FACTOR_SETS
    # Two carriers may come from two lists, a measured value is part of its set, and a physical figure needs no factor.
    other = replace(amount("nitrogen_steel"), factor_sets=("T/CISA 416-2024",))
    measured = replace(new, flow="in", factor_sets=("GB/T 2589-2020", "GB/T 2589-2020, measured LHV"))
    assert benchmark.assess(CLINKER, [other, measured], FULL, LEVEL, period).actual is not None
    physical = benchmark.Indicator("physical", None, False, D(1))
    assert benchmark.assess(physical, [over_a_change], FULL, LEVEL, period).actual is not None


def test_a_missing_factor_of_nothing_does_not_matter():
    amounts = [amount(), amount("steam", kgce=None, quantity="0")]
    assert benchmark.assess(CLINKER, amounts, FULL, LEVEL, benchmark.Period(True, D(98500))).actual is not None


@pytest.mark.parametrize(
    ("windows", "period", "reason"),
    [
        (benchmark.Windows(96, 86, 10), benchmark.Period(True, D(1)), Reason.INCOMPLETE_READINGS),
        (benchmark.Windows(96, 87, 0), benchmark.Period(True, D(1)), None),
        (FULL, benchmark.Period(False, D(1)), Reason.OPEN_MONTH),
        (FULL, benchmark.Period(True, D(1), has_missing_output_days=True), Reason.MISSING_OUTPUT_DAYS),
    ],
)
def test_what_makes_a_figure_provisional(windows, period, reason):
    found = benchmark.assess(CLINKER, [amount()], windows, LEVEL, period)
    assert (found.reason, found.is_provisional) == (reason, reason is not None)


def test_shares_of_windows_stay_within_one():
    assert benchmark.Windows(96, 100, 5).measured_share == 1
    assert benchmark.Windows(96, 100, 5).estimated_share == 0
    assert benchmark.Windows(0, 0, 0).measured_share == 0
    assert benchmark.Windows(100, 90, 20).estimated_share == Fraction(1, 10)
    assert [benchmark.Windows(*w).missing_share for w in ((100, 90, 4), (96, 100, 5), (0, 0, 0))] == [
        Fraction(6, 100), 0, 0
    ]  # fmt: skip


def test_a_month_keeps_the_edition_in_force_on_its_first_day():
    recorded = datetime(2026, 1, 1, tzinfo=UTC)
    old = Level(1, D(100), D(117), "confirmed", None, None, recorded)
    new = Level(2, D(95), D(110), "confirmed", date(2026, 6, 15), None, recorded)
    assert benchmark.level_of_month([old, new], date(2026, 6, 1)) == old
    assert benchmark.level_of_month([new, old], date(2026, 7, 1)) == new
    assert benchmark.level_of_month([new], date(2026, 6, 1)) is None


values = st.decimals(-1000, 1000, places=3)


@given(values, values, values, st.sampled_from([D("0.001"), D(1000), D("1.4286")]))
def test_status_position_and_ratio_do_not_depend_on_the_unit(x, b, low, scale):
    """Rules, section 12, check 7: kgce/t and tce/t give the same judgement."""
    scaled = [Fraction(v) * Fraction(scale) for v in (x, b, low)]
    assert benchmark.status(x, b, low) is benchmark.status(*scaled)
    assert benchmark.ratio(x, b) == benchmark.ratio(scaled[0], scaled[1])
    assert benchmark.position(x, b, low) == benchmark.position(*scaled)


@given(values, values)
def test_a_ratio_at_most_one_means_the_benchmark_is_reached(x, b):
    found = benchmark.ratio(x, b)
    if found is not None:
        assert (found <= 1) is (benchmark.status(x, b, None) is Status.AT_BENCHMARK)
