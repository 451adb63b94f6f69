"""Values that people entered: their usage counts, its windows are estimated; a value chosen is a value received."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.db.access import Caller
from app.db.scope import CITY
from app.intake import edits
from tests.integration import rollup_site as site

START = datetime(2026, 10, 1, 2, tzinfo=UTC)
QUARTER, HOUR = timedelta(minutes=15), timedelta(hours=1)
OPERATOR = Caller("li", "operator", CITY)


def edit(engine: Engine, number: int, value: float) -> None:
    entry = edits.EditEntry(
        gateway="gw-001", point="E001", ts=START + number * QUARTER, value=value, reason="read on site"
    )
    with engine.begin() as connection:
        edits.enter(connection, OPERATOR, [entry], now=site.NOW)
    site.roll_up(engine)


def windows(engine: Engine, point_id: int) -> list[tuple[int, int]]:
    """(received, estimated) of the two hours, by tables that equal the pure rules."""
    with engine.connect() as connection:
        hours = site.assert_tables_equal_the_pure_rules(connection, point_id).hours
    return [hours[START + i * HOUR][2:] for i in range(2)]


def test_manual_values_are_estimated_and_sent_ones_received(engine: Engine) -> None:
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001")
        rows = [(START + i * QUARTER, 100.0 + i, 0) for i in range(9) if i != 6]
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, (START, START + 3 * HOUR))
    site.roll_up(engine)
    assert windows(engine, point_id) == [(4, 0), (2, 2)]
    edit(engine, 6, 106.0)  # where nothing was sent: the split is no longer linear by guess, but still no measurement
    assert windows(engine, point_id) == [(4, 0), (2, 2)]
    edit(engine, 2, 102.25)  # in place of what was sent
    assert windows(engine, point_id) == [(2, 2), (2, 2)]
    edit(engine, 2, 102.0)  # what the meter sent does count: decided for it
    assert windows(engine, point_id) == [(4, 0), (2, 2)]
    with engine.begin() as connection:  # the late reading agrees with the manual value
        site.insert_readings(connection, point_id, [(START + 6 * QUARTER, 106.0, 0)])
        site.mark(connection, plant, (START + HOUR, START + 2 * HOUR))
    site.roll_up(engine)
    assert windows(engine, point_id) == [(4, 0), (4, 0)]


DECISIONS = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(95, 125).map(float), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(decisions=DECISIONS)
def test_edits_in_any_order_give_the_figures_of_the_last_decisions(
    engine: Engine, decisions: list[tuple[int, float | None, bool]]
) -> None:
    """Entered one after the other, rolled up now and then; against the last decision of each instant, entered alone."""
    last = {number: value for number, value, _ in decisions}
    found = []
    for entered in (decisions, [(number, value, False) for number, value in sorted(last.items())]):
        with engine.begin() as connection:
            plants = connection.exec_driver_sql("SELECT count(*) FROM gateway").scalar_one()
            plant = site.add_site(connection, plants + 1)
            point_id = site.add_point(connection, plant, "E001")
            site.insert_readings(connection, point_id, [(START + i * QUARTER, 100.0 + i, 0) for i in range(13)])
            site.mark(connection, plant, (START, START + 4 * HOUR))
        for number, value, is_rolled_up in entered:
            entry = edits.EditEntry(
                gateway=f"gw-{plants + 1:03d}", point="E001", ts=START + number * QUARTER, value=value, reason="seen"
            )
            with engine.begin() as connection:
                edits.enter(connection, OPERATOR, [entry], now=site.NOW)
            if is_rolled_up:
                site.roll_up(engine)
        site.roll_up(engine)
        with engine.connect() as connection:
            found.append(site.assert_tables_equal_the_pure_rules(connection, point_id))
    assert found[0] == found[1]
