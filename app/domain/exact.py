"""Exact values: what a double on the wire means as a decimal number, and fractions of decimals without detours."""

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache


def exact_decimal(value: float) -> Decimal:
    """Return the decimal number a double stands for, by 15 significant digits.

    PostgreSQL's `double precision::numeric` does the same, so figures computed in SQL and in Python agree to the
    last digit. Convert before subtracting: a difference of doubles already carries binary error.
    """
    return Decimal(format(value, ".15g"))


def fraction(value: Decimal | Fraction | int) -> Fraction:
    """Return a number as a fraction; decimals that come again and again (levels) are converted once."""
    # By its type: `isinstance` asks every abstract number first, which costs more than the rest.
    return value if type(value) is Fraction else _of_decimal(value)


@lru_cache(maxsize=4096)
def _of_decimal(value: Decimal | Fraction | int) -> Fraction:
    return Fraction(value)


def at_most(value: Fraction, limit: Fraction) -> bool:
    """Return value <= limit, by whole numbers: a comparison of fractions costs ten times as much."""
    return value.numerator * limit.denominator <= limit.numerator * value.denominator
