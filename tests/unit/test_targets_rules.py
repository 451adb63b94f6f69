"""Sections 5 to 7 of the calculation rules, to the digit, and the guards around them."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import budget, targets, warning
from app.domain.rounding import plain, round_places
from app.domain.targets import NoFigure, ProgressMethod, RegionYear
from app.reference import tables

D = Decimal
RULE_SETS = {
    row.key: warning.rule_set(row.key, row.rules, row.valid_from, row.valid_to)
    for row in tables.table("warning_rule_set")
}


def test_reduction_rate_of_example_5_1():
    assert round_places(targets.reduction_pct(D("0.4500"), D("0.4020")), 2) == D("10.67")


@pytest.mark.parametrize(
    ("year", "cumulative"), [(1, "3.0845"), (2, "6.0739"), (3, "8.9710"), (4, "11.7788"), (5, "14.5000")]
)
def test_required_cumulative_rate_of_each_year(year, cumulative):
    assert round_places(targets.required_cumulative_pct(D("14.5"), year, 5), 4) == D(cumulative)


@pytest.mark.parametrize(("target", "yearly"), [("14.5", "3.0845"), ("15", "3.1981"), ("10", "2.0852")])
def test_yearly_rates(target, yearly):
    assert round_places(targets.yearly_rate_pct(D(target), 5), 4) == D(yearly)


def test_progress_of_example_5_2_by_both_methods():
    logarithmic = targets.progress(ProgressMethod.LOGARITHMIC, D("8.0"), D("14.5"), 3, 5)
    assert round_places(logarithmic.done_pct, 2) == D("53.23")
    assert logarithmic.time_pct == 60
    assert logarithmic.of_schedule_pct is not None
    assert round_places(logarithmic.of_schedule_pct, 1) == D("88.7")
    linear = targets.progress(ProgressMethod.LINEAR, D("8.0"), D("14.5"), 3, 5)
    assert round_places(linear.done_pct, 2) == D("55.17")
    assert (logarithmic.method, linear.method) == ("logarithmic", "linear")


def test_energy_saved_of_example_5_3():
    saved = targets.energy_saved_kgce([(D(102), D("98.5"), D(985_000))])
    assert saved / 1000 == D("3447.5")
    assert targets.energy_saved_kgce([(D("98.5"), D(102), D(985_000))]) == -saved  # using more is a negative saving


@pytest.mark.parametrize(
    ("actual", "gap", "quarter", "half"),
    [("3.20", "-3.74", 3, 3), ("2.90", "5.98", 2, 2), ("2.50", "18.95", 1, 2), ("-0.40", "112.97", 1, 1)],
)
def test_warning_levels_of_section_6(actual, gap, quarter, half):
    required = D("3.0845")
    found = warning.gap_pct(required, D(actual))
    assert found is not None
    assert round_places(found, 2) == D(gap)
    assert warning.level(RULE_SETS["2021Q1"], required, D(actual)) == quarter
    assert warning.level(RULE_SETS["2021H1"], required, D(actual)) == half


@pytest.mark.parametrize(
    ("actual", "quarter", "half"),
    [("2.7", 2, 2), ("2.699999", 1, 2), ("3", 3, 3), ("2.999999", 2, 2), ("0", 1, 2), ("-0.000001", 1, 1)],
)
def test_edges_of_the_levels_belong_to_the_better_side(actual, quarter, half):
    assert warning.level(RULE_SETS["2021Q1"], 3, D(actual)) == quarter  # a gap of exactly 10 % is level 2
    assert warning.level(RULE_SETS["2021H1"], 3, D(actual)) == half


def test_the_rule_set_is_chosen_by_the_end_of_the_graded_period():
    def key(day: date) -> str | None:
        found = warning.in_force(RULE_SETS.values(), day)
        return found.key if found else None

    assert key(date(2021, 3, 31)) == "2021Q1"
    assert key(date(2021, 6, 30)) == "2021H1"
    assert key(date(2025, 12, 31)) == "2021H1"
    assert key(date(2020, 12, 31)) is None
    ended = warning.RuleSet("ended", (), None, date(2021, 6, 30))
    assert warning.in_force([ended], date(2021, 6, 29)) == ended
    assert warning.in_force([ended], date(2021, 6, 30)) is None


def test_a_rule_set_with_a_measure_and_no_bound_is_refused():
    with pytest.raises(ValueError, match="one bound"):
        warning.rule_set("x", {"levels": [{"level": 1, "measure": "gap_pct"}]}, None, None)
    assert warning.gap_pct(0, 1) is None


def test_budget_of_example_7_1():
    use = budget.Use(D(13_400), D(25_000), budget.day_of_year(date(2026, 6, 30)), budget.days_in_year(2026))
    assert (use.days_over, use.days_in_year) == (181, 365)
    assert use.used_pct is not None
    assert use.ahead_points is not None
    assert round_places(use.used_pct, 2) == D("53.60")
    assert round_places(use.time_pct, 2) == D("49.59")
    assert round_places(use.ahead_points, 2) == D("4.01")
    projected = use.projected_tce()
    assert projected == Fraction(13_400 * 365, 181)
    assert plain(projected, 4) == "27022.0994"


def test_budgets_by_both_methods():
    assert budget.baseline_budget_tce([(D(985_000), D(102)), (D(1000), D(50))]) == D(100_520)
    assert budget.historical_budget_tce([D(26_000), D(24_000)], D("0.98")) == D(24_500)
    for empty in (lambda: budget.baseline_budget_tce([]), lambda: budget.historical_budget_tce([])):
        with pytest.raises(ValueError, match="needs"):
            empty()


def test_a_year_that_has_not_begun_has_no_projection():
    use = budget.Use(0, D(100), 0, budget.days_in_year(2024))
    assert (use.days_in_year, use.projected_tce(), use.time_pct) == (366, None, 0)


def year(energy: str | None = "450", gdp: str | None = "1000", *, feedstock: str | None = None,
         renewables: str | None = None, basis: str = "entered", prices: int | None = 2020) -> RegionYear:  # fmt: skip
    def number(text: str | None) -> Decimal | None:
        return None if text is None else D(text)

    return RegionYear(number(energy), basis, number(feedstock), number(renewables), number(gdp), prices)


def test_deductions_leave_both_years():
    base = year("500", feedstock="40", renewables="10")
    now = year("430", feedstock="20", renewables="8")
    assert (base.counted_tce, now.counted_tce) == (450, 402)
    found = targets.intensity_reduction_pct(base, now)
    assert isinstance(found, Fraction)
    assert round_places(found, 2) == D("10.67")  # example 5.1 again, behind the deductions


@pytest.mark.parametrize(
    ("base", "now", "reason"),
    [
        (year("500", feedstock="40"), year("430"), NoFigure.MISSING_DEDUCTION),
        (year("500"), year("430", renewables="8"), NoFigure.MISSING_DEDUCTION),
        (year(), year(basis="measured"), NoFigure.MIXED_BASIS),
        (year(), year(prices=2015), NoFigure.MIXED_PRICES),
        (year(None), year(), NoFigure.NO_ENERGY),
        (year(), year(gdp=None), NoFigure.NO_GDP),
        (year(), year(gdp="0"), NoFigure.NO_GDP),
        (year("0"), year(), NoFigure.NO_ENERGY),
    ],
)
def test_years_that_do_not_compare_say_why(base, now, reason):
    assert targets.intensity_reduction_pct(base, now) is reason


@given(st.decimals("0.01", "99", places=2), st.integers(1, 10))
def test_equal_yearly_rates_multiply_to_the_target(target, years):
    left = (1 - targets.yearly_rate_pct(target, years) / 100) ** years
    assert abs((1 - left) * 100 - target) < D("1e-20")
    required = [targets.required_cumulative_pct(target, k, years) for k in range(years + 1)]
    assert required[0] == 0
    assert required[-1] == target
    assert required == sorted(required)


@given(st.decimals("0.1", "50", places=1), st.integers(1, 5))
def test_being_on_the_required_path_is_the_share_of_time_by_logarithm(target, passed):
    path = targets.required_cumulative_pct(target, passed, 5)
    done = targets.progress(ProgressMethod.LOGARITHMIC, path, target, passed, 5)
    assert done.of_schedule_pct is not None
    assert abs(done.of_schedule_pct - 100) < D("1e-20")
    assert all(warning.level(rules, path, path) == 3 for rules in RULE_SETS.values())


@pytest.mark.parametrize("target", ["0", "100", "-3"])
def test_a_target_that_is_none_is_refused(target):
    with pytest.raises(ValueError, match="expected above 0 and below 100"):
        targets.required_cumulative_pct(D(target), 1, 5)
