"""Importing a registry: all or nothing, idempotent, dated, and the marks it leaves."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from app.domain.credit_code import with_check_digit
from app.errors import Invalid
from app.intake import reference_load, registry
from app.intake.registry import Report
from app.intake.registry_file import RegistryFile, check_shape
from app.settings import Settings
from tests.integration.registry_site import NOW, START, USCC, enterprise, point


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url)


@pytest.fixture
def loaded(engine: Engine) -> Engine:
    with engine.begin() as connection:
        reference_load.load(connection, NOW)
    return engine


def file_of(*enterprises: dict[str, Any]) -> RegistryFile:
    return check_shape({"enterprises": list(enterprises)})


def run(engine: Engine, settings: Settings, *enterprises: dict[str, Any], now: datetime = NOW) -> Report:
    report = Report(is_dry_run=False)
    with engine.begin() as connection:
        registry.write(connection, file_of(*enterprises), report, actor="test", now=now, settings=settings)
    return report


def refused(engine: Engine, settings: Settings, *enterprises: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        run(engine, settings, *enterprises)
    return {item["location"]: item["message"] for item in caught.value.extra["errors"]}


def total(counts: Any) -> int:
    return sum(counts.values())


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def marks(engine: Engine) -> list[tuple[Any, ...]]:
    return rows(engine, "DELETE FROM stale RETURNING stage, subject_id, point_id, from_at, to_at, cause")


def read_something(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO reading SELECT '2026-03-01', id, 1, 0, 0 FROM point"))


def test_a_tree_is_written_and_a_second_time_unchanged(loaded: Engine, settings: Settings) -> None:
    first = run(loaded, settings, enterprise())
    assert (total(first.inserted), total(first.updated)) == (9, 0)
    second = run(loaded, settings, enterprise())
    assert (total(second.inserted), total(second.updated), total(second.unchanged)) == (0, 0, 9)
    stored = rows(
        loaded,
        "SELECT g.code, p.code, i.multiplier, a.flow, a.expected_interval_s, u.code, up.code, l.code"
        " FROM point p JOIN gateway g ON g.id = p.gateway_id JOIN meter_installation i ON i.point_id = p.id"
        " JOIN point_assignment a ON a.point_id = p.id JOIN process_unit u ON u.id = a.process_unit_id"
        " JOIN process_unit up ON up.id = u.parent_id JOIN production_line l ON l.process_unit_id = u.id",
    )
    assert stored == [("gw-1-a", "E001", Decimal(80), "in", 900, "kiln", "plant", "kiln-1")]
    assert rows(loaded, "SELECT count(*) FROM audit WHERE action = 'registry.import'") == [(2,)]
    assert marks(loaded) == []  # nothing was measured yet


def test_what_a_file_leaves_out_stays(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    report = run(loaded, settings, {"uscc": USCC, "name_en": "New name"})
    assert (total(report.inserted), total(report.updated), report.changes) == (
        0, 1, [f"~ enterprise {USCC}: name_en: Example Cement → New name"],
    )  # fmt: skip
    assert rows(loaded, "SELECT name_zh, name_en FROM enterprise") == [("示例水泥", "New name")]


def test_nothing_is_written_unless_all_rows_are_right(loaded: Engine, settings: Settings) -> None:
    second = enterprise(with_check_digit("91120000MA0000002"), "gw-2-a", district_code="999999")
    second["gateways"][0]["points"] = [point(unit="kwh"), point("E002", carrier_key="electrcity")]
    second["gateways"][0]["points"][0]["assignments"][0]["process_unit"] = "mill"
    errors = refused(loaded, settings, enterprise(), second)
    assert "nearest known: electricity" in errors.pop("enterprises[1].gateways[0].points[1].carrier_key")
    assert errors.pop("enterprises[1].gateways[0].points[0].unit").startswith(
        "unknown unit 'kwh'; known units for this carrier (kept in kWh) and signal are Wh, kWh, MWh, GWh, 10^4 kWh"
    )
    assert "no process unit" in errors.pop("enterprises[1].gateways[0].points[0].assignments[0].process_unit")
    assert "unknown district code '999999'" in errors.pop("enterprises[1].district_code")
    assert errors == {}
    assert rows(loaded, "SELECT count(*) FROM enterprise") == [(0,)]


def test_without_reference_tables_the_message_says_what_to_do(engine: Engine, settings: Settings) -> None:
    assert "nenghao reference load" in refused(engine, settings, enterprise())["enterprises[0].district_code"]


def test_the_unit_fits_carrier_and_signal(loaded: Engine, settings: Settings) -> None:
    wrong = enterprise()
    wrong["gateways"][0]["points"] = [point(unit="t"), point("E002", signal="gauge"), point("E003", unit="kW")]
    assert len(refused(loaded, settings, wrong)) == 3
    right = enterprise()
    right["gateways"][0]["points"] = [
        point("C1", carrier_key="raw_coal", unit="t"),
        point("W1", carrier_key="fresh_water", unit="t"),
        point("P1", signal="gauge", unit="kW"),
        point("T1", carrier_key=None, signal="gauge", unit="t"),
    ]
    run(loaded, settings, right)
    units = "SELECT code, unit, canonical_unit, canonical_per_unit FROM point JOIN unit_of_measure USING (unit)"
    assert rows(loaded, units + " ORDER BY code") == [
        ("C1", "t", "kg", 1000), ("P1", "kW", "kWh", 1), ("T1", "t", "kg", 1000), ("W1", "t water", "t", 1),
    ]  # fmt: skip
    assert total(run(loaded, settings, right).updated) == 0


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ([{"code": "a", "scope": 2, "parent": "b", "name_zh": "a"}, {"code": "b", "scope": 2, "parent": "a",
          "name_zh": "b"}], "exactly one plant"),
        ([{"code": "a", "scope": 1, "name_zh": "a"}, {"code": "b", "scope": 1, "name_zh": "b"}], "not 2: a, b"),
        ([{"code": "a", "scope": 1, "name_zh": "a"}, {"code": "b", "scope": 2, "name_zh": "b"}], "every other"),
        ([{"code": "a", "scope": 1, "name_zh": "a"}, {"code": "b", "scope": 3, "parent": "a", "name_zh": "b"},
          {"code": "c", "scope": 2, "parent": "b", "name_zh": "c"}], "cannot stand under 'b'"),
        ([{"code": "p", "scope": 1, "name_zh": "p"}, {"code": "a", "scope": 2, "parent": "b", "name_zh": "a"},
          {"code": "b", "scope": 2, "parent": "a", "name_zh": "b"}], "its own ancestor"),
    ],
)  # fmt: skip
def test_process_units_form_one_tree(
    loaded: Engine, settings: Settings, units: list[dict[str, Any]], words: str
) -> None:
    broken = enterprise(process_units=units, lines=[], gateways=[])
    assert any(words in message for message in refused(loaded, settings, broken).values())


def test_a_row_that_stands_twice_is_refused(loaded: Engine, settings: Settings) -> None:
    twice = enterprise()
    twice["gateways"][0]["points"] = [point(), point()]
    assert "gw-1-a/E001 stands in the file twice" in "".join(refused(loaded, settings, twice).values())


@pytest.mark.parametrize("code", ["admin", "nenghao-ingest"])
def test_the_services_own_accounts_are_no_gateways(loaded: Engine, settings: Settings, code: str) -> None:
    errors = refused(loaded, settings, enterprise(gateway=code))
    assert "service's own accounts" in errors["enterprises[0].gateways[0].code"]


def test_a_gateway_of_another_enterprise_is_refused(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    thief = enterprise(with_check_digit("91120000MA0000002"))
    assert "belongs to another enterprise" in refused(loaded, settings, thief)["enterprises[0].gateways[0].code"]


def change_point(**changes: Any) -> dict[str, Any]:
    return {"uscc": USCC, "gateways": [{"code": "gw-1-a", "points": [{"code": "E001", **changes}]}]}


def test_an_overlap_is_refused_and_ending_the_old_row_mends_it(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    new = {"from_at": "2026-06-01T00:00:00+08:00", "serial": "S2", "multiplier": "120"}
    errors = refused(loaded, settings, change_point(installations=[new]))
    assert list(errors) == ["enterprises[0].gateways[0].points[0].installations[0].from_at"]
    assert "overlaps the one from 2026-01-01T00:00:00+08:00 without end" in "".join(errors.values())
    both = change_point(installations=[{"from_at": START, "to_at": new["from_at"]}, new])
    report = run(loaded, settings, both)
    assert (report.inserted["meter_installation"], report.updated["meter_installation"]) == (1, 1)
    stored = "SELECT serial, multiplier, to_at IS NULL FROM meter_installation ORDER BY from_at"
    assert rows(loaded, stored) == [("S1", Decimal(80), False), ("S2", Decimal(120), True)]


def test_a_corrected_multiplier_marks_what_it_touches(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    read_something(loaded)
    ((gateway_id, point_id),) = rows(loaded, "SELECT gateway_id, id FROM point")
    run(loaded, settings, change_point(installations=[{"from_at": START, "multiplier": "100"}]))
    since = datetime(2025, 12, 31, 16, tzinfo=UTC)
    assert marks(loaded) == [("rollup", gateway_id, point_id, since, NOW + timedelta(days=1), "registry")]
    run(loaded, settings, change_point(installations=[{"from_at": START, "serial": "S1-a"}]))
    assert marks(loaded) == []  # the serial number alters no figure


def test_a_moved_point_marks_the_unit_it_leaves_too(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    read_something(loaded)
    units = dict(rows(loaded, "SELECT code, id FROM process_unit"))
    run(loaded, settings, change_point(assignments=[{"from_at": START, "process_unit": "plant"}]))
    found = {(stage, subject) for stage, subject, *_ in marks(loaded)}
    assert {("account", units["kiln"]), ("account", units["plant"])} <= found
    assert len([stage for stage, _ in found if stage == "rollup"]) == 1


def test_a_line_that_changes_is_compared_again(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    line = {"code": "kiln-1", "process_unit": "kiln", "variant_key": "ndrc723-18-sanitary-ware"}
    run(loaded, settings, {"uscc": USCC, "lines": [line]})
    ((stage, *_, since, until, _),) = marks(loaded)
    assert (stage, since, until) == ("benchmark", datetime(2025, 12, 31, 16, tzinfo=UTC), NOW + timedelta(days=1))


def test_an_enterprise_that_moves_makes_no_figure_stale(loaded: Engine, settings: Settings) -> None:
    run(loaded, settings, enterprise())
    read_something(loaded)
    move = [
        {"from_on": "2026-01-01", "to_on": "2026-07-01"},
        {"from_on": "2026-07-01", "district_code": "120101", "industry_code": "3011"},
    ]
    run(loaded, settings, {"uscc": USCC, "assignments": move})
    assert marks(loaded) == []
    assert rows(loaded, "SELECT district_code FROM enterprise_assignment ORDER BY from_on") == [
        ("120119",), ("120101",),
    ]  # fmt: skip


def test_a_dry_run_shows_and_writes_nothing(loaded: Engine, settings: Settings) -> None:
    report = registry.bring_in(loaded, settings, file_of(enterprise()), actor="t", now=NOW, is_dry_run=True)
    assert "+ point gw-1-a/E001" in report.changes
    assert rows(loaded, "SELECT (SELECT count(*) FROM enterprise) + (SELECT count(*) FROM audit)") == [(0,)]


def test_350_enterprises_of_50_points_take_seconds(loaded: Engine, settings: Settings) -> None:
    many = [
        enterprise(
            with_check_digit(f"91120000MB{number:07d}"),
            f"gw-{number:04d}",
            gateways=[{"code": f"gw-{number:04d}", "points": [point(f"E{n:03d}") for n in range(50)]}],
        )
        for number in range(350)
    ]
    started = time.perf_counter()
    first = run(loaded, settings, *many)
    seconds = time.perf_counter() - started
    assert first.inserted["meter_installation"] == 350 * 50
    assert seconds < 30, f"took {seconds:.1f} s"
    print(f"350 x 50 points imported in {seconds:.1f} s")


def test_two_imports_at_once_do_not_meet(loaded: Engine, settings: Settings, connection: Connection) -> None:
    registry.write(connection, file_of(enterprise()), Report(is_dry_run=False), actor="a", now=NOW, settings=settings)
    with loaded.connect() as other:
        other.execute(text("SET lock_timeout = '100ms'"))
        with pytest.raises(Exception, match="lock timeout"):
            registry.write(
                other, file_of(enterprise()), Report(is_dry_run=False), actor="b", now=NOW, settings=settings
            )
