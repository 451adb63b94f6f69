"""`nenghao events` and `nenghao calendar`: what an operator types, what is printed and written."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.domain.credit_code import with_check_digit
from tests.conftest import Nenghao
from tests.integration import accounting_city as city
from tests.integration import rollup_site as site

AT = "2026-03-12T10:00:00"


@pytest.fixture(autouse=True)
def plant(engine: Engine) -> None:
    """A plant with one meter."""
    city.load_reference(engine)
    with engine.begin() as connection:
        made = city.add_plant(connection)
        uscc = with_check_digit("91120000MA0000001")
        connection.execute(text("UPDATE enterprise SET uscc = :u"), {"u": uscc})
        city.add_point(connection, made, "E001")
        connection.execute(text("UPDATE point SET signal = 'register'"))


def test_each_kind_of_event(nenghao: Nenghao, engine: Engine) -> None:
    new = ("--final", "88421.6", "--initial", "0", "--serial", "S2", "--reason", "burnt out")
    done, said, _ = nenghao("events", "replacement", "gw-001/E001", AT, *new, "--evidence", "order 7", "--dry-run")
    assert (done, "event would be entered" in said) == (0, True)
    assert "to_at: None → 2026-03-12T10:00:00+08:00" in said
    assert "+00:00" not in said, "the city's clocks"
    for expected in ("event entered", "this event was known, nothing changed"):
        done, said, _ = nenghao("events", "replacement", "gw-001/E001", AT, *new, "--evidence", "order 7")
        assert (done, said.splitlines()[-1]) == (0, expected)
    change = (
        "events",
        "multiplier-change",
        "gw-001/E001",
        "2026-03-13T10:00:00",
        "--multiplier",
        "120",
        "--reason",
        "new CT",
    )
    done, _, complaint = nenghao(*change)
    assert (done, "what the meter showed then" in complaint) == (1, True)
    assert nenghao(*change, "--register", "12.5")[0] == 0
    right = ("--multiplier", "80", "--reason", "typing error")
    assert nenghao("events", "correction", "gw-001/E001", "2026-03-11", *right)[0] == 0
    assert nenghao("events", "move", "gw-001/E001", "2026-03-14", "plant", "--reason", "rebuilt")[0] == 0
    with engine.connect() as connection:
        meters = connection.execute(
            text("SELECT serial, multiplier, initial_register, final_register FROM meter_installation ORDER BY from_at")
        ).all()
        moved = connection.execute(text("SELECT max(from_at) FROM point_assignment")).scalar_one()
    assert [tuple(map(str, row)) for row in meters] == [
        ("S1", "80", "None", "88421.6"), ("S2", "1", "0", "12.5"), ("S2", "120", "12.5", "None")
    ]  # fmt: skip
    assert moved == datetime(2026, 3, 13, 16, tzinfo=UTC)  # without a zone it is the city's
    done, said, _ = nenghao("events", "list", "gw-001/E001")
    rows = [line.split("\t") for line in said.splitlines()]
    assert [row[3] for row in rows] == ["kind", "move", "meter_correction", "multiplier_change", "replacement"]
    assert "order 7" in rows[-1]
    assert "serial=S2" in rows[-1][4]


def test_what_is_wrong_is_said(nenghao: Nenghao, engine: Engine) -> None:
    new = ("--final", "unknown", "--initial", "0", "--serial", "S2", "--reason", "burnt out")
    for words, complaint in (
        (("gw-001/E001", "yesterday"), "is no instant"),
        (("gw-001/E404", AT), "has no point 'E404'"),
        (("gw-001/E001", "2020-01-01"), "before the first meter"),
    ):
        done, _, said = nenghao("events", "replacement", *words, *new)
        assert (done, complaint in said) == (1, True), said
    done, _, said = nenghao("events", "replacement", "gw-001/E001", AT, *new, "--multiplier", "minus two")
    assert (done, "multiplier" in said) == (1, True)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM meter_installation")).scalar_one() == 1


def test_a_calendar_is_brought_in(nenghao: Nenghao, engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "days.csv"
    file.write_text("day,is_workday,name_zh,source\n2026-10-01,false,测试,test\n2029-10-13,true,,test\n", "utf-8")
    done, said, _ = nenghao("calendar", "import", str(file))
    assert (done, said.splitlines()[-1]) == (0, "1 added, 1 changed, 0 removed, 0 unchanged")
    file.write_text("day,is_workday,source\n2026-10-01,maybe,test\n", "utf-8")
    done, _, said = nenghao("calendar", "import", str(file))
    assert (done, "line 2, is_workday" in said) == (1, True)
    with engine.connect() as connection:
        sources = connection.execute(text("SELECT count(*) FROM calendar_day WHERE source = 'test'"))
        assert sources.scalar_one() == 2


def test_a_register_that_contradicts_a_reading_is_refused_and_a_strange_one_warned_of(
    nenghao: Nenghao, engine: Engine
) -> None:
    at = datetime(2026, 3, 12, 2, tzinfo=UTC)
    with engine.begin() as connection:
        (point_id,) = connection.execute(text("SELECT id FROM point")).one()
        rows = [(at - timedelta(hours=3 - i), 118_000.0 + i, 0) for i in range(3)]
        rows += [(at + timedelta(hours=i), 118_003.0 + i, 0) for i in range(1, 4)]
        site.insert_readings(connection, point_id, rows)
    new = ("--initial", "0", "--serial", "S2", "--reason", "burnt out")
    done, said, complaint = nenghao("events", "replacement", "gw-001/E001", AT, "--final", "33000", *new)
    assert (done, said) == (1, "")
    assert "final_register 33000 is below 118002, the reading of 2026-03-12T09:00:00+08:00" in complaint
    for extra in (("--dry-run",), ()):
        done, said, complaint = nenghao("events", "replacement", "gw-001/E001", AT, "--final", "118003", *new, *extra)
        assert (done, "entered" in said) == (0, True)
        assert "warning: event, initial_register: from initial_register 0 to 118004" in complaint
        assert "注意：initial_register 0 与 2026-03-12T11:00:00+08:00 的读数 118004" in complaint
