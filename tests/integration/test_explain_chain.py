"""The chain of a hard day, by the pure rules, over HTTP and at the shell: every figure of every table derived again."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db.access import create_key
from app.db.scope import CITY
from app.main import create_app
from app.pipeline import explain
from app.settings import Settings
from tests.conftest import Nenghao
from tests.integration import explained_city as day
from tests.integration.explained_city import DAY, MONTH, NOW, Explained

USCC = "911200000000000001"


@pytest.fixture
def made(engine: Engine) -> Explained:
    return day.build(engine)


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[access.now] = lambda: NOW
    with engine.begin() as connection:
        key = create_key(connection, "operator", "operator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


def usage_of_the_day(engine: Engine, made: Explained) -> dict[str, Any]:
    with engine.connect() as connection:
        return explain.usage(connection, CITY, made.power_id, "day", DAY)


def test_the_day_names_meters_steps_receipts_edits_and_disputes(engine: Engine, made: Explained) -> None:
    found = usage_of_the_day(engine, made)
    assert found["agrees"], found["differing"]
    # S1 from 100 to its final 148.5, S2 from 0 to 48: 48.5 x 80 + 48 x 120.
    assert found["derived"]["quantity"] == Decimal("48.5") * 80 + 48 * 120
    assert [(m["serial"], m["multiplier"], m["final_register"]) for m in found["installations"]] == [
        ("S1", 80, Decimal("148.5")), ("S2", 120, None),
    ]  # fmt: skip
    assert [(a["process_unit"], a["to_at"]) for a in found["assignments"]] == [("kiln", day.MOVED), ("plant", None)]
    (gap,) = [step for step in found["steps"] if not step["is_measured"] and step["from_at"] == day.GAP[0]]
    assert (gap["to_at"], gap["quantity_inside"]) == (day.GAP[1], 12 * 80)
    assert sum(step["quantity_inside"] for step in found["steps"]) == found["derived"]["quantity"]
    entries = [r for r in found["readings"] if r["ts"] == day.EDITED]
    assert [(r["origin"], r["value"], r["counts"], r["actor"], r["evidence"]) for r in entries] == [
        ("gateway", 916, False, None, None), ("edit", 16, True, "operator", "photo 17"),
    ]  # fmt: skip
    entries = [r for r in found["readings"] if r["ts"] == day.DISPUTED]
    assert [(r["value"], r["counts"], r["seq"]) for r in entries] == [(20, False, 17), (Decimal("20.5"), False, 18)]
    assert ("disputed", day.DISPUTED) in {(f["reason"], f["from_at"]) for f in found["findings"]}
    message = next(r for r in found["readings"] if r["ts"] == day.at("03:15"))
    assert (message["gateway_code"], message["epoch"], message["lane"], message["seq"]) == ("gw-001", "e1", 0, 3)
    assert message["committed_at"] == day.at("03:01")


def test_an_hour_in_the_gap_rests_on_readings_hours_away(engine: Engine, made: Explained) -> None:
    with engine.connect() as connection:
        found = explain.usage(connection, CITY, made.power_id, "hour", day.at("09:00"))
    assert found["agrees"]
    assert found["derived"] == {
        "quantity": 320, "windows_expected": 4, "windows_received": 0, "windows_estimated": 4,
    }  # fmt: skip
    assert [r["ts"] for r in found["readings"]] == [day.GAP[0], day.GAP[1]]
    assert found["revisions"] == []


def test_an_hour_of_a_moved_point_counts_once_and_wholly(engine: Engine, made: Explained) -> None:
    quantities = {}
    with engine.connect() as connection:
        for unit_id in (made.plant.kiln_id, made.plant.plant_id):
            found = explain.energy(connection, CITY, unit_id, "electricity", "in", "day", DAY)
            assert found["agrees"], found["differing"]
            quantities[unit_id] = found["derived"]["quantity"]
            assert [(p["point_id"], p["quantity"]) for p in found["points"]] == [
                (made.power_id, found["derived"]["quantity"])
            ]
            assert found["conversions"][0]["emission_factor"]["year"] == 2023
            assert found["conversions"][0]["coefficients"].is_co2_provisional
    # The kiln keeps the hour from 14:00 on, in whose middle the point moved: 12 quarters of S2, the plant gets 36.
    assert quantities == {made.plant.kiln_id: Decimal("48.5") * 80 + 12 * 120, made.plant.plant_id: 36 * 120}


def test_a_ratio_over_output_days_lists_their_energy_and_every_revision_of_the_output(
    engine: Engine, made: Explained
) -> None:
    with engine.connect() as connection:
        found = explain.ratio(connection, CITY, made.plant.line_id, MONTH, NOW)
    assert found["agrees"], found["differing"]
    assert [(row["revision"], row["value"]) for row in found["outputs"]] == [(1, 40), (2, 50)]
    assert [(part["start"], part["carrier_key"]) for part in found["parts"]] == [
        (DAY, "electricity"), (DAY, "raw_coal"),
    ]  # fmt: skip
    energy = sum(part["sign"] * part["equivalent_kgce"] for part in found["parts"])
    assert (found["derived"]["energy"], found["derived"]["actual"]) == (energy, energy / 50)


def test_a_day_that_a_meter_was_put_right_is_no_output_in_the_chain_either(engine: Engine, made: Explained) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE point_assignment SET line_id = :line, output_kind = 'production' WHERE point_id = :p"),
            {"line": made.plant.line_id, "p": made.power_id},
        )
        asked = (connection, CITY, made.plant.line_id, MONTH, NOW)
        assert [row["start"] for row in explain.ratio(*asked)["metered_outputs"]] == [DAY]
        connection.execute(text("UPDATE usage_day SET quantity = -1 WHERE point_id = :p"), {"p": made.power_id})
        assert explain.ratio(*asked)["metered_outputs"] == []


def test_measured_heating_values_are_in_the_chain(engine: Engine, client: TestClient, made: Explained) -> None:
    lot = {"process_unit_id": made.plant.plant_id, "carrier": "raw_coal", "month": "2026-10", "lot": "A",
           "mass": "10", "unit": "t", "lhv_kj": "21600", "evidence": "report 9"}  # fmt: skip
    assert client.post("/api/v1/heating-values", json={"lots": [lot]}).status_code == 200
    with engine.connect() as connection:
        waiting = explain.energy(connection, CITY, made.plant.kiln_id, "raw_coal", "in", "month", MONTH)
    assert waiting["differing"] == ["equivalent_kgce", "equal_kgce", "co2_kg", "factor_set"]
    day.settle(engine)
    asked = {"process_unit_id": made.plant.kiln_id, "carrier": "raw_coal", "period": "2026-10"}
    found = client.get("/api/v1/explain/energy", params=asked).json()
    assert found["agrees"], found["differing"]
    (stretch,) = found["conversions"]
    assert (stretch["coefficients"]["factor_set"], stretch["measured_lots"][0]["evidence"]) == (
        "GB/T 2589-2020, measured LHV", "report 9",
    )  # fmt: skip
    assert stretch["equivalent_factor"]["kgce_per_unit"] == "0.7143"  # what the annex would have said
    assert found["revisions"][-1]["cause"] == "heating_value"
    assert found["revisions"][-1]["value"]["equivalent_kgce"] == found["stored"]["equivalent_kgce"]


KEYS = {
    "usage": ("point_id",),
    "energy": ("process_unit_id", "carrier_key", "flow"),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("grain", ["hour", "day", "month"])
def test_every_row_of_every_table_is_derived_again(engine: Engine, made: Explained, kind: str, grain: str) -> None:
    column = "hour_at" if grain == "hour" else grain
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {', '.join((*KEYS[kind], column))} FROM {kind}_{grain}")).all()
        for *key, start in rows:
            found = getattr(explain, kind)(connection, CITY, *key, grain, start)
            assert found["agrees"], (key, start, found["differing"], found["stored"], found["derived"])
    assert rows


def test_links_lead_from_the_city_down_to_an_hour(client: TestClient, made: Explained) -> None:
    path = "/api/v1/explain/total?period=2026-10"
    grains = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["agrees"], (path, found["differing"])
        grains.append((path.split("?", maxsplit=1)[0].rsplit("/", 1)[1], found["grain"]))
        below = [*found.get("parts", []), *found.get("points", [])]
        path = below[0]["explain"] if below else ""
    assert grains == [
        ("total", "month"), ("total", "month"), ("energy", "month"), ("usage", "month"), ("usage", "day"),
        ("usage", "hour"),
    ]  # fmt: skip
    assert found["readings"][0]["lane"] == "live"
    ratio = client.get("/api/v1/explain/ratio", params={"line_id": made.plant.line_id, "period": "2026-10"}).json()
    assert client.get(ratio["parts"][0]["explain"]).json()["agrees"]


def test_tampering_shows_wherever_it_was_done(engine: Engine, made: Explained) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE reading SET value = value + 0.25 WHERE point_id = :p AND ts = :at"),
            {"p": made.power_id, "at": day.at("24:00")},
        )
    with engine.connect() as connection:
        assert explain.usage(connection, CITY, made.power_id, "day", DAY)["differing"] == ["quantity"]
        energy = explain.energy(connection, CITY, made.plant.plant_id, "electricity", "in", "month", MONTH)
        assert "equivalent_kgce" in energy["differing"]
        kiln = explain.ratio(connection, CITY, made.plant.line_id, MONTH, NOW)
        assert kiln["agrees"]  # the kiln did not have the point any more
    with engine.begin() as connection:
        connection.execute(text("UPDATE energy_month SET equivalent_kgce = equivalent_kgce + 1"))
        connection.execute(text("DELETE FROM usage_day WHERE point_id = :p"), {"p": made.coal_id})
    with engine.connect() as connection:
        assert explain.usage(connection, CITY, made.coal_id, "day", DAY)["stored"] is None
        assert not explain.usage(connection, CITY, made.coal_id, "day", DAY)["agrees"]


def test_where_nothing_is_known_nothing_agrees_with_nothing(engine: Engine, made: Explained) -> None:
    before = DAY - timedelta(days=40)
    with engine.connect() as connection:
        found = explain.usage(connection, CITY, made.power_id, "day", before)
        assert (found["stored"], found["derived"], found["agrees"]) == (None, None, True)
        empty = explain.energy(connection, CITY, made.plant.kiln_id, "diesel", "in", "month", MONTH)
        assert (empty["stored"], empty["derived"], empty["conversions"]) == (None, None, [])
        ratio = explain.ratio(connection, CITY, made.plant.line_id, before.replace(day=1), NOW)
        assert (ratio["stored"], ratio["derived"], ratio["agrees"], ratio["differing"]) == (None, None, True, [])


@pytest.mark.parametrize("period", ["2026-13", "2026-10-40", "soon", "2026-10-10T08:30:00+08:00", "2026-10-10T08:00"])
def test_a_period_that_cannot_be_read_is_named(client: TestClient, made: Explained, period: str) -> None:
    answer = client.get("/api/v1/explain/usage", params={"point_id": made.power_id, "period": period})
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, ["query", "period"])


def test_a_ratio_is_of_a_month(client: TestClient, made: Explained) -> None:
    answer = client.get("/api/v1/explain/ratio", params={"line_id": made.plant.line_id, "period": str(DAY)})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")


def test_the_shell_shows_the_chain_in_both_languages(engine: Engine, nenghao: Nenghao, made: Explained) -> None:
    status, english, _ = nenghao("explain", "usage", "gw-001/E001", str(DAY), "--language", "en")
    assert status == 0
    for piece in (
        "they agree", "S1: multiplier 80, digits 6", "148.5", "kiln, in", "estimated",
        "operator, read from the meter, photo 17", "gw-001 e1 live 3 (2026-10-10 03:01)", "disputed",
    ):  # fmt: skip
        assert piece in english
    status, chinese, _ = nenghao("explain", "usage", "gw-001/E001", "2026-10", "--language", "zh")
    assert (status, "一致" in chinese, "倍率 80" in chinese) == (0, True, True)
    status, energy, _ = nenghao(
        "explain", "energy", f"{USCC}/kiln", "2026-10", "--carrier", "electricity", "--language", "en"
    )  # fmt: skip
    assert (status, "GB/T 2589-2020" in energy, "confirmed" in energy) == (0, True, True)
    status, ratio, _ = nenghao("explain", "ratio", f"{USCC}/kiln/kiln-1", "2026-10", "--language", "en")
    assert (status, "50 t" in ratio, "100 / 117" in ratio) == (0, True, True)
    status, total, _ = nenghao("explain", "total", "2026-10", "--enterprise", USCC, "--language", "en")
    assert (status, "kiln/electricity/in" in total) == (0, True)
    status, found, _ = nenghao("explain", "usage", "gw-001/E001", str(DAY), "--json")
    assert json.loads(found)["derived"]["quantity"] == "9640.000000"


def test_the_shell_says_when_the_table_differs_and_what_it_cannot_find(
    engine: Engine, nenghao: Nenghao, made: Explained
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE usage_day SET quantity = quantity + 1"))
    status, said, _ = nenghao("explain", "usage", "gw-001/E001", str(DAY), "--language", "en")
    assert (status, "they differ in quantity" in said) == (1, True)
    for words in (
        ("usage", "gw-001/E999", "2026-10"), ("energy", f"{USCC}/mill", "2026-10", "--carrier", "heat"),
        ("ratio", f"{USCC}/kiln/none", "2026-10"), ("ratio", f"{USCC}/kiln/kiln-1", "2026-10-10"),
        ("usage", "gw-001/E001", "whenever"),
    ):  # fmt: skip
        status, _, complaint = nenghao("explain", *words)
        assert status == 1
        assert complaint.startswith("error: ")
