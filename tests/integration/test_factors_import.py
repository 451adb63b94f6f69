"""Factors that administrators bring in: what converts from their date on, what stays, what is computed again."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.db import factors as factors_db
from app.db.scope import CITY
from app.domain import calendar
from app.domain.calendar import month_bounds
from app.intake import reference_load
from app.pipeline import account, explain
from app.reference import tables
from tests.integration import accounting_city as city
from tests.integration import explained_city
from tests.integration.factor_rows import (
    COAL_ROW,
    EQUAL,
    LATER,
    bring_in,
    counts,
    equal,
    grid,
    lines,
    operator,
    refused,
)

D = Decimal
MAY, JUNE, JULY, AUGUST = (date(2026, month, 1) for month in (5, 6, 7, 8))
MONTHS = (MAY, JUNE, JULY, AUGUST)
KNOWN = datetime(2026, 9, 20, tzinfo=UTC)  # all four months are published
HOURS = 48  # of each month have readings: its first two days


@pytest.fixture
def plant(engine: Engine) -> city.Plant:
    """A kiln with 10 kWh and 1 kg of raw coal an hour in May to August, and a plant around it with coal only."""
    city.load_reference(engine)
    with engine.begin() as connection:
        made = city.add_plant(connection)
        power = city.add_point(connection, made, "E1")
        coal = city.add_point(connection, made, "COAL", "raw_coal", "kg")
        other = city.add_point(connection, made, "COAL2", "raw_coal", "kg", process_unit_id=made.plant_id)
        for month in MONTHS:
            for point_id, per_hour in ((power, "10"), (coal, "1"), (other, "1")):
                city.use_month(connection, point_id, month, per_hour, hours=HOURS)
            city.report(connection, made, month, str(HOURS))
    for unit in (made.kiln_id, made.plant_id):
        city.mark_account(engine, unit, month_bounds(MAY)[0], month_bounds(AUGUST)[1])
    city.settle(engine, KNOWN)
    return made


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    return operator(engine, database_url)


def energy(engine: Engine, column: str, carrier: str = "electricity") -> dict[date, Any]:
    with engine.connect() as connection:
        rows = connection.execute(
            text(f"SELECT month, {column} FROM energy_month WHERE carrier_key = :c ORDER BY month"), {"c": carrier}
        )
        return {row[0]: row[1] for row in rows}


def marks(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT stage, subject_id, from_at, to_at, cause FROM stale WHERE stage <> 'alert' ORDER BY id")
        )
        return [tuple(row) for row in rows]


def test_an_equal_value_converts_from_its_date_on(engine: Engine, plant: city.Plant) -> None:
    assert energy(engine, "equal_kgce") == dict.fromkeys(MONTHS)
    before = counts(engine)
    shown = bring_in(engine, EQUAL, is_dry_run=True)
    assert counts(engine) == before  # a dry run writes nothing
    found = (shown.table, shown.inserted, shown.superseded, shown.unchanged, shown.process_units, shown.months)
    assert found == ("standard_coal_factor", 1, 0, 0, 1, 2)
    (change,) = shown.changes
    assert (change.name, change.carriers) == ("electricity_equal · GB/T 2589-2020 · 2026-07-01", ["electricity"])
    assert change.before == "no figure from 2021-04-01 (GB/T 2589-2020, recalled)"
    assert change.after == "0.3 kgce/kWh from 2026-07-01 (GB/T 2589-2020, confirmed)"
    assert bring_in(engine, EQUAL).changes == shown.changes
    bounds = (month_bounds(JULY)[0], month_bounds(AUGUST)[1])
    assert marks(engine) == [("account", plant.kiln_id, *bounds, "factor")]
    equivalent = energy(engine, "equivalent_kgce")
    city.settle(engine, LATER)
    assert energy(engine, "equal_kgce") == {MAY: None, JUNE: None, JULY: HOURS * 3, AUGUST: HOURS * 3}
    assert energy(engine, "equivalent_kgce") == equivalent
    assert set(energy(engine, "has_recalled_factor").values()) == {False}
    with engine.connect() as connection:
        revised = connection.execute(
            text("SELECT period FROM figure_revision WHERE kind = 'energy' AND grain = 'month' AND cause = 'factor'")
        ).all()
        audit = connection.execute(text("SELECT actor, action, subject, detail FROM audit ORDER BY id DESC")).first()
    assert sorted(row.period for row in revised) == [JULY, AUGUST]
    assert audit is not None
    assert tuple(audit)[:3] == ("admin", "factors.import", "standard_coal_factor")


def test_a_row_in_the_middle_of_a_month_marks_its_days_only(engine: Engine, plant: city.Plant) -> None:
    report = bring_in(engine, lines(equal(valid_from="2026-06-02", valid_to="2026-07-02")))
    bounds = (calendar.day_start(date(2026, 6, 2)), calendar.day_start(date(2026, 7, 2)))
    assert (report.months, marks(engine)) == (2, [("account", plant.kiln_id, *bounds, "factor")])
    city.settle(engine, LATER)
    assert energy(engine, "equal_kgce") == dict.fromkeys(MONTHS)  # no month has a figure for each of its days
    with engine.connect() as connection:
        days = connection.execute(
            text("SELECT min(day), max(day), count(*), sum(equal_kgce) FROM energy_day WHERE carrier_key ="
                 " 'electricity' AND equal_kgce IS NOT NULL")
        ).one()  # fmt: skip
    assert tuple(days) == (date(2026, 6, 2), date(2026, 7, 1), 2, HOURS * 3)


def test_a_later_row_wins_from_its_date_on(engine: Engine, plant: city.Plant) -> None:
    bring_in(engine, lines(equal(valid_from="2026-06-01"), equal(valid_from="2026-08-01", kgce_per_unit="0.2")))
    city.settle(engine, LATER)
    found = energy(engine, "equal_kgce")
    assert found == {MAY: None, JUNE: HOURS * 3, JULY: HOURS * 3, AUGUST: HOURS * 2}
    between = bring_in(engine, lines(equal(valid_from="2026-07-01", kgce_per_unit="0.25")), is_dry_run=True)
    assert (between.months, between.changes[0].before) == (
        1,
        "0.3 kgce/kWh from 2026-06-01 (GB/T 2589-2020, confirmed)",
    )


def test_an_explanation_names_the_row(engine: Engine) -> None:
    made = explained_city.build(engine)
    day = explained_city.DAY
    recalled = equal(confidence="recalled", source="remembered", valid_from=day.isoformat())
    assert bring_in(engine, lines(recalled)).months == 2  # of the kiln and of the plant, to which the meter moved
    explained_city.settle(engine, LATER)
    assert set(energy(engine, "has_recalled_factor").values()) == {True}
    with engine.connect() as connection:
        found = explain.energy(connection, CITY, made.plant.kiln_id, "electricity", "in", "day", day)
    (stretch,) = found["conversions"]
    assert found["agrees"]
    assert found["stored"]["equal_kgce"] == found["stored"]["quantity"] * D("0.3") > 0
    assert stretch["coefficients"].has_recalled_factor
    named = ("factor_set", "kgce_per_unit", "valid_from", "edition", "confidence", "source")
    assert [stretch["equal_factor"][name] for name in named] == [
        "GB/T 2589-2020", D("0.3"), day, "2026", "recalled", "remembered",
    ]  # fmt: skip
    assert stretch["equivalent_factor"]["factor_key"] == "electricity_equivalent"


def test_the_same_file_again_and_the_official_tables_change_nothing(engine: Engine, plant: city.Plant) -> None:
    bring_in(engine, EQUAL)
    bring_in(engine, grid())
    city.settle(engine, LATER)
    before, figures = counts(engine), energy(engine, "equal_kgce")
    again = bring_in(engine, EQUAL, now=LATER + timedelta(days=1))
    assert (again.inserted, again.superseded, again.unchanged, again.months, again.changes) == (0, 0, 1, 0, [])
    content = (tables.FOLDER / "standard_coal_factors.csv").read_text(encoding="utf-8")
    assert bring_in(engine, content).changes == []
    with engine.begin() as connection:
        loaded = reference_load.load(connection, LATER + timedelta(days=2))
    assert not any(one.inserted or one.updated for one in loaded)
    assert counts(engine) == before
    assert energy(engine, "equal_kgce") == figures


def test_an_own_row_put_right_supersedes_its_first_version(
    engine: Engine, plant: city.Plant, client: TestClient
) -> None:
    bring_in(engine, EQUAL)
    city.settle(engine, LATER)
    cited = bring_in(engine, lines(equal(source="city document, page 3")), now=LATER + timedelta(days=1))
    assert (cited.superseded, cited.months, marks(engine)) == (1, 0, [])  # cited anew, the figure is the same
    report = bring_in(engine, lines(equal(kgce_per_unit="0.31")), now=LATER + timedelta(days=2))
    assert (report.inserted, report.superseded, report.months) == (0, 1, 2)
    assert report.changes[0].before == "0.3 kgce/kWh from 2026-07-01 (GB/T 2589-2020, confirmed)"
    city.settle(engine, LATER + timedelta(days=2))
    assert energy(engine, "equal_kgce")[JULY] == HOURS * D("3.1")
    path = "/api/v1/reference/standard-coal-factors"
    now, then = (
        [row for row in client.get(path, params=asked).json() if row["recorded_by"] == "admin"]
        for asked in ({}, {"as_of": (LATER + timedelta(hours=1)).isoformat()})
    )
    assert [(row["kgce_per_unit"], row["superseded_at"]) for row in now] == [("0.31", None)]
    assert [(row["kgce_per_unit"], row["superseded_at"]) for row in then] == [("0.3", "2026-11-21T08:00:00+08:00")]


def test_a_year_of_the_grid_is_counted_from_that_year_on(engine: Engine, plant: city.Plant, client: TestClient) -> None:
    """The project carries a row of 2024 that says nothing was published: it is filled in, not overwritten."""
    assert energy(engine, "co2_kg")[MAY] == HOURS * D("6.796")  # of 2023
    answer = client.post("/api/v1/reference/factors/import", content=grid(), headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert (done["table"], done["superseded"], done["process_units"], done["months"]) == ("emission_factor", 1, 1, 4)
    assert done["changes"][0]["before"] == "no figure of 2024 (MEE/NBS average, confirmed)"
    assert marks(engine) == [("account", plant.kiln_id, month_bounds(MAY)[0], month_bounds(AUGUST)[1], "factor")]
    city.settle(engine, LATER)
    assert energy(engine, "co2_kg")[MAY] == HOURS * 5
    assert set(energy(engine, "is_co2_provisional").values()) == {True}
    older = bring_in(engine, grid(year="2020"))
    assert (older.inserted, older.months) == (1, 0)
    final = bring_in(engine, grid(year="2026", factor_value="0.4"))
    city.settle(engine, LATER)
    assert (final.months, set(energy(engine, "is_co2_provisional").values())) == (4, {False})
    (error,) = refused(engine, grid(year="2023"))
    assert error[0] == "line 2, year"
    assert error[1].startswith("this row comes with the project and differs in source, note, edition, factor_value: ")
    assert error[1].endswith("give yours another year or factor_set")


def test_what_comes_with_the_project_is_not_overwritten(engine: Engine, plant: city.Plant) -> None:
    row = {
        **COAL_ROW, "factor_key": "raw_coal", "unit": "kg", "kgce_per_unit": "0.6", "basis": "heat value",
        "valid_from": "2021-04-01",
    }  # fmt: skip
    ((location, message),) = refused(engine, lines(row))
    assert location == "line 2, valid_from"
    assert message.startswith("this row comes with the project and differs in")
    assert message.endswith("it is not overwritten; give yours another valid_from or factor_set")
    later = bring_in(engine, lines({**row, "valid_from": "2026-08-01"}))
    assert (later.inserted, later.process_units, later.months) == (1, 2, 2)
    city.settle(engine, LATER)
    found = energy(engine, "equivalent_kgce", "raw_coal")
    assert (found[JULY], found[AUGUST]) == (HOURS * D("0.7143"), HOURS * D("0.6"))
    filled = bring_in(engine, lines(equal(valid_from="2021-04-01")))
    assert (filled.superseded, filled.months) == (1, 4)


def test_progress_by_equal_values_has_a_figure(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    start = datetime(2023, 12, 31, 16, tzinfo=UTC)
    with engine.begin() as connection:
        made = city.add_plant(connection, registered_at=start)
        power = city.add_point(connection, made, "E1", from_at=start, interval_s=31 * 86_400 // HOURS)
        for year, per_hour in ((2024, "1000"), (2025, "900")):
            for month in range(1, 13):
                city.use_month(connection, power, date(year, month, 1), per_hour, hours=HOURS)
    city.mark_account(engine, made.kiln_id, start, start.replace(year=2025))
    city.settle(engine, KNOWN)
    gdp = {"district_code": "120110", "kind": "gdp", "value": "1000", "unit": "10^4 yuan", "source": "test",
           "price_base_year": 2020}  # fmt: skip
    figures = [{**gdp, "year": year} for year in (2024, 2025)]
    target = {"district_code": "120110", "base_year": 2024, "target_year": 2026, "reduction_pct": "5", "source": "x"}
    for path, body in (("entered-figures", {"figures": figures}), ("targets", {"targets": [target]})):
        answer = client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text

    def progress() -> dict[str, Any]:
        rows = client.get("/api/v1/targets/progress", params={"year": 2025}).json()
        return {row["code"]: row for row in rows}["120110"]

    assert (progress()["reason"], progress()["now"]["conversion"]) == ("no_factor", "equal")
    bring_in(engine, lines(equal(valid_from="2024-01-01", valid_to="2025-01-01"), equal(valid_from="2025-01-01")))
    city.settle(engine, LATER)
    found = progress()
    assert (found["base"]["energy_tce"], found["now"]["energy_tce"]) == ("172.8", "155.52")
    assert (found["reduction_pct"], found["reason"]) == ("10", None)


def test_a_run_that_read_the_former_factors_is_waited_for(engine: Engine, plant: city.Plant) -> None:
    """Energy of a new month, written by a run that began before the import, is marked by it all the same."""
    september = date(2026, 9, 1)
    with engine.begin() as connection:
        point_id = connection.execute(text("SELECT id FROM point WHERE code = 'E1'")).scalar_one()
        city.use_month(connection, point_id, september, "10", hours=HOURS)
    importing = Thread(target=bring_in, args=(engine, EQUAL))
    with engine.begin() as connection:
        factors_db.let_account(connection)
        account.recompute(connection, plant.kiln_id, [month_bounds(september)])
        importing.start()
        importing.join(0.5)
        assert importing.is_alive()
    importing.join(30)
    assert marks(engine) == [
        ("account", plant.kiln_id, month_bounds(JULY)[0], month_bounds(september)[1], "factor"),
    ]  # fmt: skip
    city.settle(engine, LATER)
    assert energy(engine, "equal_kgce")[september] == HOURS * 3
