"""Measured heating values go before the annex: entered by lot, weighted by mass, and their figures computed again."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db import heating_values
from app.db.access import create_key
from app.domain import calendar
from app.main import create_app
from app.pipeline import account, benchmark
from app.settings import Settings
from tests.integration import accounting_city as city

D = Decimal
OCT_1 = calendar.day_start(date(2026, 10, 1))
HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
# Calculation rules, example 1.1: mean 21,600 kJ/kg.
LOTS = [
    {"lot": "A", "mass": "1200", "unit": "t", "lhv_kj": "21000"},
    {"lot": "B", "mass": "800", "unit": "t", "lhv_kj": "22500"},
]
MEASURED = D(21600) / D(29307)


@pytest.fixture
def plant(engine: Engine) -> city.Plant:
    """A kiln that burned 1,000 kg of coal in the last hour of September and the first of October each."""
    city.load_reference(engine)
    with engine.begin() as connection:
        made = city.add_plant(connection)
        point_id = city.add_point(connection, made, "COAL", "raw_coal", "kg")
        city.use(connection, point_id, OCT_1 - HOUR, ["1000", "1000"])
        city.report(connection, made, city.OCTOBER, "10")
    city.mark_account(engine, made.kiln_id, OCT_1 - HOUR, OCT_1 + HOUR)
    settle(engine)
    return made


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[access.now] = lambda: NOW
    with engine.begin() as connection:
        key = create_key(connection, "operator", "operator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


def settle(engine: Engine) -> None:
    while account.run(engine, NOW) or benchmark.run(engine, NOW):
        pass


def lots(unit_id: int, *rows: dict[str, Any], month: str = "2026-10") -> dict[str, Any]:
    named = {"process_unit_id": unit_id, "carrier": "raw_coal", "month": month, "evidence": "report 2026-1013"}
    return {"lots": [{**named, **row} for row in rows]}


def months(engine: Engine) -> dict[date, Any]:
    with engine.connect() as connection:
        return {row.month: row for row in connection.execute(text("SELECT * FROM energy_month"))}


def stale_units(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(
            connection.execute(text("SELECT subject_id FROM stale WHERE stage = 'account' ORDER BY 1")).scalars()
        )


def test_the_mean_of_the_lots_replaces_the_annex_in_its_month_only(engine, client, plant):
    answer = client.post("/api/v1/heating-values", json=lots(plant.kiln_id, *LOTS))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "unchanged": 0})
    with engine.connect() as connection:
        assert heating_values.means(connection, plant.kiln_id) == {("raw_coal", city.OCTOBER): 21600}
    settle(engine)
    october, september = months(engine)[city.OCTOBER], months(engine)[date(2026, 9, 1)]
    assert september.equivalent_kgce == D("714.3")
    assert september.factor_set == "GB/T 2589-2020"
    assert october.factor_set == "GB/T 2589-2020, measured LHV"
    assert abs(october.equivalent_kgce - 1000 * MEASURED) < D("1e-8")
    assert october.equal_kgce == october.equivalent_kgce
    # CO2 keeps carbon content and oxidation of its set: 21.6 GJ/t x 0.02618 x 93 % x 44/12.
    assert abs(october.co2_kg - 1000 * D("21.6") * D("0.02618") * D("0.93") * 44 / 12) < D("1e-8")
    assert october.emission_set == "guideline_default, measured LHV"
    with engine.connect() as connection:
        ratio = connection.execute(text("SELECT * FROM ratio WHERE grain = 'month' AND period = '2026-10-01'")).one()
    assert ratio.factor_set == "GB/T 2589-2020, measured LHV"
    assert abs(ratio.actual - 100 * MEASURED) < D("1e-8")


def test_a_corrected_lot_is_a_revision_and_an_equal_one_is_not(engine, client, plant):
    post = lambda *rows: client.post("/api/v1/heating-values", json=lots(plant.kiln_id, *rows)).json()  # noqa: E731
    post(*LOTS)
    settle(engine)
    assert post({**LOTS[0], "mass": "1200000", "unit": "kg"}) == {"accepted": 0, "unchanged": 1}
    assert stale_units(engine) == []
    assert post({**LOTS[1], "lhv_kj": "24000", "reason": "typed wrong"}) == {"accepted": 1, "unchanged": 0}
    settle(engine)
    mean = (D(1200) * 21000 + D(800) * 24000) / 2000
    assert abs(months(engine)[city.OCTOBER].equivalent_kgce - 1000 * mean / 29307) < D("1e-8")
    assert post({"lot": "A"}, {"lot": "B"}) == {"accepted": 2, "unchanged": 0}  # withdrawn: the annex again
    settle(engine)
    assert months(engine)[city.OCTOBER].equivalent_kgce == D("714.3")
    listed = client.get("/api/v1/heating-values", params={"process_unit_id": plant.kiln_id}).json()["items"]
    assert [(row["lot"], row["revision"], row["mass"]) for row in listed] == [("A", 2, None), ("B", 3, None)]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM measured_lhv")).scalar_one() == 5


def test_what_was_published_by_the_annex_stays_as_a_revision(engine, client, plant):
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM figure_revision"))
    client.post("/api/v1/heating-values", json=lots(plant.kiln_id, *LOTS))
    settle(engine)
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT revision, value->>'factor_set' AS factor_set, cause FROM figure_revision"
                " WHERE kind = 'energy' AND grain = 'month' AND period = '2026-10-01' ORDER BY revision"
            )
        ).all()
    assert [row.factor_set for row in found][-1] == "GB/T 2589-2020, measured LHV"
    assert found[-1].cause == "heating_value"


def test_lots_of_the_plant_reach_down_to_units_without_their_own(engine, client, plant):
    client.post("/api/v1/heating-values", json=lots(plant.plant_id, {**LOTS[0], "lhv_kj": "20000"}))
    assert stale_units(engine) == sorted([plant.plant_id, plant.kiln_id])
    settle(engine)
    assert abs(months(engine)[city.OCTOBER].equivalent_kgce - 1000 * D(20000) / 29307) < D("1e-8")
    client.post("/api/v1/heating-values", json=lots(plant.kiln_id, LOTS[0]))
    settle(engine)
    assert abs(months(engine)[city.OCTOBER].equivalent_kgce - 1000 * D(21000) / 29307) < D("1e-8")


def test_bad_lots_are_all_named_and_nothing_is_written(engine, client, plant):
    good = {**LOTS[0], "lot": "G"}
    body = lots(
        plant.kiln_id,
        good,
        {**LOTS[0], "carrier": "electricity"},
        {**LOTS[0], "lot": "C", "unit": "m3"},
        {**LOTS[0], "lot": "D", "lhv_kj": "21"},  # MJ
        {**LOTS[0], "lot": "E", "month": "2027-01"},
        {**good},
        {**LOTS[0], "lot": "F", "process_unit_id": 999},
    )
    answer = client.post("/api/v1/heating-values", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")
    assert {error["location"] for error in answer.json()["errors"]} == {
        "lots[1].carrier", "lots[2].unit", "lots[3].lhv_kj", "lots[4].month", "lots[5]", "lots[6].process_unit",
    }  # fmt: skip
    half = client.post("/api/v1/heating-values", json=lots(plant.kiln_id, {"lot": "A", "mass": "3"}))
    assert half.status_code == 422
    withdrawn = client.post("/api/v1/heating-values", json=lots(plant.kiln_id, good, {"lot": "never"}))
    assert (withdrawn.status_code, withdrawn.json()["type"]) == (422, "/problems/invalid")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM measured_lhv")).scalar_one() == 0
    assert stale_units(engine) == []


def test_an_enterprise_reports_for_its_own_units_only(engine, client, plant):
    with engine.begin() as connection:
        other = city.add_plant(connection, 2)
        key = create_key(connection, "second", "enterprise", enterprise_id=other.enterprise_id)
    client.headers["Authorization"] = f"Bearer {key}"
    refused = client.post("/api/v1/heating-values", json=lots(plant.kiln_id, LOTS[0]))
    assert (refused.status_code, refused.json()["errors"][0]["location"]) == (422, "lots[0].process_unit")
    assert client.post("/api/v1/heating-values", json=lots(other.kiln_id, LOTS[0])).status_code == 200
    named = {**lots(0, LOTS[1])["lots"][0], "process_unit": {"uscc": "911200000000000002", "code": "kiln"}}
    del named["process_unit_id"]
    assert client.post("/api/v1/heating-values", json={"lots": [named]}).json() == {"accepted": 1, "unchanged": 0}
    listed = client.get("/api/v1/heating-values").json()["items"]
    assert {row["process_unit_id"] for row in listed} == {other.kiln_id}
