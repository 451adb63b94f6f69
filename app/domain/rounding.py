"""Rounding of shown figures by GB/T 8170-2008. Computation and comparison use full values (clause 4.3.3)."""

from decimal import Decimal
from fractions import Fraction

from app.domain.accounting import to_decimal

Exact = Decimal | Fraction | int


def round_to(value: Exact, interval: Decimal | int) -> Decimal:
    """Return value rounded to a multiple of the rounding interval, half to even (GB/T 8170-2008, clause 3.2).

    The value is rounded once, from its exact form; negative values round by their absolute value. An interval of
    Decimal("0.1") gives one decimal, 10 gives whole tens. Floats are refused: 2.675 as a float lies below the half.
    """
    if isinstance(value, float):
        raise TypeError(f"{value!r} is a binary float: pass a Decimal, so that halves are halves")
    step = Decimal(interval)
    if step <= 0:
        raise ValueError(f"a rounding interval is positive, got {interval}")
    return round(Fraction(value) / Fraction(step)) * step


def round_places(value: Exact, places: int) -> Decimal:
    """Return value rounded half to even to a number of decimals, for display."""
    return round_to(value, Decimal(1).scaleb(-places))


def plain(value: Exact | None, places: int = 12) -> str | None:
    """Return a figure as plain digits with at most so many decimals, half to even, without trailing zeros.

    For the wire, where a figure is a string: twelve decimals are what is stored of derived figures too.
    """
    return None if value is None else format(to_decimal(Fraction(value), places), "f")
