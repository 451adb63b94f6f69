"""Distance to the benchmark, ranks, tiers of the key-unit list, and who holds the post."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import key_units, peers
from app.domain.benchmark import Direction
from app.domain.key_units import Appointment, Post, Tier
from app.reference import tables

D = Decimal
TIERS = [Tier(row.tier, row.at_least_tce) for row in tables.table("key_unit_tier")]


def test_distance_is_what_reaching_the_benchmark_would_save():
    # 117.4 kgce/t against 100 over 150,000 t: 17.4 x 150,000 kgce
    assert peers.distance(D("117.4"), D(100), D(150_000), D(1)) == 2_610_000
    assert peers.distance(D("98.477"), D(100), D(98_500), D(1)) == 0  # at the benchmark: nothing, not a credit
    assert peers.distance(D(-20), D(-30), D(1000), D(1)) == 10_000  # recovery processes too
    assert peers.distance(D(607), D(590), D(1000), D("1.4286")) == D("24286.2000")  # kgoe/t in kgce


def test_distance_of_an_indicator_of_which_more_is_better():
    assert peers.distance(D(40), D(45), D(10), D(1), Direction.HIGHER_IS_BETTER) == 50
    assert peers.distance(D(46), D(45), D(10), D(1), Direction.HIGHER_IS_BETTER) == 0


def test_the_mean_of_a_group_is_its_energy_over_its_output():
    assert peers.weighted_mean([(D(100), D(3)), (D(120), D(1))]) == 105
    assert peers.weighted_mean([]) is None


def test_equal_figures_share_a_rank():
    assert peers.ranks(["a", "b", "B", "c"], str.lower) == [(1, "a"), (2, "b"), (2, "B"), (4, "c")]


@pytest.mark.parametrize(
    ("energy", "tier"),
    [
        ("4999.999999", None), ("5000", "5000_tce"), ("9999.99", "5000_tce"), ("10000", "10000_tce"),
        ("499999.9", "10000_tce"), ("500000", "500000_tce"), ("7000000", "500000_tce"), ("-5", None),
    ],
)  # fmt: skip
def test_tiers_begin_at_their_figure(energy, tier):
    assert key_units.tier_of(D(energy), TIERS) == tier


def test_the_post_is_held_empty_or_expired():
    first = Appointment("Zhao", date(2024, 1, 1), date(2025, 12, 31))
    second = Appointment("Qian", date(2026, 3, 1), None)
    both = [second, first]
    assert key_units.post_on(date(2023, 12, 31), both) == (Post.EMPTY, None)
    assert key_units.post_on(date(2024, 1, 1), both) == (Post.HELD, first)
    assert key_units.post_on(date(2025, 12, 31), both) == (Post.HELD, first)  # the last day counts
    assert key_units.post_on(date(2026, 1, 1), both) == (Post.EXPIRED, first)
    assert key_units.post_on(date(2026, 3, 1), both) == (Post.HELD, second)


@given(st.lists(st.tuples(st.integers(50, 150), st.integers(1, 1000)), min_size=1), st.integers(50, 150))
def test_distances_of_a_group_are_not_less_than_that_of_its_mean(figures, benchmark):
    alone = sum((peers.distance(actual, benchmark, output, 1) for actual, output in figures), Fraction(0))
    mean = peers.weighted_mean(figures)
    assert mean is not None
    assert alone >= peers.distance(mean, benchmark, sum(output for _, output in figures), 1)
