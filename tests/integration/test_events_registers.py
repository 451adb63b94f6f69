"""Registers that events state against the readings that are stored: what is refused, what is warned of."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from tests.integration.events_site import (
    ENTERED,
    EXCHANGED,
    HOUR,
    HOURS,
    QUARTER,
    REPLACEMENT,
    START,
    Works,
    assert_nothing_written,
    plain,
    replaced,
)

D = Decimal


@pytest.fixture
def works(engine: Engine, database_url: str) -> Works:
    return Works(engine, database_url, ENTERED)


def test_a_register_that_a_stored_reading_contradicts_is_refused(works: Works) -> None:
    replaced(works)
    before = works.hours()
    for final in ("33", "138.5"):  # far below the reading of 09:45, and between the two before
        for dry_run in (True, False):
            answer = works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"final_register": final}), dry_run=dry_run)
            assert answer.status_code == 422, answer.text
            (error,) = answer.json()["errors"]
            assert error["location"] == "event, final_register"
            for part in (final, "139", "2026-10-12T09:45:00+08:00", "correct or void", "unknown", "6 digits"):
                assert part in error["message"]
    assert "final_register 33 小于2026-10-12T09:45:00+08:00 的读数 139" in works.said_zh("replacement", "33")
    answer = works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"initial_register": "50"}))
    assert (answer.status_code, "above 1, the reading of 2026-10-12T10:15" in answer.json()["detail"]) == (422, True)
    assert_nothing_written(works)
    # What it says can be done: the reading was wrong, or the register is not known.
    works.void(EXCHANGED - QUARTER)
    assert works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"final_register": "138.5"})).status_code == 200
    works.settle()
    assert works.hours() == [*before[:9], D(200), *[D(320)] * 10]
    corrected = works.enter("meter_correction", EXCHANGED - HOUR, final_register="33")
    assert (corrected.status_code, "final_register 33 is below" in corrected.json()["detail"]) == (422, True)


def test_a_register_refused_with_one_multiplier_and_the_next(works: Works) -> None:
    plain(works)
    between = EXCHANGED + timedelta(minutes=5)
    for register in ("139.5", "141.5"):  # below the reading of 10:00, above that of 10:15
        answer = works.enter("multiplier_change", between, multiplier="160", register_at=register)
        assert (answer.status_code, "register_at" in answer.text) == (422, True), answer.text
    assert_nothing_written(works)


def test_a_register_not_known_is_taken_where_the_meter_was_reset(works: Works) -> None:
    replaced(works)
    answer = works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"final_register": None}))
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])


def test_a_final_register_past_the_rollover_is_taken(works: Works) -> None:
    n = 4 * 10
    rows = [(START + i * QUARTER, 999_960.0 + i) for i in range(n)]
    works.deliver([*rows, *((START + i * QUARTER, float(i - n)) for i in range(n, 4 * HOURS + 1))])
    answer = works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"final_register": "0"}))
    assert (answer.status_code, answer.json()["warnings"]) == (200, [])
    works.settle()
    assert works.hours() == [320] * HOURS


def test_a_rise_too_fast_is_taken_with_a_warning(works: Works) -> None:
    """The readings go on where the old meter was: the exchange was at another instant, or of another point."""
    plain(works)
    for dry_run in (True, False):
        answer = works.enter("replacement", EXCHANGED, **REPLACEMENT, dry_run=dry_run)
        assert answer.status_code == 200, answer.text
        (warning,) = answer.json()["warnings"]
        assert warning["location"] == "event, initial_register"
        assert "from initial_register 0 to 141, the reading of 2026-10-12T10:15:00+08:00" in warning["text_en"]
        assert "initial_register 0 与 2026-10-12T10:15:00+08:00 的读数 141" in warning["text_zh"]
    assert works.enter("replacement", EXCHANGED, **REPLACEMENT).json()["warnings"] == []
