"""What a capacity amounts to in a whole year, by hand."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from app.domain.capacity import Capacity, Unit, amount_of_year, holding

D = Decimal
UNITS = {
    "t": Unit("kg", D(1000)), "10^4 t": Unit("kg", D(10_000_000)), "kg": Unit("kg", D(1)),
    "kWh": Unit("kWh", D(1)), "MWh": Unit("kWh", D(1000)),
    "kW": Unit("kWh", D(1), is_rate=True), "t/h": Unit("kg", D(1000), is_rate=True),
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "unit", "year", "wanted", "expected"),
    [
        ("1500000", "t/a", 2026, "t", 1_500_000),
        ("150", "10^4 t/a", 2026, "t", 1_500_000),
        ("150", "10^4 t/a", 2024, "kg", 1_500_000_000),  # a leap year has no more of it
        ("5000", "t/d", 2026, "t", 1_825_000),
        ("5000", "t/d", 2024, "t", 1_830_000),
        ("100", "t/h", 2026, "10^4 t", Fraction("87.6")),
        ("2400", "kW", 2026, "kWh", 21_024_000),
        ("2400", "kW", 2026, "MWh", 21_024),
        ("70000", "weight case/d", 2026, "weight case", 25_550_000),  # a unit that no table has is itself
        ("900", "t/d", 2026, "weight case", None),
        ("2400", "kW", 2026, "t", None),
        ("500", "racks", 2026, "kWh", None),
        ("1", "t/month", 2026, "t", None),
        ("1", "t", 2026, "t", None),
        ("1", "/a", 2026, "t", None),
        ("1", "kW/a", 2026, "kW", None),
    ],
)
def test_the_amount_of_a_whole_year(value: str, unit: str, year: int, wanted: str, expected: Fraction | None) -> None:
    assert amount_of_year(Capacity(D(value), unit), year, wanted, UNITS) == expected


def test_the_capacity_that_holds_on_a_day() -> None:
    registered, first, second = (Capacity(D(value), "t/a") for value in (1, 2, 3))
    reported = {date(2026, 7, 1): second, date(2026, 1, 1): first}
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 6, 30), date(2026, 7, 1), date(2030, 1, 1)]
    assert [holding(day, reported, registered) for day in days] == [registered, first, first, second, second]
    assert holding(days[0], reported, None) is None
    assert holding(days[0], {}, Capacity(D(0), "t/a")) is None
