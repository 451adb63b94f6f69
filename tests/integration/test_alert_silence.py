"""Silence of gateways: confirmed before it is told, ended when one speaks, a storm told to nobody."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.pipeline import alert
from app.settings import Settings
from tests.integration import accounting_city as city
from tests.integration.alert_site import NOW, alerts, endpoint, payloads, table


@pytest.fixture
def settings(database_url):
    return Settings(database_url=database_url, public_url="https://energy.example/")


def heard(engine, plants, at):
    with engine.begin() as connection:
        for each in plants:
            connection.execute(
                text(
                    "INSERT INTO gateway_state (gateway_id, is_online, seen_at, last_commit_at)"
                    " VALUES (:g, true, :at, :at) ON CONFLICT (gateway_id)"
                    " DO UPDATE SET seen_at = excluded.seen_at, last_commit_at = excluded.last_commit_at"
                ),
                {"g": each.gateway_id, "at": at},
            )


def look(engine, settings, now):
    return alert.look_for_silence(engine, now, settings)


@pytest.fixture
def fleet(engine, settings):
    city.load_reference(engine)
    with engine.begin() as connection:
        plants = [city.add_plant(connection, number) for number in range(1, 13)]
    heard(engine, plants, NOW)
    return plants


def test_a_silent_gateway_is_told_after_it_was_confirmed_and_resolved_when_it_speaks(engine, settings, fleet):
    endpoint(engine, "city")
    silent, others = fleet[0], fleet[1:]
    at = NOW + timedelta(seconds=31)
    heard(engine, others, at)
    assert look(engine, settings, at) == 1
    assert [(row["state"], row["subject_id"]) for row in alerts(engine)] == [("pending", silent.gateway_id)]
    later = at + timedelta(seconds=21)
    heard(engine, others, later)
    assert look(engine, settings, later) == 1
    assert look(engine, settings, later) == 0
    (body,) = payloads(engine)
    assert body["data"]["gateway"] == {"code": "gw-001"}
    assert body["data"]["last_heard_at"] == "2026-11-05T08:00:00+08:00"
    assert "端设备gw-001失联" in body["data"]["text_zh"]
    heard(engine, [silent], later)
    assert look(engine, settings, later + timedelta(seconds=1)) == 1
    assert [row["state"] for row in alerts(engine)] == ["resolved"]
    told = payloads(engine)[-1]["data"]
    assert (told["last_heard_at"], told["resolution"]) == (
        "2026-11-05T08:00:00+08:00",
        {"reason": "no_longer_in_breach", "present": {"last_heard_at": "2026-11-05T08:00:52+08:00"}},
    )
    assert "端设备gw-001恢复通信。最后一次通信2026-11-05T08:00:52+08:00。" in told["text_zh"]
    assert [row["kind"] for row in table(engine, "SELECT kind FROM event ORDER BY occurred_at")] == [
        "alert.opened",
        "alert.resolved",
    ]
    assert len(table(engine, "SELECT 1 FROM delivery")) == 2


def test_the_whole_ingest_being_down_opens_nothing(engine, settings, fleet):
    for minutes in (1, 5, 60):
        assert look(engine, settings, NOW + timedelta(minutes=minutes)) == 0
    back = NOW + timedelta(minutes=61)
    heard(engine, fleet[:5], back)  # the first ones are back, most are still reconnecting
    assert look(engine, settings, back) == 0
    heard(engine, fleet[5:11], back)
    assert look(engine, settings, back) == 1  # the one that stays away
    assert [row["subject_id"] for row in alerts(engine)] == [fleet[11].gateway_id]


def test_a_gateway_never_heard_counts_from_its_registration(engine, settings, fleet):
    registered = NOW + timedelta(hours=1)
    with engine.begin() as connection:
        city.add_plant(connection, 99, registered_at=registered)
    heard(engine, fleet, registered + timedelta(minutes=10))
    assert look(engine, settings, registered + timedelta(seconds=30)) == 0
    assert look(engine, settings, registered + timedelta(seconds=31)) == 1
    assert alerts(engine)[0]["facts"]["last_heard_at"] is None


def test_a_gateway_taken_out_of_service_ends_its_alert(engine, settings, fleet):
    at = NOW + timedelta(minutes=2)
    heard(engine, fleet[1:], at + timedelta(minutes=5))
    look(engine, settings, at)
    look(engine, settings, at + timedelta(seconds=30))
    assert [row["state"] for row in alerts(engine)] == ["open"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE gateway SET is_enabled = false WHERE code = 'gw-001'"))
    look(engine, settings, at + timedelta(seconds=40))
    assert [(row["state"], row["reason"]) for row in alerts(engine)] == [("resolved", "basis_withdrawn")]


def test_two_workers_look_for_silence_and_open_one(engine, settings, fleet):
    at = NOW + timedelta(minutes=2)
    heard(engine, fleet[3:], at + timedelta(minutes=5))
    for moment in (at, at + timedelta(seconds=30)):
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(look, engine, settings, moment) for _ in range(2)]
            assert sum(future.result() for future in done) == 3
    assert len(alerts(engine)) == 3
    assert len(payloads(engine)) == 3
