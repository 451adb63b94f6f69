"""Targets of a plan: energy intensity, how far it fell, how far it should have fallen, how much was saved. Exact.

Percentages are numbers of per cent (14.5 is 14.5 %). Fractions stay fractions; powers and logarithms are decimals of
`DIGITS` significant digits, far beyond what is shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from fractions import Fraction

Number = Decimal | Fraction | int
DIGITS = 40
_CONTEXT = Context(prec=DIGITS)


class ProgressMethod(StrEnum):
    """How progress toward a plan target is put into one number; a value without its method's name says nothing."""

    LOGARITHMIC = "logarithmic"  # ln(1 - R) / ln(1 - T), as in earlier five-year assessments (recalled)
    LINEAR = "linear"  # R / T, sometimes printed


class NoFigure(StrEnum):
    """Why there is no intensity, or none that may be compared."""

    NO_ENERGY = "no_energy"
    NO_FACTOR = "no_factor"
    INCOMPLETE_YEAR = "incomplete_year"
    NO_GDP = "no_gdp"
    MIXED_PRICES = "mixed_prices"
    MIXED_BASIS = "mixed_basis"
    MISSING_DEDUCTION = "missing_deduction"


def reduction_pct(base: Number, now: Number) -> Fraction:
    """Return R = (1 - now / base) x 100, both at the same constant prices; a rise is negative (rules, section 5)."""
    if base <= 0:
        raise ValueError(f"the base figure is {base}: a reduction rate needs a positive one")
    return (1 - Fraction(now) / Fraction(base)) * 100


def yearly_rate_pct(target_pct: Number, years: int) -> Decimal:
    """Return the equal yearly rate a = 1 - (1 - T)^(1/n) that meets a plan target over n years, in per cent."""
    return required_cumulative_pct(target_pct, 1, years)


def required_cumulative_pct(target_pct: Number, years_passed: int, years: int) -> Decimal:
    """Return 1 - (1 - T)^(k/n) in per cent: what must have been reached after k of n years (rules, section 5)."""
    if not 0 <= years_passed <= years or years <= 0:
        raise ValueError(f"year {years_passed} of {years}: name a year inside the plan")
    if years_passed == years:
        return _decimal(Fraction(target_pct))  # the target itself, without a power's last digit
    left = _CONTEXT.power(_decimal(_left(target_pct)), _decimal(Fraction(years_passed, years)))
    return _CONTEXT.multiply(_CONTEXT.subtract(Decimal(1), left), Decimal(100))


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a plan target is done, by a named method, beside how much of its time is over; in per cent."""

    method: ProgressMethod
    done_pct: Decimal
    time_pct: Fraction

    @property
    def of_schedule_pct(self) -> Decimal | None:
        """Done as a share of what an even schedule would have done by now; None before the first year is over."""
        if not self.time_pct:
            return None
        return _CONTEXT.multiply(_CONTEXT.divide(self.done_pct, _decimal(self.time_pct)), Decimal(100))


def progress(
    method: ProgressMethod, reached_pct: Number, target_pct: Number, years_passed: int, years: int
) -> Progress:
    """Return the progress of a cumulative reduction toward a plan target (rules, section 5)."""
    if method is ProgressMethod.LINEAR:
        done = _decimal(Fraction(reached_pct) / Fraction(target_pct))
    else:
        done = _CONTEXT.divide(
            _CONTEXT.ln(_decimal(_left(reached_pct, is_target=False))), _CONTEXT.ln(_decimal(_left(target_pct)))
        )
    return Progress(method, _CONTEXT.multiply(done, Decimal(100)), Fraction(years_passed, years) * 100)


def _left(pct: Number, *, is_target: bool = True) -> Fraction:
    """Return what is left after a reduction, as a share; nothing left (or, of a target, nothing asked) is refused."""
    left = 1 - Fraction(pct) / 100
    if left <= 0 or (is_target and left >= 1):
        raise ValueError(f"a reduction of {pct} %: expected above 0 and below 100")
    return left


def _decimal(value: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def energy_saved_kgce(products: Iterable[tuple[Number, Number, Number]]) -> Fraction:
    """Return the sum of (base unit energy - present unit energy) x present output, in kgce; saving is positive.

    The product method of GB/T 13234; each product is (kgce/t in the base year, kgce/t now, t now).
    """
    return sum(((Fraction(base) - Fraction(now)) * Fraction(output) for base, now, output in products), Fraction(0))


@dataclass(frozen=True, slots=True)
class RegionYear:
    """A region's year: energy and what is deducted from it (tce), and its product in 10^4 yuan at constant prices.

    `basis` says where the energy comes from (entered, or measured at the monitored units): two bases are not compared.
    """

    energy_tce: Number | None
    basis: str
    feedstock_tce: Number | None
    new_renewables_tce: Number | None
    gdp: Number | None
    price_base_year: int | None = None
    missing: NoFigure = NoFigure.NO_ENERGY  # why there is no energy, where there is none

    @property
    def counted_tce(self) -> Fraction | None:
        """Energy under total-energy control: without feedstock and without newly added renewables."""
        if self.energy_tce is None:
            return None
        return Fraction(self.energy_tce) - Fraction(self.feedstock_tce or 0) - Fraction(self.new_renewables_tce or 0)

    @property
    def intensity(self) -> Fraction | NoFigure:
        """Counted energy over product, in tce per 10^4 yuan, or why there is none."""
        if self.counted_tce is None:
            return self.missing
        if not self.gdp:
            return NoFigure.NO_GDP
        return self.counted_tce / Fraction(self.gdp)


def intensity_reduction_pct(base: RegionYear, now: RegionYear) -> Fraction | NoFigure:
    """Return how far intensity fell from the base year, or why the two years are not comparable.

    What is deducted is deducted from both years: a deduction known of one year alone gives no figure.
    """
    before, after = base.intensity, now.intensity
    if isinstance(before, NoFigure):
        return before
    if isinstance(after, NoFigure):
        return after
    if base.basis != now.basis:
        return NoFigure.MIXED_BASIS
    if base.price_base_year != now.price_base_year:
        return NoFigure.MIXED_PRICES
    if not _deduct_alike(base, now):
        return NoFigure.MISSING_DEDUCTION
    return reduction_pct(before, after) if before > 0 else NoFigure.NO_ENERGY


def _deduct_alike(base: RegionYear, now: RegionYear) -> bool:
    return (base.feedstock_tce is None) == (now.feedstock_tce is None) and (base.new_renewables_tce is None) == (
        now.new_renewables_tce is None
    )
