"""Lines among their peers: the distance to the benchmark as energy, the mean of a group, ranks. Exact."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

from app.domain.benchmark import Direction

Number = Decimal | Fraction | int
Row = TypeVar("Row")


def distance(
    actual: Number,
    benchmark: Number,
    output: Number,
    base_per_unit: Number,
    direction: Direction = Direction.LOWER_IS_BETTER,
) -> Fraction:
    """Return what reaching the benchmark would save: (actual - benchmark) x output, in kgce (or the physical unit).

    Nothing for a line that reaches it. `base_per_unit` is kgce in one numerator unit of the indicator. An indicator
    of which more is better counts the other way round.
    """
    sign = 1 if direction is Direction.LOWER_IS_BETTER else -1
    missing = sign * (Fraction(actual) - Fraction(benchmark))
    return max(missing, Fraction(0)) * Fraction(output) * Fraction(base_per_unit)


def weighted_mean(figures: Iterable[tuple[Number, Number]]) -> Fraction | None:
    """Return the mean of (figure, output) weighted by output, which is the group's own figure; None without output."""
    pairs = [(Fraction(figure), Fraction(output)) for figure, output in figures]
    total = sum((output for _, output in pairs), Fraction(0))
    return sum((figure * output for figure, output in pairs), Fraction(0)) / total if total else None


def ranks(rows: Sequence[Row], key: Callable[[Row], Any]) -> list[tuple[int, Row]]:
    """Return rows already in order with their rank from 1; rows of an equal key share a rank, the next skips."""
    numbered: list[tuple[int, Row]] = []
    for index, row in enumerate(rows, start=1):
        is_tie = bool(numbered) and key(numbered[-1][1]) == key(row)
        numbered.append((numbered[-1][0] if is_tie else index, row))
    return numbered
