"""Distance of a line from the official levels: status, ratio, position, gap, share of capacity. Exact."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from fractions import Fraction

from app.domain.accounting import MixedFactorSets, flow_sign, refuse_mixed
from app.domain.exact import at_most, fraction

Number = Decimal | Fraction | int
# Provincial data-quality rule: at least 90 % of the expected windows were received.
COMPLETENESS_MIN = Fraction(9, 10)
# Wide enough for a sum of amounts; what would be rounded raises instead.
_EXACT = Context(prec=200, traps=[Inexact])


class Direction(StrEnum):
    """Which side of a level is good."""

    LOWER_IS_BETTER = "lower_is_better"
    HIGHER_IS_BETTER = "higher_is_better"


class Status(StrEnum):
    """Where an indicator stands against benchmark and baseline; unknown is never at the benchmark."""

    AT_BENCHMARK = "at_benchmark"
    BETWEEN = "between"
    BELOW_BASELINE = "below_baseline"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why an indicator has no value, or why its value is provisional."""

    NO_OUTPUT = "no_output"
    UNKNOWN_OUTPUT_UNIT = "unknown_output_unit"
    NO_READINGS = "no_readings"
    NO_FACTOR = "no_factor"
    MIXED_FACTOR_SETS = "mixed_factor_sets"
    MIXED_UNITS = "mixed_units"
    INCOMPLETE_READINGS = "incomplete_readings"
    MISSING_OUTPUT_DAYS = "missing_output_days"
    MISSING_MONTHS = "missing_months"
    INCOMPLETE_OUTPUT = "incomplete_output"
    OPEN_MONTH = "open_month"
    OPEN_PERIOD = "open_period"
    JUDGED_ON_YEAR = "judged_on_year"


@dataclass(frozen=True, slots=True)
class Level:
    """A dated row of the level table; either level may be missing."""

    level_id: int | None
    benchmark: Decimal | None
    baseline: Decimal | None
    confidence: str
    valid_from: date | None = None
    valid_to: date | None = None
    recorded_at: datetime | None = None


def with_levels(level: Level, benchmark: Decimal | None, baseline: Decimal | None) -> Level:
    """Return a level with other values: corrected by the conditions of a line."""
    return replace(level, benchmark=benchmark, baseline=baseline)


def level_of_month(levels: Iterable[Level], month: date) -> Level | None:
    """Return the level in force on the first day of a month: a month is judged by one edition.

    The latest valid_from wins; undated rows stand behind dated ones; of equals the one recorded last.
    """
    in_force = [
        level
        for level in levels
        if (level.valid_from is None or level.valid_from <= month)
        and (level.valid_to is None or month < level.valid_to)
    ]
    return max(
        in_force,
        key=lambda level: (
            level.valid_from or date.min,
            level.recorded_at.timestamp() if level.recorded_at else 0.0,
            level.level_id or 0,
        ),
        default=None,
    )


def status(
    actual: Number,
    benchmark: Number | None,
    baseline: Number | None,
    direction: Direction = Direction.LOWER_IS_BETTER,
) -> Status:
    """Return the status by full-value comparison (GB/T 8170-2008, 4.3.3); reaching a level by equality counts.

    With one level only, what that level decides is said and the rest is unknown.
    """
    x = fraction(actual)
    if benchmark is not None and reaches(x, benchmark, direction):
        return Status.AT_BENCHMARK
    if baseline is not None and not reaches(x, baseline, direction):
        return Status.BELOW_BASELINE
    return Status.UNKNOWN if benchmark is None or baseline is None else Status.BETWEEN


def reaches(actual: Number, level: Number, direction: Direction = Direction.LOWER_IS_BETTER) -> bool:
    """Whether a figure reaches a level, by full value; equality reaches it."""
    x, limit = fraction(actual), fraction(level)
    return at_most(x, limit) if direction is Direction.LOWER_IS_BETTER else at_most(limit, x)


def ratio(actual: Number, benchmark: Number | None) -> Fraction | None:
    """Return the energy-efficiency index of GB/T 28924-2023, or None where it is not defined.

    actual / benchmark when both are positive, benchmark / actual when both are negative (recovery processes). With
    different signs, or a zero, a ratio would mislead: rely on the status and the gap.
    """
    if benchmark is None:
        return None
    x, level = fraction(actual), fraction(benchmark)
    if x.numerator > 0 and level.numerator > 0:
        return Fraction(x.numerator * level.denominator, x.denominator * level.numerator)
    if x.numerator < 0 and level.numerator < 0:
        return Fraction(level.numerator * x.denominator, level.denominator * x.numerator)
    return None


def position(actual: Number, benchmark: Number | None, baseline: Number | None) -> Fraction | None:
    """Return (baseline - actual) / (baseline - benchmark): 1 at the benchmark, 0 at the baseline, any sign."""
    if benchmark is None or baseline is None or benchmark == baseline:
        return None
    x, better, worse = fraction(actual), fraction(benchmark), fraction(baseline)
    # In whole numbers: each difference is over the product of its denominators.
    reached = worse.numerator * x.denominator - x.numerator * worse.denominator
    whole = worse.numerator * better.denominator - better.numerator * worse.denominator
    return Fraction(reached * better.denominator, whole * x.denominator)


def gap(actual: Number, benchmark: Number) -> Fraction:
    """Return actual - benchmark in the unit of the indicator: what is left to save per unit of product."""
    return Fraction(actual) - Fraction(benchmark)


@dataclass(frozen=True, slots=True)
class CapacityShare:
    """Capacity at the benchmark out of all capacity of one domain, in the domain's own unit."""

    at_benchmark: Fraction
    total: Fraction
    lines_at_benchmark: int
    lines: int

    @property
    def share_pct(self) -> Fraction | None:
        """The share in percent; None without capacity."""
        return self.at_benchmark / self.total * 100 if self.total else None

    def is_above(self, target_pct: Number, *, or_equal: bool = False) -> bool:
        """Whether the share is above a target, strictly unless equality is enough: exactly 30.00 % is not over 30 %."""
        share = self.share_pct
        if share is None:
            return False
        return share > Fraction(target_pct) or (or_equal and share == Fraction(target_pct))


def capacity_share(lines: Sequence[tuple[Number, str, Status]]) -> CapacityShare:
    """Return the share of capacity at the benchmark of lines given as (capacity, capacity unit, status).

    Units of capacity differ between products, so shares are per domain: lines of two units raise ValueError.
    """
    units = {unit for _, unit, _ in lines}
    if len(units) > 1:
        raise ValueError(f"capacities in {sorted(units)}: a share is computed per domain, in one unit")
    reached = [Fraction(capacity) for capacity, _, status_ in lines if status_ is Status.AT_BENCHMARK]
    return CapacityShare(
        at_benchmark=sum(reached, Fraction(0)),
        total=sum((Fraction(capacity) for capacity, _, _ in lines), Fraction(0)),
        lines_at_benchmark=len(reached),
        lines=len(lines),
    )


@dataclass(frozen=True, slots=True)
class Indicator:
    """How a catalogue variant makes its figure: what energy is summed and what it is divided by."""

    conversion: str  # equivalent | equal | physical
    carriers: frozenset[str] | None  # None: every carrier inside the boundary
    feedstock_counts: bool
    base_per_unit: Decimal  # kgce, or the physical unit, in one numerator unit of the indicator
    direction: Direction = Direction.LOWER_IS_BETTER
    is_judged_on_year: bool = False

    def counts(self, carrier_key: str, flow: str) -> bool:
        """Whether an amount enters the sum at all."""
        return (self.carriers is None or carrier_key in self.carriers) and (
            flow_sign(flow, feedstock_counts=self.feedstock_counts) != 0
        )


@dataclass(frozen=True, slots=True)
class EnergyAmount:
    """Energy of one carrier and flow over a period; a conversion is None where a factor is missing.

    factor_sets: the sets that the conversions of its parts were taken from.
    """

    carrier_key: str
    unit: str
    flow: str
    quantity: Decimal
    equivalent_kgce: Decimal | None
    equal_kgce: Decimal | None
    factor_sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Windows:
    """How much of a figure was measured: sampling windows expected, received and estimated."""

    expected: int
    received: int
    estimated: int

    @property
    def measured_share(self) -> Fraction:
        """Received over expected, at most 1; 0 when nothing was expected."""
        return min(Fraction(self.received, self.expected), Fraction(1)) if self.expected > 0 else Fraction(0)

    @property
    def estimated_share(self) -> Fraction:
        """Estimated over expected, within what was not measured."""
        if self.expected <= 0:
            return Fraction(0)
        return min(Fraction(self.estimated, self.expected), 1 - self.measured_share)

    @property
    def missing_share(self) -> Fraction:
        """Neither received nor estimated, over expected; 0 when nothing was expected."""
        return 1 - self.measured_share - self.estimated_share if self.expected > 0 else Fraction(0)

    @property
    def is_complete(self) -> bool:
        """Whether at least 90 % of the expected windows were received."""
        least = self.expected * COMPLETENESS_MIN.numerator
        return self.expected > 0 and self.received * COMPLETENESS_MIN.denominator >= least


@dataclass(frozen=True, slots=True)
class Period:
    """What a figure is asked for: whether the period is over, and what output was reported in it."""

    is_over: bool
    output: Decimal | None  # in the indicator's output unit; None: nothing reported
    is_output_unit_known: bool = True
    has_missing_output_days: bool = False
    has_incomplete_output: bool = False  # a meter of the output was silent in over 10 % of its windows


@dataclass(frozen=True, slots=True)
class Assessment:
    """The figure of a line and period with everything that qualifies it."""

    actual: Fraction | None
    energy: Fraction | None  # in kgce or the physical unit
    status: Status
    ratio: Fraction | None
    position: Fraction | None
    reason: Reason | None
    is_provisional: bool


def indicator_energy(indicator: Indicator, amounts: Sequence[EnergyAmount]) -> Fraction | Reason:
    """Return the signed sum of the indicator's energy, or the reason why there is none."""
    counted = [amount for amount in amounts if indicator.counts(amount.carrier_key, amount.flow)]
    if indicator.conversion == "physical" and len({amount.unit for amount in counted}) > 1:
        return Reason.MIXED_UNITS
    if indicator.conversion != "physical" and _is_mixed(counted):
        return Reason.MIXED_FACTOR_SETS
    total = Decimal(0)
    for amount in counted:
        value = _converted(amount, indicator.conversion)
        if value is None:
            if amount.quantity == 0:
                continue
            return Reason.NO_FACTOR
        is_added = flow_sign(amount.flow, feedstock_counts=indicator.feedstock_counts) > 0
        total = _EXACT.add(total, value) if is_added else _EXACT.subtract(total, value)
    return Fraction(total)


def _converted(amount: EnergyAmount, conversion: str) -> Decimal | None:
    if conversion == "physical":
        return amount.quantity
    return amount.equivalent_kgce if conversion == "equivalent" else amount.equal_kgce


def _is_mixed(amounts: Sequence[EnergyAmount]) -> bool:
    """Whether one carrier was converted by two factor sets, which is no inventory (rules, section 8)."""
    is_one_each = len({amount.carrier_key for amount in amounts}) == len(amounts)
    if is_one_each and all(len(amount.factor_sets) <= 1 for amount in amounts):
        return False
    try:
        refuse_mixed((amount.carrier_key, name) for amount in amounts for name in amount.factor_sets)
    except MixedFactorSets:
        return True
    return False


def assess(
    indicator: Indicator,
    amounts: Sequence[EnergyAmount],
    windows: Windows,
    level: Level | None,
    period: Period,
) -> Assessment:
    """Return the assessment of a line over a period; without output or readings there is no value, and a reason."""
    energy = indicator_energy(indicator, amounts)
    known = None if isinstance(energy, Reason) else energy
    missing = _why_no_value(energy, windows, period)
    if missing is not None or known is None or not period.output:
        return Assessment(None, known, Status.UNKNOWN, None, None, missing, not period.is_over)
    doubt = _why_provisional(indicator, windows, period)
    return judged(indicator, known, period.output, level, doubt)


def judged(
    indicator: Indicator, energy: Fraction, output: Number, level: Level | None, doubt: Reason | None
) -> Assessment:
    """Return the assessment of a known energy and output (over zero); a doubt makes it provisional."""
    base, amount = fraction(indicator.base_per_unit), fraction(output)
    actual = Fraction(
        energy.numerator * base.denominator * amount.denominator,
        energy.denominator * base.numerator * amount.numerator,
    )
    benchmark, baseline = (level.benchmark, level.baseline) if level else (None, None)
    return Assessment(
        actual=actual,
        energy=energy,
        status=status(actual, benchmark, baseline, indicator.direction),
        ratio=ratio(actual, benchmark),
        position=position(actual, benchmark, baseline),
        reason=doubt,
        is_provisional=doubt is not None,
    )


def _why_no_value(energy: Fraction | Reason, windows: Windows, period: Period) -> Reason | None:
    if not period.is_output_unit_known:
        return Reason.UNKNOWN_OUTPUT_UNIT
    if not period.output:
        return Reason.NO_OUTPUT
    if windows.received + windows.estimated == 0:
        return Reason.NO_READINGS
    return energy if isinstance(energy, Reason) else None


def _why_provisional(indicator: Indicator, windows: Windows, period: Period) -> Reason | None:
    """The gravest doubt: data first, then time."""
    doubts = (
        (not windows.is_complete, Reason.INCOMPLETE_READINGS),
        (not period.is_over, Reason.OPEN_MONTH),
        (period.has_missing_output_days, Reason.MISSING_OUTPUT_DAYS),
        (period.has_incomplete_output, Reason.INCOMPLETE_OUTPUT),
        (indicator.is_judged_on_year, Reason.JUDGED_ON_YEAR),
    )
    return next((reason for holds, reason in doubts if holds), None)
