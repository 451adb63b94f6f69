"""Reporting outputs: revisions, scope, and the ratios that become stale."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app.db.access import Caller
from app.db.scope import CITY, Scope
from app.domain.credit_code import with_check_digit
from app.errors import Invalid
from app.intake import outputs, reference_load, registry
from app.intake.outputs import OutputEntry, Reported
from app.intake.registry import Report
from app.intake.registry_file import check_shape
from app.settings import Settings

NOW = datetime(2026, 10, 5, tzinfo=UTC)
USCC, OTHER = with_check_digit("91120000MA0000001"), with_check_digit("91120000MA0000002")
LINE = {"uscc": USCC, "process_unit": "kiln", "code": "l1"}


def enterprise(uscc: str, variant_key: str) -> dict[str, Any]:
    return {
        "uscc": uscc, "name_zh": "示例", "from_on": "2026-01-01", "district_code": "120119", "industry_code": "3011",
        "process_units": [{"code": "kiln", "scope": 1, "name_zh": "烧成"}],
        "lines": [{"code": "l1", "process_unit": "kiln", "name_zh": "一线", "variant_key": variant_key,
                   "from_on": "2026-01-01"}],
    }  # fmt: skip


@pytest.fixture
def registered(connection: Connection, database_url: str) -> Connection:
    reference_load.load(connection, NOW)
    file = check_shape({"enterprises": [enterprise(USCC, "ndrc723-15-cement-clinker"),
                                        enterprise(OTHER, "data-centre-pue")]})  # fmt: skip
    settings = Settings(database_url=database_url)
    registry.write(connection, file, Report(is_dry_run=False), actor="t", now=NOW, settings=settings)
    return connection


def entry(**changes: Any) -> OutputEntry:
    row = {"line": LINE, "grain": "day", "period": "2026-09-30", "value": "4900.5", "unit": "t", **changes}
    return OutputEntry.model_validate(row)


def report(connection: Connection, *entries: OutputEntry, scope: Scope = CITY) -> Reported:
    return outputs.report(connection, Caller("tester", "operator", scope), entries, now=NOW)


def refused(connection: Connection, *entries: OutputEntry, scope: Scope = CITY) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        report(connection, *entries, scope=scope)
    return {item["location"]: item["message"] for item in caught.value.extra["errors"]}


def stored(connection: Connection) -> list[tuple[Any, ...]]:
    sql = "SELECT grain, period::text, revision, value, unit, reported_by FROM output ORDER BY period, revision"
    return [tuple(row) for row in connection.execute(text(sql))]


def test_a_changed_value_is_a_revision_and_an_equal_one_is_not(registered: Connection) -> None:
    assert report(registered, entry(), entry(period="2026-09-29")) == Reported(2, 0)
    assert report(registered, entry(value="4900.50"), entry(period="2026-09-29", value="5000")) == Reported(1, 1)
    assert stored(registered) == [
        ("day", "2026-09-29", 1, Decimal("4900.5"), "t", "tester"),
        ("day", "2026-09-29", 2, Decimal(5000), "t", "tester"),
        ("day", "2026-09-30", 1, Decimal("4900.5"), "t", "tester"),
    ]
    assert registered.execute(text("SELECT count(*) FROM audit WHERE action = 'outputs.report'")).scalar() == 2


def test_each_month_that_is_touched_is_marked_once(registered: Connection) -> None:
    days = [entry(period=f"2026-09-{day:02d}") for day in range(1, 31)]
    report(registered, *days, entry(grain="month", period="2026-08"))
    marks = registered.execute(text("SELECT stage, from_at, to_at, cause FROM stale ORDER BY from_at")).all()
    edges = [datetime(2026, month, 31 if month != 9 else 30, 16, tzinfo=UTC) for month in (7, 8, 9)]
    assert [tuple(mark) for mark in marks] == [
        ("benchmark", edges[0], edges[1], "output"),
        ("benchmark", edges[1], edges[2], "output"),
    ]


def test_an_unchanged_report_marks_nothing(registered: Connection) -> None:
    report(registered, entry())
    registered.execute(text("DELETE FROM stale"))
    report(registered, entry())
    assert registered.execute(text("SELECT count(*) FROM stale")).scalar() == 0


def test_all_bad_rows_are_listed_and_nothing_is_written(registered: Connection) -> None:
    errors = refused(
        registered,
        entry(),
        entry(line={**LINE, "code": "l9"}),
        entry(period="2026-09-28", unit="m3"),
        entry(grain="month", period="2026-09-02"),
        entry(period="2026-10-06"),
        entry(period="2025-12-31"),
        entry(period="2026-09-27", kind="it_electricity", unit="kWh"),
        entry(value="1"),
    )
    assert set(errors) == {
        "outputs[1].line", "outputs[2].unit", "outputs[3].period", "outputs[4].period", "outputs[5].period",
        "outputs[6].kind", "outputs[7]",
    }  # fmt: skip
    assert "known units are 10^4 t, g, kg, t" in errors["outputs[2].unit"]
    assert stored(registered) == []


def test_a_pue_line_reports_it_electricity_in_any_unit_of_energy(registered: Connection) -> None:
    line = {"uscc": OTHER, "process_unit": "kiln", "code": "l1"}
    assert report(registered, entry(line=line, kind="it_electricity", unit="MWh")) == Reported(1, 0)


def test_an_enterprise_reports_for_its_own_lines_only(registered: Connection) -> None:
    ids = dict(registered.execute(text("SELECT uscc, id FROM enterprise")).all())
    assert report(registered, entry(), scope=Scope(enterprise_id=ids[USCC])) == Reported(1, 0)
    line_id = registered.execute(
        text("SELECT l.id FROM production_line l JOIN process_unit u ON u.id = l.process_unit_id"
             " WHERE u.enterprise_id = :id"), {"id": ids[USCC]}).scalar()  # fmt: skip
    foreign = Scope(enterprise_id=ids[OTHER])
    for row in (entry(), entry(line=None, line_id=line_id)):
        assert "you may report for" in refused(registered, row, scope=foreign)["outputs[0].line"]


def register_capacity(connection: Connection, uscc: str, value: str, unit: str) -> None:
    statement = (
        "UPDATE production_line SET capacity = :v, capacity_unit = :u WHERE process_unit_id IN"
        " (SELECT p.id FROM process_unit p JOIN enterprise e ON e.id = p.enterprise_id WHERE e.uscc = :uscc)"
    )
    connection.execute(text(statement), {"v": Decimal(value), "u": unit, "uscc": uscc})


def test_a_day_or_month_above_the_capacity_of_the_whole_year_is_refused(registered: Connection) -> None:
    register_capacity(registered, USCC, "150", "10^4 t/a")
    errors = refused(
        registered,
        entry(value="1500000.001"),
        entry(period="2026-09-29", value="1500000"),  # unlikely, but not more than a year makes
        entry(grain="month", period="2026-08", value="1e29"),
        entry(grain="month", period="2026-07", value="1500000001", unit="kg"),
        entry(grain="month", period="2026-06", value="151", unit="10^4 t"),
        entry(grain="year", period="2026", value="3000000"),
        entry(kind="output_value", grain="month", period="2026-08", value="1e9", unit="10^4 yuan"),
        entry(period="2026-09-28", value="1", unit="m3"),
    )
    assert list(errors) == [f"outputs[{number}].{'unit' if number == 7 else 'value'}" for number in (0, 2, 3, 4, 7)]
    assert errors["outputs[0].value"] == (
        "1500000.001 t in one day is more than the line can make in the whole of 2026, 1500000 t at its capacity of"
        " 150 10^4 t/a: correct the value or its unit, or report the capacity first"
    )
    assert "100000000000000000000000000000 t in one month" in errors["outputs[2].value"]
    assert "1500000001 kg in one month" in errors["outputs[3].value"]
    assert "2026, 1500000000 kg at" in errors["outputs[3].value"]
    assert stored(registered) == []
    fine = (entry(value="1500000"), entry(grain="month", period="2026-08", value="150", unit="10^4 t"))
    # Lines do make more than their capacity in a year.
    assert report(registered, *fine, entry(grain="year", period="2026", value="3000000")) == Reported(3, 0)


def test_a_capacity_by_the_day_or_the_hour_is_that_of_every_day(registered: Connection) -> None:
    register_capacity(registered, USCC, "5000", "t/d")
    register_capacity(registered, OTHER, "2400", "kW")
    hall = {"line": {"uscc": OTHER, "process_unit": "kiln", "code": "l1"}, "kind": "it_electricity", "unit": "MWh"}
    month = {"grain": "month", "period": "2026-08"}
    assert report(registered, entry(value="1825000"), entry(**hall, **month, value="21024")) == Reported(2, 0)
    errors = refused(registered, entry(value="1825001"), entry(**hall, **month, value="21024.001"))
    assert "1825000 t at its capacity of 5000 t/d" in errors["outputs[0].value"]
    assert "21024 MWh at its capacity of 2400 kW" in errors["outputs[1].value"]


def test_without_a_capacity_that_converts_nothing_is_checked(registered: Connection) -> None:
    huge = {"grain": "month", "period": "2026-08", "value": "1e29"}
    assert report(registered, entry(**huge)) == Reported(1, 0)
    for number, unit in enumerate(("racks", "t", "kW", "weight case/a"), start=1):
        register_capacity(registered, USCC, "1", unit)
        assert report(registered, entry(**{**huge, "period": f"2026-0{number}"})) == Reported(1, 0), unit


def test_the_capacity_that_was_reported_for_then_goes_before_the_registrys(registered: Connection) -> None:
    register_capacity(registered, USCC, "100000", "t/a")
    grown = entry(kind="capacity", period="2026-09-01", value="900000", unit="t/a")
    august, september = (entry(grain="month", period=f"2026-0{month}", value="200000") for month in (8, 9))
    assert "report the capacity first" in refused(registered, september)["outputs[0].value"]
    assert list(refused(registered, september, august, grown)) == ["outputs[1].value"]  # with it, September is fine
    assert report(registered, grown) == Reported(1, 0)
    assert report(registered, september) == Reported(1, 0)
    assert list(refused(registered, september, august)) == ["outputs[1].value"]
    # It was typed wrong: what holds is the latest revision.
    assert report(registered, entry(kind="capacity", period="2026-09-01", value="90000", unit="t/a")) == Reported(1, 0)
    assert list(refused(registered, entry(value="90001"))) == ["outputs[0].value"]


def test_an_impossible_output_of_a_file_is_named_by_its_line(registered: Connection) -> None:
    register_capacity(registered, USCC, "5000", "t/d")
    header = "uscc,process_unit,line,kind,grain,period,value,unit\n"
    given = ((6, "1e29,t"), (7, "9e4,t"), (8, "1e10,kg"))
    rows = "".join(f"{USCC},kiln,l1,production,month,2026-0{month},{value}\n" for month, value in given)
    entries, places = outputs.parse_csv(header + rows)
    with pytest.raises(Invalid) as caught:
        outputs.report(registered, Caller("tester", "operator", CITY), entries, now=NOW, places=places)
    assert [item["location"] for item in caught.value.extra["errors"]] == ["line 2, value", "line 4, value"]
    assert (caught.value.status, stored(registered)) == (422, [])


def test_csv_errors_name_line_and_column() -> None:
    header = "uscc,process_unit,line,kind,grain,period,value,unit\n"
    good = f"{USCC},kiln,l1,production,day,2026-09-30,4900.5,t\n"
    entries, places = outputs.parse_csv(header + good)
    assert (entries[0].value, places["outputs", 0]) == (Decimal("4900.5"), "line 2")
    with pytest.raises(Invalid) as caught:
        outputs.parse_csv(header + good + good.replace("4900.5", "-1") + good.replace("day", "week"))
    assert [item["location"] for item in caught.value.extra["errors"]] == ["line 3, value", "line 4, grain"]
    with pytest.raises(Invalid, match="no column unit"):
        outputs.parse_csv(header.replace(",unit", ""))
