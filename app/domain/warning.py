"""Early warning: how far a region lags behind what was required, and its level by a dated rule set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

Number = Decimal | Fraction | int


class Measure(StrEnum):
    """What a condition looks at."""

    GAP_PCT = "gap_pct"  # (required - actual) / required x 100: relative (recalled; the copies read do not say)
    SHORTFALL = "shortfall"  # required - actual, in percentage points
    REDUCTION = "reduction"  # the reduction rate reached; negative when intensity rose


@dataclass(frozen=True, slots=True)
class Condition:
    """A level and when it holds: the measure strictly over a bound, or strictly below one; without measure always."""

    level: int
    measure: Measure | None = None
    over: Decimal | None = None
    below: Decimal | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A dated set of conditions, the gravest first; the first that holds gives the level."""

    key: str
    conditions: tuple[Condition, ...]
    valid_from: date | None = None
    valid_to: date | None = None


def rule_set(key: str, rules: Mapping[str, Any], valid_from: date | None, valid_to: date | None) -> RuleSet:
    """Return a rule set from its data: {"levels": [{"level": 1, "measure": "gap_pct", "over": "10"}, …]}."""
    conditions = tuple(
        Condition(
            level=int(row["level"]),
            measure=Measure(row["measure"]) if "measure" in row else None,
            over=Decimal(row["over"]) if "over" in row else None,
            below=Decimal(row["below"]) if "below" in row else None,
        )
        for row in rules["levels"]
    )
    for condition in conditions:
        bounds = (condition.over is not None) + (condition.below is not None)
        if bounds != (condition.measure is not None):
            raise ValueError(f"rule set {key}, level {condition.level}: a measure goes with one bound, over or below")
    return RuleSet(key, conditions, valid_from, valid_to)


def in_force(rule_sets: Iterable[RuleSet], period_end: date) -> RuleSet | None:
    """Return the rule set whose dates hold the last day of the graded period; of several the one that began last."""
    found = [
        one
        for one in rule_sets
        if (one.valid_from is None or one.valid_from <= period_end)
        and (one.valid_to is None or period_end < one.valid_to)
    ]
    return max(found, key=lambda one: (one.valid_from or date.min, one.key), default=None)


def gap_pct(required_pct: Number, actual_pct: Number) -> Fraction | None:
    """Return (required - actual) / required x 100 of two reduction rates; None where nothing was required."""
    if required_pct <= 0:
        return None
    return (Fraction(required_pct) - Fraction(actual_pct)) / Fraction(required_pct) * 100


def level(rules: RuleSet, required_pct: Number, actual_pct: Number) -> int | None:
    """Return the warning level by full values: 1 is the gravest, 3 on track; None where no condition holds."""
    measures = {
        Measure.GAP_PCT: gap_pct(required_pct, actual_pct),
        Measure.SHORTFALL: Fraction(required_pct) - Fraction(actual_pct),
        Measure.REDUCTION: Fraction(actual_pct),
    }
    return next((one.level for one in rules.conditions if _holds(one, measures)), None)


def _holds(condition: Condition, measures: Mapping[Measure, Fraction | None]) -> bool:
    if condition.measure is None:
        return True
    value = measures[condition.measure]
    if value is None:
        return False
    return value > condition.over if condition.over is not None else value < (condition.below or 0)
