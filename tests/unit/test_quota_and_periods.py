"""Grades and corrections of quota standards, and figures of periods longer than a month: rules, sections 3 and 4."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import benchmark, periods, quota, rounding
from app.domain.benchmark import Direction, Indicator, Level, Reason, Status, Windows
from app.domain.periods import Grain, MonthOfLine
from app.domain.quota import Correction, Grade, QuotaLimit, Side
from app.reference import tables

D = Decimal
CLINKER_LIMITS = (D(100), D(107), D(117))
INDICATOR = Indicator("equivalent", None, False, D(1))
PUE = Indicator("physical", frozenset({"electricity"}), False, D(1), is_judged_on_year=True)
LEVEL = Level(1, D(100), D(117), "confirmed")
FULL = Windows(744, 744, 0)
YEAR = [date(2026, month, 1) for month in range(1, 13)]


@pytest.mark.parametrize(
    ("actual", "expected"),
    [("100", "1"), ("100.001", "2"), ("107", "2"), ("117", "3"), ("117.0001", "none"), ("-5", "1")],
)
def test_grade_by_the_best_level_reached_with_equality(actual: str, expected: str) -> None:
    assert quota.grade(D(actual), CLINKER_LIMITS) == expected


def test_grade_where_levels_are_missing_negative_or_turned() -> None:
    assert quota.grade(D(1), quota.NO_LIMITS) is None
    assert quota.grade(D(80), (D(61), None, D(86))) is Grade.LEVEL_3
    assert quota.grade(D(80), (D(61), D(70), None)) is None  # beyond what is known, and level 3 is not known
    assert quota.grade(D(-29), (D(-30), D(-28), D(-12))) is Grade.LEVEL_2
    assert quota.grade(D(16), (D(-30), D(-28), D(-12))) is Grade.NONE
    assert quota.grade(D(80), (D(90), D(80), D(70)), Direction.HIGHER_IS_BETTER) is Grade.LEVEL_2


def _loaded(variant_key: str, level: str) -> Correction:
    row = next(r for r in tables.table("level_correction") if (r.variant_key, r.level) == (variant_key, level))
    return Correction(
        row.input_key, row.level, Side(row.side), row.base, row.per_point, row.most_points, row.valid_from, row.valid_to
    )


@pytest.mark.parametrize(
    ("variant_key", "level", "value", "added"),
    [
        ("gb16780-cement", "1", "78", "3.30"),  # 3 points over 75 %
        ("gb16780-cement", "2", "78", "3.45"),
        ("gb16780-cement", "3", "78", "3.60"),
        ("gb16780-cement", "3", "70.5", "-5.40"),  # and both ways
        ("ndrc723-19-blast-furnace-process", "2", "60", "7.22"),
        ("ndrc723-19-blast-furnace-process", "2", "62", None),
        ("ndrc723-19-blast-furnace-process", "2", "65", None),  # richer ore corrects nothing
        ("ndrc723-19-blast-furnace-process", "2", "50", "18.05"),  # at most 5 points
        ("ndrc723-20-converter-bof-process", "3", "10", "2.30"),
        ("ndrc723-20-eaf-ge-50-t", "1", "30", "-24.0"),
    ],
)
def test_corrections_of_section_4_are_data(variant_key: str, level: str, value: str, added: str | None) -> None:
    correction = _loaded(variant_key, level)
    applied = quota.applied([correction], {correction.input_key: D(value)}, date(2026, 10, 1))
    assert [one.added for one in applied] == ([] if added is None else [D(added)])
    assert quota.corrected(D(100), level, applied) == 100 + D(added or 0)
    assert quota.corrected(D(100), "benchmark", applied) == 100  # another level is not touched
    assert quota.corrected(None, level, applied) is None


def test_a_correction_holds_by_its_dates_and_only_where_the_input_is_known() -> None:
    ore = _loaded("ndrc723-19-blast-furnace-process", "1")
    assert ore.valid_from == date(2026, 7, 1)
    assert quota.applied([ore], {"ore_grade": D(60)}, date(2026, 6, 1)) == ()
    assert quota.applied([ore], {}, date(2026, 10, 1)) == ()


def test_the_limit_of_a_month_is_the_edition_in_force_on_its_first_day() -> None:
    old = QuotaLimit(1, D(1), D(2), D(3))
    new = QuotaLimit(2, D(1), D(1), D(2), date(2026, 7, 1))
    assert quota.limit_of_month([new, old], date(2026, 6, 1)) == old
    assert quota.limit_of_month([old, new], date(2026, 7, 1)) == new
    assert quota.limit_of_month([new], date(2026, 6, 1)) is None


def month(
    at: date, energy: str | None = "10000", output: str | None = "100", *, reason: str | None = None,
    level: Level = LEVEL, windows: Windows = FULL, **more: object,
) -> MonthOfLine:  # fmt: skip
    has_value = energy is not None and output is not None and D(output) > 0 and reason not in ("no_output", "no_factor")
    return MonthOfLine(
        at, None if energy is None else D(energy), None if output is None else D(output), has_value, reason, windows,
        level, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def total(months: list[MonthOfLine], grain: Grain = Grain.YEAR, expected: list[date] | None = None, **more: object):
    options = {"is_over": True, **more}
    return periods.total(INDICATOR, grain, months, YEAR if expected is None else expected, **options)  # type: ignore[arg-type]


def test_periods_and_their_months() -> None:
    may = date(2026, 5, 1)
    assert periods.months_of(Grain.MONTH, date(2026, 5, 17)) == (may,)
    assert periods.months_of(Grain.QUARTER, may) == tuple(date(2026, m, 1) for m in (4, 5, 6))
    assert periods.months_of(Grain.YEAR_TO_DATE, may) == tuple(YEAR[:5])
    assert periods.months_of(Grain.YEAR, may) == tuple(YEAR)
    rolling = periods.months_of(Grain.ROLLING_12_MONTHS, may)
    assert (rolling[0], rolling[-1], len(rolling)) == (date(2025, 6, 1), may, 12)


def test_a_year_is_the_sum_of_its_months_not_the_mean_of_their_ratios() -> None:
    months = [month(at, str(9900 + 101 * n), str(90 + n)) for n, at in enumerate(YEAR)]
    found = total(months)
    energy, output = sum(m.energy or 0 for m in months), sum(m.output or 0 for m in months)
    assert (found.assessment.energy, found.output) == (energy, output)
    assert found.assessment.actual == Fraction(energy) / Fraction(output)
    assert (found.assessment.status, found.assessment.reason) == (Status.BETWEEN, None)
    assert found.windows == Windows(12 * 744, 12 * 744, 0)


def test_examples_of_section_3_over_a_year() -> None:
    tce = Indicator("equivalent", None, False, D(1000))
    for output, printed in (("4800", "0.4100"), ("1150", "1.7115")):
        one = [month(YEAR[0], "1968214.6", output)]
        actual = periods.total(tce, Grain.MONTH, one, YEAR[:1], is_over=True).assessment.actual
        assert actual is not None
        assert rounding.round_places(actual, 4) == D(printed)
    halves = [month(at, "808333.25" if n else "808334.25", "8208.25" if n else "8209.25") for n, at in enumerate(YEAR)]
    product = total(halves).assessment.actual
    assert product == Fraction(9_700_000) / Fraction(98_500)
    assert rounding.round_places(product, 3) == D("98.477")
    recovering = [month(at, "-300" if n % 2 else "-100", "10", level=Level(2, D(-30), D(-10), "confirmed"))
                  for n, at in enumerate(YEAR)]  # fmt: skip
    negative = total(recovering).assessment
    assert (negative.actual, negative.status, negative.ratio, negative.position) == (
        -20, Status.BETWEEN, Fraction(3, 2), Fraction(1, 2),
    )  # fmt: skip


def test_pue_is_judged_on_twelve_whole_months() -> None:
    level = Level(3, D("1.3"), D("1.5"), "recalled")
    months = [month(at, "1040000", "800000", level=level) for at in YEAR]

    def pue(grain: Grain, given: list[MonthOfLine], expected: list[date]) -> benchmark.Assessment:
        return periods.total(PUE, grain, given, expected, is_over=True).assessment

    for grain in (Grain.YEAR, Grain.ROLLING_12_MONTHS):
        found = pue(grain, months, YEAR)
        assert (found.actual, found.energy) == (Fraction(13, 10), 12_480_000)
        assert (found.status, found.reason, found.is_provisional) == (Status.AT_BENCHMARK, None, False)
    assert pue(Grain.QUARTER, months[:3], YEAR[:3]).reason is Reason.JUDGED_ON_YEAR
    assert pue(Grain.YEAR_TO_DATE, months, YEAR).reason is Reason.JUDGED_ON_YEAR
    assert pue(Grain.YEAR, months[4:], YEAR[4:]).reason is Reason.JUDGED_ON_YEAR  # in service since May


def test_a_month_that_stood_still_counts_its_energy_and_one_without_report_does_not() -> None:
    still = month(YEAR[3], "500", "0", reason="no_output")
    assert total([month(YEAR[2]), still], expected=YEAR[2:4]).assessment.actual == 105
    silent = month(YEAR[3], "500", None, reason="no_output")
    found = total([month(YEAR[2]), silent], expected=YEAR[2:4]).assessment
    assert (found.actual, found.reason, found.is_provisional) == (100, Reason.MISSING_MONTHS, True)
    assert total([month(YEAR[2])], expected=YEAR[2:4]).assessment.reason is Reason.MISSING_MONTHS  # not computed


def test_a_month_without_readings_or_factor_is_missing_and_never_a_cheap_month() -> None:
    unread = month(YEAR[1], "0", "100", reason="no_readings", windows=Windows(744, 0, 0))
    unread = replace(unread, has_value=False)
    found = total([*(month(at) for at in YEAR if at != YEAR[1]), unread]).assessment
    assert (found.actual, found.reason) == (100, Reason.MISSING_MONTHS)
    unknown = month(YEAR[1], None, "100", reason="no_factor")
    assert total([month(YEAR[0]), unknown], expected=YEAR[:2]).assessment.reason is Reason.MISSING_MONTHS


def test_no_month_with_a_value_has_no_figure_and_the_reason() -> None:
    silent = [month(at, "500", None, reason="no_output") for at in YEAR]
    found = total(silent).assessment
    assert (found.actual, found.status, found.ratio, found.reason) == (None, Status.UNKNOWN, None, Reason.NO_OUTPUT)
    assert total([month(at, None, "1", reason="no_factor") for at in YEAR]).assessment.reason is Reason.NO_FACTOR
    assert total([]).assessment.reason is Reason.NO_OUTPUT
    still = [month(at, "500", "0", reason="no_output") for at in YEAR]
    assert (total(still).assessment.actual, total(still).assessment.energy) == (None, 6000)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"windows": Windows(744, 669, 75)}, {}, Reason.INCOMPLETE_READINGS),  # 89.9 % of the year
        ({"windows": Windows(744, 670, 74)}, {}, None),
        ({"reason": "missing_output_days"}, {}, Reason.MISSING_OUTPUT_DAYS),
        ({"reason": "incomplete_output"}, {}, Reason.INCOMPLETE_OUTPUT),
        ({}, {"is_over": False}, Reason.OPEN_PERIOD),
    ],
)
def test_what_makes_a_period_provisional(
    changes: dict[str, object], options: dict[str, object], reason: Reason | None
) -> None:
    found = total([month(at, **changes) for at in YEAR], **options).assessment  # type: ignore[arg-type]
    assert (found.reason, found.is_provisional) == (reason, reason is not None)


def test_a_figure_of_the_whole_year_goes_before_the_months() -> None:
    months = [month(at) for at in YEAR[:11]] + [month(YEAR[11], "10000", None, reason="no_output")]
    found = total(months, yearly_output=D(1500))
    assert (found.assessment.actual, found.output, found.assessment.reason) == (80, 1500, None)
    assert total(months[:3], Grain.QUARTER, YEAR[:3], yearly_output=D(1500)).assessment.actual == 100


def test_a_period_keeps_the_edition_of_its_first_month() -> None:
    second = Level(2, D(90), D(95), "confirmed")
    months = [month(at, level=LEVEL if at < date(2026, 7, 1) else second) for at in YEAR]
    found = total(months)
    assert found.level == LEVEL
    assert found.assessment.status is Status.AT_BENCHMARK
    late = total(months[6:9], Grain.QUARTER, YEAR[6:9])
    assert (late.level, late.assessment.status) == (second, Status.BELOW_BASELINE)


def test_limits_corrected_month_by_month_are_their_mean_by_output() -> None:
    months = [
        month(YEAR[0], output="100", quota_limit_id=5, limits=(D(80), D(87), D(94))),
        month(YEAR[1], output="300", quota_limit_id=5, limits=(D(84), D(91), D(98))),
        month(YEAR[2], output="900", quota_limit_id=6, limits=(D(1), D(2), D(3))),  # another edition
    ]
    found = total(months, Grain.QUARTER, YEAR[:3])
    assert (found.limits, found.quota_limit_id) == ((D(83), D(90), D(97)), 5)


def test_index_of_several_products() -> None:
    parts = [(D(10400), D(100), D(100), D(1)), (D(600), D(1), D(500), D("1.4286"))]
    assert periods.index(parts) == Fraction(11000) / (Fraction(10000) + 500 * Fraction("1.4286"))
    assert periods.index([(D(9_700_000), D(98_500), D(100), D(1))]) == Fraction("9700000") / 9_850_000
    assert periods.index([]) is None
    assert periods.index([(D(-10), D(1), D(-30), D(1))]) is None  # a recovery process alone
    assert periods.index([(D(-10), D(1), D(-30), D(1)), (D(40), D(1), D(60), D(1))]) == 1  # within a works


amounts = st.decimals(0, 10**6, places=6)


@given(st.lists(st.tuples(amounts, st.decimals(1, 10**6, places=3)), min_size=12, max_size=12))
def test_quarters_add_up_to_the_year(figures: list[tuple[Decimal, Decimal]]) -> None:
    months = [month(at, str(e), str(o)) for at, (e, o) in zip(YEAR, figures, strict=True)]
    quarters = [total(months[n : n + 3], Grain.QUARTER, YEAR[n : n + 3]) for n in range(0, 12, 3)]
    year = total(months)
    assert sum((one.assessment.energy or 0 for one in quarters), Fraction(0)) == year.assessment.energy
    assert sum((one.output or 0 for one in quarters), Decimal(0)) == year.output


@pytest.mark.parametrize(
    ("written", "grain", "first", "end"),
    [
        ("2026-12", "month", date(2026, 12, 1), date(2027, 1, 1)),
        ("2026-Q4", "quarter", date(2026, 10, 1), date(2027, 1, 1)),
        ("2026-Q1", "quarter", date(2026, 1, 1), date(2026, 4, 1)),
        ("2025", "year", date(2025, 1, 1), date(2026, 1, 1)),
    ],
)
def test_a_calendar_period_is_read_and_written_alike(written: str, grain: str, first: date, end: date) -> None:
    assert periods.calendar_period(written) == (grain, first, end)
    assert periods.written_period(grain, first) == written


@pytest.mark.parametrize("written", ["", "2026-13", "2026-Q5", "0000", "9999-12", "26", "2026-1", "２０２６"])
def test_anything_else_is_no_calendar_period(written: str) -> None:
    with pytest.raises(ValueError, match="is no period"):
        periods.calendar_period(written)
