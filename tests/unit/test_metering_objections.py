"""What readings say against a stated register: one table, registers a quarter of an hour apart around an exchange."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.metering import Installation, Meter, Reading, Signal, stated_registers

START = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
RATED = {"rated_load": Decimal(400)}  # at most 125 in a quarter of an hour
DIGITS = {"digits": 6}
OLD, NEW = "118100 118110 118125", "3 13 23 33"

# before, final, after, initial, the old meter's facts -> (final's objection, initial's); None: none, True: contradicted
CASES: dict[str, tuple[str, str | None, str, str | None, dict[str, Any], bool | None, bool | None]] = {
    "all in order": (OLD, "118130", NEW, "0", {}, None, None),
    "in order with a rated load": (OLD, "118130", NEW, "0", RATED, None, None),
    "not known": (OLD, None, NEW, None, {}, None, None),
    "a final register far below": (OLD, "33000", NEW, "0", {}, True, None),
    "the same with a rated load": (OLD, "33000", NEW, "0", RATED, True, None),
    "the same with digits: no rollover": (OLD, "33000", NEW, "0", {**RATED, **DIGITS}, True, None),
    "between the last two readings": (OLD, "118120", NEW, "0", {}, True, None),
    "between earlier ones": (OLD, "118105", NEW, "0", RATED, True, None),
    "one unit of the last digit below": (OLD, "118124", NEW, "0", {}, None, None),
    "rolled over": ("999970 999980 999990", "5", NEW, "0", DIGITS, None, None),
    "rolled over within its load": ("999970 999980 999990", "5", NEW, "0", {**RATED, **DIGITS}, None, None),
    "as if it rolled over, without digits": ("999970 999980 999990", "5", NEW, "0", {}, True, None),
    "a spike that its load forbids": ("100 110 118125", "120", NEW, "0", RATED, None, None),
    "a dropout before the exchange": ("100 110 0", "120", NEW, "0", {}, None, None),
    "no reading before": ("", "33000", NEW, "0", {}, None, None),
    "a final register too far above": (OLD, "218125", NEW, "0", RATED, False, None),
    "the same, by its pace": (OLD, "218125", NEW, "0", {}, False, None),
    "ten times too large": (OLD, "1181250", NEW, "0", {}, False, None),
    "an initial register above": (OLD, "118130", NEW, "500", {}, None, True),
    "above the first readings only": (OLD, "118130", NEW, "20", {}, None, True),
    "the new meter goes on where the old one was": (OLD, "118130", "118140 118150 118160", "0", {}, None, False),
    "it goes on there with a rated load": (OLD, "118130", "118140 118150 118160", "0", RATED, None, False),
    "a dropout after the exchange": (OLD, "118130", "0 13 23 33", "3", {}, None, None),
    "a dip that stays above the initial register": (OLD, "118130", "100 95 101", "90", {}, None, None),
    "no reading after": (OLD, "118130", "", "500", {}, None, None),
    "one reading after": (OLD, "118130", "13000", "0", {}, None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_objection(name: str) -> None:
    before, final, after, initial, facts, final_found, initial_found = CASES[name]
    old = [Decimal(value) for value in before.split()]
    exchanged = START + len(old) * QUARTER
    new = [Decimal(value) for value in after.split()]
    readings = [Reading(START + i * QUARTER, value) for i, value in enumerate(old)]
    readings += [Reading(exchanged + (i + 1) * QUARTER, value) for i, value in enumerate(new)]
    stated = [None if value is None else Decimal(value) for value in (final, initial)]
    meter = Meter(
        Signal.REGISTER,
        (
            Installation(START - QUARTER, exchanged, final_register=stated[0], **facts),
            Installation(exchanged, initial_register=stated[1], **facts),
        ),
    )
    found = {o.is_initial: o for o in stated_registers(meter, readings)}
    assert {side: o.is_contradiction for side, o in found.items()} == {
        side: expected for side, expected in ((False, final_found), (True, initial_found)) if expected is not None
    }
    for side, objection in found.items():
        assert (objection.register.at, objection.register.value) == (exchanged, stated[side])
        assert objection.beside.value == (new[0] if side else old[-1])
        assert objection.beside.at == exchanged + (QUARTER if side else -QUARTER)


def test_only_registers_are_asked_and_only_what_is_known() -> None:
    installations = (Installation(START, START + QUARTER, final_register=Decimal(1)), Installation(START + QUARTER))
    readings = [Reading(START, Decimal(5))]
    assert stated_registers(Meter(Signal.REGISTER, installations), readings)
    assert not stated_registers(Meter(Signal.INTERVAL, installations), readings)
    assert not stated_registers(Meter(Signal.REGISTER, installations), readings, known_to=START)
