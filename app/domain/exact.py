"""Exact values of readings: what a double on the wire means as a decimal number."""

from decimal import Decimal


def exact_decimal(value: float) -> Decimal:
    """Return the decimal number a double stands for, by 15 significant digits.

    PostgreSQL's `double precision::numeric` does the same, so figures computed in SQL and in Python agree to the
    last digit. Convert before subtracting: a difference of doubles already carries binary error.
    """
    return Decimal(format(value, ".15g"))
