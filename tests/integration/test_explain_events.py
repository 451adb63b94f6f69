"""What people entered is in the chain: events of the meter, values by hand, conditions of the line, metered outputs."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.cli.chain import Chain
from app.db import stale
from app.db.access import create_key
from app.db.scope import CITY
from app.domain import calendar
from app.domain.credit_code import with_check_digit
from app.main import create_app
from app.pipeline import explain
from app.settings import Settings
from tests.integration import accounting_city as city
from tests.integration import explained_city as day
from tests.integration.explained_city import DAY, MONTH, NOW, Explained
from tests.integration.rollup_site import insert_readings

Enter = Callable[..., None]


@pytest.fixture
def made(engine: Engine) -> Explained:
    made = day.build(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE enterprise SET uscc = :u"), {"u": with_check_digit("91120000MA0000001")})
    return made


@pytest.fixture
def client(engine: Engine, database_url: str, made: Explained) -> TestClient:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[access.now] = lambda: NOW
    with engine.begin() as connection:
        key = create_key(connection, "li", "operator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


@pytest.fixture
def enter(client: TestClient) -> Enter:
    def _enter(kind: str, clock: str, **stated: Any) -> None:
        event = {"gateway": "gw-001", "point": "E001", "kind": kind, "at": day.at(clock).isoformat(), **stated}
        answer = client.post("/api/v1/events", json={"event": event | {"reason": "seen on site"}})
        assert answer.status_code == 200, answer.text

    return _enter


def explained(client: TestClient, kind: str, period: str, **asked: object) -> dict[str, Any]:
    answer = client.get(f"/api/v1/explain/{kind}", params={"period": period, **asked})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_events_that_made_or_altered_a_meter_are_named(
    engine: Engine, client: TestClient, made: Explained, enter: Enter
) -> None:
    enter("meter_correction", "18:00", multiplier="60", evidence="nameplate")
    enter("multiplier_change", "20:00", multiplier="30")
    enter("move", "22:00", process_unit="kiln")
    day.settle(engine)

    def kinds(period: str) -> list[str]:
        found = explained(client, "usage", period, point_id=made.power_id)
        assert found["agrees"], found["differing"]
        return [event["kind"] for event in found["events"]]

    assert kinds(str(DAY)) == kinds("2026-10") == ["meter_correction", "multiplier_change", "move"]
    # Until noon another meter was in place; the correction holds from the first day of its own. An event ends what
    # was before it, and that belongs to the story of the hours before it too.
    assert kinds(day.at("11:00").isoformat()) == []
    assert kinds(day.at("13:00").isoformat()) == ["meter_correction", "multiplier_change"]
    assert kinds(day.at("21:00").isoformat()) == ["multiplier_change", "move"]
    assert kinds(day.at("23:00").isoformat()) == ["multiplier_change", "move"]
    event = explained(client, "usage", str(DAY), point_id=made.power_id)["events"][0]
    assert (event["actor"], event["reason"], event["evidence"], event["stated"]) == (
        "li", "seen on site", "nameplate", {"multiplier": "60"},
    )  # fmt: skip
    energy = explained(
        client, "energy", "2026-10", process_unit_id=made.plant.kiln_id, carrier="electricity", flow="in"
    )
    assert energy["agrees"], energy["differing"]
    assert [event["kind"] for event in energy["points"][0]["events"]] == kinds("2026-10")
    with engine.connect() as connection:
        lines = list(Chain("en").lines("usage", explain.usage(connection, CITY, made.power_id, "day", DAY)))
        lines += Chain("zh").lines(
            "energy", explain.energy(connection, CITY, made.plant.kiln_id, "electricity", "in", "month", MONTH)
        )
    assert lines[0].endswith(f"{DAY}, kWh")
    told = [line for line in lines if "meter_correction multiplier=60: li" in line and "nameplate" in line]
    assert len(told) == 2


def test_a_reading_that_came_after_its_manual_value_is_shown_beside_it(
    engine: Engine, client: TestClient, made: Explained
) -> None:
    at = day.GAP[0] + timedelta(minutes=15)
    edit = {"gateway": "gw-001", "point": "E001", "ts": at.isoformat(), "value": 135.5, "reason": "read on site"}
    assert client.post("/api/v1/edits", json={"edits": [edit]}).status_code == 200
    with engine.begin() as connection:
        insert_readings(connection, made.power_id, [(at, 133.0, 0)])
        stale.mark(connection, "rollup", made.plant.gateway_id, *day.GAP, cause="reading")
    day.settle(engine)
    found = explained(client, "usage", day.GAP[0].isoformat(), point_id=made.power_id)
    assert found["agrees"], found["differing"]
    entries = [entry for entry in found["readings"] if entry["ts"].startswith("2026-10-10T08:15")]
    assert [(e["origin"], e["value"], e["counts"], e["actor"]) for e in entries] == [
        ("gateway", "133", False, None), ("edit", "135.5", True, "li"),
    ]  # fmt: skip


def test_more_readings_than_are_listed_are_said_to_be_there(
    engine: Engine, made: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.connect() as connection:
        whole = explain.usage(connection, CITY, made.power_id, "day", DAY)
        monkeypatch.setattr(explain, "MOST_READINGS", 20)
        cut = explain.usage(connection, CITY, made.power_id, "day", DAY)
    assert (whole["has_more_readings"], cut["has_more_readings"], len(cut["readings"])) == (False, True, 20)
    assert any("ask hour by hour" in line for line in Chain("en").lines("usage", cut))


def test_a_ratio_names_the_conditions_that_corrected_its_level_and_the_meter_of_its_output(
    engine: Engine, client: TestClient, made: Explained
) -> None:
    line_id = made.plant.line_id
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM output"))
        belt = city.add_point(connection, made.plant, "BELT", unit="t", flow="out")
        connection.execute(text("UPDATE point SET carrier_key = NULL WHERE id = :p"), {"p": belt})
        connection.execute(
            text("UPDATE point_assignment SET line_id = :l, output_kind = 'production' WHERE point_id = :p"),
            {"l": line_id, "p": belt},
        )
        insert_readings(connection, belt, [(day.at(f"{hour}:00"), 2.0, 0) for hour in range(24)])
        stale.mark(connection, "rollup", made.plant.gateway_id, *calendar.day_bounds(DAY), cause="reading")
        for month, value in ((date(2026, 8, 1), 70), (date(2026, 9, 1), 78), (date(2026, 11, 1), 90)):
            connection.execute(
                text(
                    "INSERT INTO correction_input (line_id, input_key, from_month, revision, value, evidence,"
                    " reported_by) VALUES (:l, 'clinker_share', :m, 1, :v, 'lab', 'wang')"
                ),
                {"l": line_id, "m": month, "v": value},
            )
        stale.mark(connection, "benchmark", line_id, *calendar.month_bounds(MONTH), cause="correction")
    day.settle(engine)
    found = explained(client, "ratio", "2026-10", line_id=line_id)
    assert found["agrees"], found["differing"]
    assert (found["derived"]["output"], found["outputs"]) == ("48.000000", [])
    (metered,) = found["metered_outputs"]
    assert (metered["code"], metered["start"], metered["quantity"], metered["unit"]) == (
        "BELT", str(DAY), "48000.000000", "kg",
    )  # fmt: skip
    assert client.get(metered["explain"]).json()["derived"]["quantity"] == metered["quantity"]
    # Only the energy of the day that has an output counts, and it is what is listed.
    assert {part["start"] for part in found["parts"]} == {str(DAY)}
    listed = sum(part["sign"] * float(part["equivalent_kgce"]) for part in found["parts"])
    assert listed == pytest.approx(float(found["derived"]["energy"]))
    assert [(c["input_key"], c["value"], c["evidence"], c["reported_by"]) for c in found["conditions"]] == [
        ("clinker_share", "78", "lab", "wang")
    ]
    with engine.connect() as connection:
        lines = "\n".join(Chain("en").lines("ratio", explain.ratio(connection, CITY, line_id, MONTH, NOW)))
    assert "clinker_share 78, from 2026-09-01: lab, wang" in lines
    assert "gw-001/BELT: 48000 kg, 24/24" in lines
