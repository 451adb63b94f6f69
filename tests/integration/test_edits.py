"""Edits by people: kept beside what was sent, above it in rank, and their hours computed again by the real stages."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db import stale
from app.db.access import Caller, create_key
from app.db.scope import CITY, Scope
from app.errors import Invalid
from app.intake import edits as intake
from app.main import create_app
from app.settings import Settings
from tests.integration import rollup_site as site

D = Decimal
START = datetime(2026, 10, 1, 2, tzinfo=UTC)
HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
RISE = 5
COUNT = 41  # ten hours, register 1000 at START, +5 a quarter
Client = Callable[[str], TestClient]


@pytest.fixture
def point_id(engine: Engine) -> int:
    """A point with ten hours of readings, rolled up: 20 kWh an hour."""
    with engine.begin() as connection:
        plant = site.add_site(connection)
        made = site.add_point(connection, plant, "E001")
        site.insert_readings(connection, made, [(at(i), register(i), 0) for i in range(COUNT)])
        site.mark(connection, plant, (START, START + 11 * HOUR))
    site.roll_up(engine)
    return made


@pytest.fixture
def client(engine: Engine, database_url: str, point_id: int) -> Client:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[access.now] = lambda: site.NOW
    with engine.begin() as connection:
        enterprise_id = connection.execute(text("SELECT id FROM enterprise")).scalar_one()
        other = site.add_site(connection, 2)
        other_id = connection.execute(text("SELECT max(id) FROM enterprise")).scalar_one()
        site.add_point(connection, other, "E001")
        keys = {role: create_key(connection, role, role) for role in ("operator", "regulator")}
        keys["enterprise"] = create_key(connection, "works", "enterprise", enterprise_id=enterprise_id)
        keys["other"] = create_key(connection, "other works", "enterprise", enterprise_id=other_id)
        keys["gateway"] = create_key(connection, "gw-001", "gateway")
        connection.execute(
            text(
                "INSERT INTO district (code, name_zh, name_en, level, source, confidence)"
                " VALUES ('120110', '河东', 'Hedong', 'district', 't', 'recalled')"
            )
        )
        keys["official"] = create_key(connection, "official", "official", district_code="120110")

    def by(role: str) -> TestClient:
        return TestClient(app, headers={"Authorization": f"Bearer {keys[role]}", "Accept-Language": "en"})

    return by


def at(number: int) -> datetime:
    return START + number * QUARTER


def register(number: int) -> float:
    return 1000.0 + RISE * number


def edit(number: int, value: object, **more: Any) -> dict[str, Any]:
    row = {"gateway": "gw-001", "point": "E001", "ts": at(number).isoformat(), "value": value, "reason": "misread"}
    return {**row, **more}


def post(client: TestClient, *edits: dict[str, Any], **more: Any) -> httpx2.Response:
    return client.post("/api/v1/edits", json={"edits": list(edits), **more})


def enter(engine: Engine, client: TestClient, *edits: dict[str, Any]) -> dict[str, int]:
    answer = post(client, *edits)
    assert answer.status_code == 200, answer.text
    site.roll_up(engine)
    return dict(answer.json())


def hours(engine: Engine, point_id: int) -> list[Decimal]:
    """The usage of the ten hours by the tables, which must be what the pure rules say."""
    with engine.connect() as connection:
        site.assert_tables_equal_the_pure_rules(connection, point_id)
        table = site.table(connection, "usage_hour", point_id)
    return [table[START + i * HOUR][0] if START + i * HOUR in table else D(0) for i in range(10)]


def entries(engine: Engine) -> list[tuple[Any, ...]]:
    sql = "SELECT ts, rank, value, origin, receipt_id, actor FROM reading_override ORDER BY ts, rank, value"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def dispute(engine: Engine, point_id: int, number: int) -> None:
    """Two values of the gateway at one rank, as ingest leaves them."""
    with engine.begin() as connection:
        for value in (register(number), register(number) + 1):
            connection.execute(
                text(
                    "INSERT INTO reading_override (point_id, ts, rank, value, origin, receipt_id)"
                    " VALUES (:p, :ts, 0, :v, 'gateway', 1)"
                ),
                {"p": point_id, "ts": at(number), "v": value},
            )
        connection.execute(
            text("INSERT INTO finding (point_id, reason, from_at, to_at) VALUES (:p, 'disputed', :ts, :ts)"),
            {"p": point_id, "ts": at(number)},
        )
        hour_at = at(number).replace(minute=0)
        gateway_id = connection.execute(text("SELECT gateway_id FROM point")).scalars().first()
        stale.mark_many(connection, "rollup", [(gateway_id, None, hour_at, hour_at + HOUR)], cause="reading")
    site.roll_up(engine)


def test_an_edit_changes_its_hours_and_the_reading_stays(engine: Engine, client: Client, point_id: int) -> None:
    assert hours(engine, point_id) == [20] * 10
    answer = post(client("regulator"), edit(8, 1043.25, evidence="photo 7"))
    assert answer.json() == {"accepted": 1, "unchanged": 0, "decided": 0}
    with engine.connect() as connection:
        marks = connection.execute(text("SELECT point_id, from_at, to_at, cause FROM stale WHERE stage = 'rollup'"))
        assert [tuple(row) for row in marks] == [(point_id, START + 2 * HOUR, START + 3 * HOUR, "edit")]
        kept = connection.execute(text("SELECT value FROM reading WHERE ts = :ts"), {"ts": at(8)}).scalar_one()
        assert kept == register(8)
    site.roll_up(engine)
    assert hours(engine, point_id) == [20, D("23.25"), D("16.75"), *[20] * 7]
    assert entries(engine) == [
        (at(8), 0, 1040.0, "gateway", 1, None),
        (at(8), 1_000_000, 1043.25, "edit", None, "regulator"),
    ]


def test_a_dispute_that_is_decided_counts(engine: Engine, client: Client, point_id: int) -> None:
    dispute(engine, point_id, 40)
    assert hours(engine, point_id)[9] == 15
    assert enter(engine, client("operator"), edit(40, register(40) + 1))["decided"] == 1
    assert hours(engine, point_id)[9] == 21
    with engine.connect() as connection:
        closed = connection.execute(text("SELECT reason, closed_by, note, closed_at FROM finding")).one()
    assert tuple(closed) == ("disputed", "operator", "decided by an edit: misread", site.NOW)
    assert [row[1] for row in entries(engine)] == [0, 0, 1_000_000]


def test_an_edit_closes_the_disputes_of_its_own_instant_only(engine: Engine, client: Client, point_id: int) -> None:
    for number in (20, 30):
        dispute(engine, point_id, number)
    enter(engine, client("operator"), edit(20, register(20)))
    with engine.connect() as connection:
        assert site.findings(connection, point_id) == {("disputed", at(30), at(30))}


def test_a_void_removes_the_instant_and_a_later_edit_wins(engine: Engine, client: Client, point_id: int) -> None:
    enter(engine, client("operator"), edit(40, None))
    assert hours(engine, point_id)[9] == 15
    enter(engine, client("regulator"), edit(40, 1203.0))
    assert hours(engine, point_id)[9] == 23
    enter(engine, client("operator"), edit(40, 1201.0))
    assert hours(engine, point_id)[9] == 21
    ranks = [(rank, value, actor) for _, rank, value, _, _, actor in entries(engine)]
    assert ranks == [
        (0, 1200.0, None),
        (1_000_000, None, "operator"),
        (1_000_001, 1203.0, "regulator"),
        (1_000_002, 1201.0, "operator"),
    ]


def test_a_manual_value_where_nothing_was_sent_takes_the_same_road(
    engine: Engine, client: Client, point_id: int
) -> None:
    assert enter(engine, client("operator"), edit(44, register(40) + 12))["accepted"] == 1
    with engine.connect() as connection:
        table = site.assert_tables_equal_the_pure_rules(connection, point_id).hours
    assert sum(row[0] for row in table.values()) == 212
    assert entries(engine) == [(at(44), 1_000_000, 1212.0, "edit", None, "operator")]


def test_an_edit_sent_twice_is_entered_once(engine: Engine, client: Client, point_id: int) -> None:
    for accepted in (1, 0):
        assert enter(engine, client("operator"), edit(8, 1041.0))["accepted"] == accepted
    assert len(entries(engine)) == 2
    assert enter(engine, client("operator"), edit(8, 1041.0, reason="seen on site"))["accepted"] == 1


def test_the_order_of_edits_of_different_instants_is_no_matter(engine: Engine, client: Client, point_id: int) -> None:
    edits = [edit(n, register(n) + d) for n, d in ((4, 1.5), (5, -0.5), (17, 2.0), (40, 3.25))] + [edit(28, None)]
    caller = Caller("one", "operator", CITY)
    found = []
    for number, batch_size in ((1, 5), (2, 1), (3, 2)):
        shuffled = random.Random(number).sample(edits, len(edits))
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM reading_override"))
            connection.execute(text("INSERT INTO stale (stage, subject_id, from_at, to_at)"
                                    " SELECT 'rollup', gateway_id, :f, :t FROM point WHERE id = :p"),
                               {"p": point_id, "f": START, "t": START + 11 * HOUR})  # fmt: skip
        site.roll_up(engine)
        assert hours(engine, point_id) == [20] * 10
        for first in range(0, len(edits), batch_size):
            batch = [intake.EditEntry.model_validate(row) for row in shuffled[first : first + batch_size]]
            with engine.begin() as connection:
                intake.enter(connection, caller, batch, now=site.NOW)
            if number == 3:
                site.roll_up(engine)
        site.roll_up(engine)
        found.append((hours(engine, point_id), entries(engine)))
    assert found[0] == found[1] == found[2]
    assert found[0][0] != [20] * 10


def test_all_bad_rows_are_listed_and_nothing_is_written(engine: Engine, client: Client, point_id: int) -> None:
    with engine.begin() as connection:
        gateway_id = connection.execute(text("SELECT gateway_id FROM point WHERE id = :p"), {"p": point_id}).scalar()
        connection.execute(
            text("INSERT INTO point (gateway_id, code, signal, unit) VALUES (:g, 'E009', 'register', 'kWh')"),
            {"g": gateway_id},
        )
    answer = post(
        client("operator"),
        edit(8, 1),
        edit(9, 1, point="E404"),
        edit(9, 1, gateway="gw-404"),
        edit(9, 1, ts=(site.NOW + HOUR).isoformat()),
        edit(9, 1, ts="1999-01-01T00:00:00+08:00"),
        edit(9, 1, point="E009"),
        edit(8, 2, ts=at(8).astimezone(UTC).isoformat()),
        edit(9, 1, ts="0001-01-01T00:00:00+14:00"),
    )
    assert answer.status_code == 422
    errors = {item["location"]: item["message"] for item in answer.json()["errors"]}
    assert set(errors) == {
        "edits[1].point", "edits[2].point", "edits[3].ts", "edits[4].ts", "edits[5].ts", "edits[6]", "edits[7].ts"
    }  # fmt: skip
    assert "future" in errors["edits[3].ts"]
    assert "first meter" in errors["edits[4].ts"]
    assert "no meter" in errors["edits[5].ts"]
    assert "edits[0]" in errors["edits[6]"]
    assert_nothing_written(engine)


@pytest.mark.parametrize(
    "bad",
    [
        {"value": "NaN"}, {"value": "12"}, {"value": True}, {"reason": ""}, {"reason": "  "}, {"value": 10**400},
        {"ts": "2026-10-01T02:00:00"}, {"evidence": 7}, {"quality": 0}, {"reason": "a\0b"}, {"point": "a\0b"},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_edit_is_refused_with_the_good_ones(engine: Engine, client: Client, bad: dict[str, Any]) -> None:
    answer = post(client("operator"), edit(8, 1), {**edit(9, 1), **bad})
    assert answer.status_code in {400, 422}, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    assert_nothing_written(engine)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(engine: Engine, client: Client, value: str) -> None:
    body = json.dumps({"edits": [edit(8, 777)]}).replace("777", value)
    headers = {"Content-Type": "application/json"}
    answer = client("operator").post("/api/v1/edits", content=body, headers=headers)
    assert answer.status_code in {400, 422}, answer.text
    assert_nothing_written(engine)


def test_value_must_be_said_even_to_void(client: Client) -> None:
    row = edit(8, None)
    del row["value"]
    assert post(client("operator"), row).status_code == 422


def assert_nothing_written(engine: Engine) -> None:
    with engine.connect() as connection:
        for table in ("reading_override", "audit WHERE action = 'edits.enter'", "stale WHERE stage = 'rollup'"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0, table


def test_a_closed_year_takes_an_operator_and_a_reason(engine: Engine, client: Client, point_id: int) -> None:
    old, open_year = edit(0, 900, ts="2025-12-31T10:00:00+08:00"), edit(8, 1041.0)
    for role, reason in (("regulator", "audit"), ("operator", None), ("operator", " ")):
        answer = post(client(role), open_year, old, closed_year_reason=reason)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
        assert answer.json()["errors"] == [{"location": "edits[1].ts", "message": "year 2025 is closed"}]
        assert_nothing_written(engine)
    assert post(client("operator"), open_year, old, closed_year_reason="court order 7").json()["accepted"] == 2
    with engine.connect() as connection:
        detail = connection.execute(text("SELECT detail FROM audit WHERE action = 'edits.enter'")).scalar_one()
    assert detail["closed_years"] == {"2025": "court order 7"}
    assert detail["instants"] == ["gw-001/E001 2025-12-31T10:00:00+08:00", "gw-001/E001 2026-10-01T12:00:00+08:00"]


def test_operators_and_regulators_alone_may_edit(engine: Engine, client: Client) -> None:
    for role in ("official", "enterprise", "gateway"):
        answer = post(client(role), edit(8, 1041.0))
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert_nothing_written(engine)


def test_nobody_edits_or_sees_what_is_out_of_scope(engine: Engine, client: Client, point_id: int) -> None:
    rows = [intake.EditEntry.model_validate(edit(8, 1041.0, gateway=gateway)) for gateway in ("gw-001", "gw-002")]
    with engine.begin() as connection:
        enterprise_id = connection.execute(text("SELECT enterprise_id FROM gateway WHERE code = 'gw-002'")).scalar_one()
        of_other = Caller("works", "operator", Scope(enterprise_id=enterprise_id))
        with pytest.raises(Invalid) as refused:
            intake.enter(connection, of_other, rows, now=site.NOW)
    assert [item["location"] for item in refused.value.extra["errors"]] == ["edits[0].point"]
    assert_nothing_written(engine)
    enter(engine, client("operator"), edit(8, 1041.0), edit(8, 7.0, gateway="gw-002"))
    for role, own, other in (("enterprise", "gw-001", "gw-002"), ("other", "gw-002", "gw-001")):
        assert client(role).get("/api/v1/edits", params={"gateway": other}).status_code == 404
        seen = client(role).get("/api/v1/edits", params={"gateway": own}).json()
        assert {item["value"] for item in seen["items"]} == ({"1040", "1041"} if own == "gw-001" else {"7"})
    assert client("gateway").get("/api/v1/edits", params={"gateway": "gw-001"}).status_code == 403


def test_the_list_tells_every_entry_and_which_one_counts(engine: Engine, client: Client, point_id: int) -> None:
    dispute(engine, point_id, 20)
    enter(engine, client("operator"), edit(8, 0.1, evidence="photo 7"), edit(30, None))
    enter(engine, client("regulator"), edit(8, 1e20, reason="typed wrong"))
    listed = client("enterprise").get("/api/v1/edits", params={"gateway": "gw-001"}).json()
    told = [(i["ts"], i["rank"], i["value"], i["origin"], i["counts"], i["actor"], i["reason"], i["evidence"])
            for i in listed["items"]]  # fmt: skip
    gateway, no = "gateway", (None, None, None)
    assert told == [
        ("2026-10-01T17:30:00+08:00", 0, "1150", gateway, False, *no),
        ("2026-10-01T17:30:00+08:00", 1_000_000, None, "edit", True, "operator", "misread", None),
        ("2026-10-01T15:00:00+08:00", 0, "1100", gateway, False, *no),
        ("2026-10-01T15:00:00+08:00", 0, "1101", gateway, False, *no),
        ("2026-10-01T12:00:00+08:00", 0, "1040", gateway, False, *no),
        ("2026-10-01T12:00:00+08:00", 1_000_000, "0.1", "edit", False, "operator", "misread", "photo 7"),
        ("2026-10-01T12:00:00+08:00", 1_000_001, "1" + "0" * 20, "edit", True, "regulator", "typed wrong", None),
    ]
    assert listed["is_complete"] is True


def test_the_list_is_cut_between_instants(engine: Engine, client: Client, point_id: int) -> None:
    enter(engine, client("operator"), *(edit(n, register(n) + 0.5) for n in (8, 9, 10)))
    ask = client("enterprise")

    def numbers(**params: Any) -> tuple[list[str], bool]:
        answer = ask.get("/api/v1/edits", params={"gateway": "gw-001", **params})
        assert answer.status_code == 200, answer.text
        return [item["value"] for item in answer.json()["items"]], answer.json()["is_complete"]

    assert numbers(limit=2) == (["1050", "1050.5", "1045", "1045.5"], False)
    assert numbers(**{"from": at(8).isoformat(), "to": at(9).isoformat()}) == (["1040", "1040.5"], True)
    assert numbers(point="E002") == ([], True)
    wrong = ask.get("/api/v1/edits", params={"gateway": "gw-001", "from": at(9).isoformat(), "to": at(8).isoformat()})
    assert wrong.status_code == 422
    assert ask.get("/api/v1/edits", params={"gateway": "gw-001", "to": "0001-01-01T00:00:00Z"}).status_code == 422
