"""Values that a person entered and no meter sent: their usage counts, its windows are estimated (inputType 5)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.domain.metering import Installation, Meter, Reading, Signal, judge, usage_hours

START = datetime(2026, 10, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


@pytest.mark.parametrize(
    ("signal", "quantity", "estimated"),
    [(Signal.REGISTER, Decimal(40), 2), (Signal.INTERVAL, Decimal(40), 1), (Signal.GAUGE, Decimal(10), 2)],
)
def test_windows_that_rest_on_a_manual_value_are_estimated(signal: Signal, quantity: Decimal, estimated: int) -> None:
    values = [0, 10, 20, 30, 40] if signal is Signal.REGISTER else [10] * 5
    meter = Meter(signal, (Installation(START),))
    for manual in (False, True):
        readings = [
            Reading(START + i * QUARTER, Decimal(value), is_manual=manual and i == 2) for i, value in enumerate(values)
        ]
        hour = usage_hours(meter, judge(meter, readings).steps)[0]
        assert (hour.quantity, hour.windows_expected) == (quantity, 4)
        expected = (4 - estimated, estimated) if manual else (4, 0)
        assert (hour.windows_received, hour.windows_estimated) == expected
