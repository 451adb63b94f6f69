"""Loading the official tables into the database."""

from datetime import UTC, datetime

from sqlalchemy import Connection, text

from app.intake import reference_load
from app.reference import tables

NOW = datetime(2026, 10, 5, tzinfo=UTC)
CLINKER = "ndrc723-15-cement-clinker"


def test_a_second_load_changes_nothing(connection: Connection) -> None:
    first = reference_load.load(connection, NOW)
    assert all(r.inserted == len(tables.table(r.table)) and not r.updated for r in first)
    second = reference_load.load(connection, datetime(2027, 1, 1, tzinfo=UTC))
    assert all(r.unchanged == len(tables.table(r.table)) and not r.inserted and not r.updated for r in second)
    stamps = connection.execute(text("SELECT DISTINCT recorded_at FROM efficiency_level")).scalars().all()
    assert stamps == [NOW]


def test_a_day_that_an_operator_brought_in_stays(connection: Connection) -> None:
    reference_load.load(connection, NOW)
    connection.execute(text("UPDATE calendar_day SET is_workday = true, source = 'city' WHERE day = '2026-10-01'"))
    reports = {report.table: report for report in reference_load.load(connection, NOW)}
    assert (reports["calendar_day"].inserted, reports["calendar_day"].updated) == (0, 0)
    day = connection.execute(text("SELECT is_workday, source FROM calendar_day WHERE day = '2026-10-01'")).one()
    assert tuple(day) == (True, "city")


def test_a_level_that_is_put_right_stands_beside_its_first_version(connection: Connection) -> None:
    reference_load.load(connection, NOW)
    connection.execute(text("UPDATE efficiency_level SET baseline = 115 WHERE variant_key = :v"), {"v": CLINKER})
    later = datetime(2027, 1, 1, tzinfo=UTC)
    reports = {report.table: report for report in reference_load.load(connection, later)}
    assert (reports["efficiency_level"].inserted, reports["efficiency_level"].updated) == (0, 1)
    rows = connection.execute(
        text("SELECT baseline, recorded_at, superseded_at FROM efficiency_level WHERE variant_key = :v ORDER BY id"),
        {"v": CLINKER},
    )
    assert [tuple(row) for row in rows] == [(115, NOW, later), (117, later, None)]


def test_a_changed_factor_marks_the_energy_it_made(connection: Connection) -> None:
    reference_load.load(connection, NOW)
    connection.execute(
        text(
            "INSERT INTO energy_month VALUES (42, 'electricity', 'in', '2026-09-01', 1, 1, 1, 1, 'x', 'x', false,"
            " false, 1, 1, 0), (42, 'electricity', 'in', '2026-08-01', 1, 1, 1, 1, 'x', 'x', false, false, 1, 1, 0)"
        )
    )
    connection.execute(text("UPDATE standard_coal_factor SET kgce_per_unit = 9 WHERE factor_key = 'diesel'"))
    reference_load.load(connection, NOW)
    marks = connection.execute(text("SELECT stage, subject_id, from_at, to_at, cause FROM stale")).all()
    bounds = (datetime(2026, 7, 31, 16, tzinfo=UTC), datetime(2026, 9, 30, 16, tzinfo=UTC))
    assert [tuple(mark) for mark in marks] == [("account", 42, *bounds, "reference")]


def test_what_an_operator_set_on_a_rule_stays(connection: Connection) -> None:
    reference_load.load(connection, NOW)
    connection.execute(text("UPDATE rule SET is_enabled = false, params = '{\"missed_heartbeats\": 9}'"))
    reports = {report.table: report for report in reference_load.load(connection, NOW)}
    assert reports["rule"].unchanged == 3
    assert connection.execute(text("SELECT DISTINCT is_enabled FROM rule")).scalars().all() == [False]
