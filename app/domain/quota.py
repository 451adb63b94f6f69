"""Limits of the mandatory quota standards (GB 限额): the grade of a line, limits corrected by its conditions. Exact.

Level 1 is advanced, level 2 what new plants must reach, level 3 what existing plants must reach. They are kept apart
from benchmark and baseline: in most products these equal a level of the standard, but not in all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from fractions import Fraction

from app.domain.benchmark import Direction, reaches

Number = Decimal | Fraction | int
# Levels 1, 2 and 3.
Limits = tuple[Decimal | None, Decimal | None, Decimal | None]
NO_LIMITS: Limits = (None, None, None)
# Wide enough for every product of two figures here; what would be rounded raises instead.
_EXACT = Context(prec=200, traps=[Inexact])


class Grade(StrEnum):
    """What a figure reaches of a quota standard."""

    LEVEL_1 = "1"
    LEVEL_2 = "2"
    LEVEL_3 = "3"
    NONE = "none"


class Side(StrEnum):
    """On which side of its base an input makes points."""

    ABOVE = "above"
    BELOW = "below"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class QuotaLimit:
    """A dated row of a quota standard; a level that the standard does not print is None."""

    quota_limit_id: int
    level_1: Decimal | None
    level_2: Decimal | None
    level_3: Decimal | None
    valid_from: date | None = None
    valid_to: date | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """A dated row of a standard's correction: `per_point` is added to a level for each point of an input.

    Points are counted from `base`; without a base the input is the number of points itself. `most_points` caps them.
    """

    input_key: str
    level: str  # 1 | 2 | 3 | benchmark | baseline
    side: Side
    base: Decimal | None
    per_point: Decimal
    most_points: Decimal | None
    valid_from: date | None = None
    valid_to: date | None = None


def points(correction: Correction, value: Decimal) -> Decimal:
    """Return by how many points an input corrects: signed for `both`, else 0 on the side that does not count."""
    off = _EXACT.subtract(value, correction.base or Decimal(0))
    if correction.side is Side.BELOW:
        off = -off
    if correction.side is not Side.BOTH:
        off = max(off, Decimal(0))
    if correction.most_points is not None:
        off = max(min(off, correction.most_points), -correction.most_points)
    return off


@dataclass(frozen=True, slots=True)
class Applied:
    """A correction as it was applied to one level."""

    input_key: str
    level: str
    value: Decimal
    points: Decimal
    added: Decimal


def applied(corrections: Iterable[Correction], inputs: Mapping[str, Decimal], month: date) -> tuple[Applied, ...]:
    """Return what the conditions of a line in a month add to each level; an input that was not given adds nothing."""
    found = []
    for row in sorted(corrections, key=lambda row: (row.input_key, row.level)):
        value = inputs.get(row.input_key)
        if value is None or not is_in_force(row, month):
            continue
        by = points(row, value)
        if by:
            found.append(Applied(row.input_key, row.level, value, by, _EXACT.multiply(by, row.per_point)))
    return tuple(found)


def corrected(level: Decimal | None, name: str, by: Sequence[Applied]) -> Decimal | None:
    """Return a level with what was added to it; a level that is not there stays None."""
    if level is None:
        return None
    for one in by:
        if one.level == name:
            level = _EXACT.add(level, one.added)
    return level


def is_in_force(row: QuotaLimit | Correction, month: date) -> bool:
    """Whether a dated row holds on the first day of a month."""
    return (row.valid_from is None or row.valid_from <= month) and (row.valid_to is None or month < row.valid_to)


def limit_of_month(limits: Iterable[QuotaLimit], month: date) -> QuotaLimit | None:
    """Return the limit in force on the first day of a month; the latest valid_from wins, undated rows stand behind."""
    return max(
        (limit for limit in limits if is_in_force(limit, month)),
        key=lambda limit: (limit.valid_from or date.min, limit.quota_limit_id),
        default=None,
    )


def grade(actual: Number, limits: Limits, direction: Direction = Direction.LOWER_IS_BETTER) -> Grade | None:
    """Return the best of levels 1, 2, 3 that a figure reaches, by full value and equality included.

    None where no level is known, or where the figure passes all that are known and level 3 is not among them.
    """
    for name, level in zip((Grade.LEVEL_1, Grade.LEVEL_2, Grade.LEVEL_3), limits, strict=True):
        if level is not None and reaches(actual, level, direction):
            return name
    return None if limits[2] is None else Grade.NONE
