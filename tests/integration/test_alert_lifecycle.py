"""Alerts on the real database: one per matter, told once, with the notice in the same transaction."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from sqlalchemy import text

from app.db import deliveries, stale
from app.domain import calendar, webhook
from app.pipeline import account, alert, benchmark
from app.settings import Settings
from tests.integration import accounting_city as city

OCT = date(2026, 10, 1)
NOW = city.NOVEMBER_5
SECRET = webhook.write_secret(bytes(32))


@pytest.fixture
def settings(database_url):
    return Settings(database_url=database_url, public_url="https://energy.example/")


@pytest.fixture
def plant(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        return city.add_plant(connection)


def judge(engine, settings, now=NOW, line_id=None):
    if line_id is not None:
        with engine.begin() as connection:
            stale.mark(connection, "alert", line_id, NOW, NOW + timedelta(1), cause="clock")
    while alert.run(engine, now, settings):
        pass


def table(engine, sql):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(sql)).mappings()]


def alerts(engine):
    return table(engine, "SELECT a.*, r.kind FROM alert a JOIN rule r ON r.id = a.rule_id ORDER BY a.id")


def payloads(engine):
    return [json.loads(row["payload"]) for row in table(engine, "SELECT payload FROM event ORDER BY occurred_at, id")]


def endpoint(engine, name, district_code=None, kinds=("alert.*",)):
    with engine.begin() as connection:
        return deliveries.add_endpoint(
            connection, name=name, url="https://receiver.example/", secret=SECRET, district_code=district_code,
            kinds=kinds,
        )  # fmt: skip


def test_a_line_over_its_baseline_opens_one_alert_and_tells_those_it_concerns(engine, settings, plant):
    concerned = {endpoint(engine, "city"), endpoint(engine, "dongli", "120110"),
                 endpoint(engine, "opened", None, ["alert.opened"])}  # fmt: skip
    endpoint(engine, "other district", "120101")
    endpoint(engine, "other kind", None, ["figure.*"])
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    (found,) = alerts(engine)
    assert (found["kind"], found["state"], found["subject_id"]) == ("below_baseline", "open", plant.line_id)
    assert (found["period"], found["first_period"], found["last_period"]) == (None, OCT, OCT)
    (told,) = table(engine, "SELECT * FROM event")
    assert told["id"].startswith("evt_")
    assert {row["endpoint_id"] for row in table(engine, "SELECT * FROM delivery")} == concerned
    body = json.loads(told["payload"])
    data = body["data"]
    assert body["type"] == "alert.opened"
    assert body["timestamp"] == "2026-11-05T08:00:00+08:00"
    assert data.pop("text_zh") == (
        "东丽区第1水泥厂一号窑（水泥熟料）2026-10能耗121.43 kgce/t，劣于基准水平117 kgce/t"
        "（标杆水平100 kgce/t，2021/2023）。实测100.00 %，估算0.00 %。"
    )
    assert "Cement 1, Kiln 1 (cement clinker)" in data.pop("text_en")
    source = data["level"].pop("source")
    assert source
    assert data == {
        "alert_id": found["id"], "rule": "below_baseline", "severity": "violation",
        "district": {"code": "120110", "name_zh": "东丽区", "name_en": "Dongli District"},
        "enterprise": {"uscc": "911200000000000001", "name_zh": "第1水泥厂", "name_en": "Cement 1"},
        "line": {"code": "kiln-1", "name_zh": "一号窑", "name_en": "Kiln 1"},
        "period": "2026-10", "product_zh": "水泥熟料", "product_en": "cement clinker", "unit": "kgce/t",
        "actual": "121.431", "benchmark": "100", "baseline": "117", "ratio": "1.21431", "position": "-0.260647058824",
        "status": "below_baseline", "level": {"edition": "2021/2023", "confidence": "confirmed"},
        "measured_share": "1.0000", "estimated_share": "0.0000",
        "url": f"https://energy.example/enterprises/{plant.enterprise_id}",
    }  # fmt: skip


def test_the_district_of_today_is_told_not_that_of_a_move_to_come(engine, settings, plant):
    here, _ = endpoint(engine, "dongli", "120110"), endpoint(engine, "heping", "120101")
    with engine.begin() as connection:
        connection.execute(text("UPDATE enterprise_assignment SET to_on = '2199-01-01'"))
        connection.execute(
            text(
                "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
                " SELECT enterprise_id, '2199-01-01', '120101', industry_code FROM enterprise_assignment"
            )
        )
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    assert [row["endpoint_id"] for row in table(engine, "SELECT endpoint_id FROM delivery")] == [here]


def test_the_same_matter_is_told_once_and_extended_by_the_next_month(engine, settings, plant):
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    judge(engine, settings, line_id=plant.line_id)
    december = calendar.day_start(date(2026, 12, 2))
    city.over_baseline(engine, plant, "180", date(2026, 11, 1))
    benchmark.refresh(engine, december)
    while account.run(engine, december) or benchmark.run(engine, december):
        pass
    judge(engine, settings, december)
    below = [row for row in alerts(engine) if row["kind"] == "below_baseline"]
    assert [(row["state"], row["first_period"], row["last_period"]) for row in below] == [
        ("open", OCT, date(2026, 11, 1))
    ]
    assert below[0]["facts"]["period"] == "2026-11"
    assert [body["type"] for body in payloads(engine)] == ["alert.opened"]


def test_a_corrected_output_resolves_it_and_says_what_is_taken_back(engine, settings, plant):
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    with engine.begin() as connection:
        city.report(connection, plant, OCT, "900", revision=2)
        stale.mark(connection, "benchmark", plant.line_id, *calendar.month_bounds(OCT), cause="output")
    city.settle(engine)
    judge(engine, settings, NOW + timedelta(hours=1))
    (found,) = alerts(engine)
    assert (found["state"], found["reason"]) == ("resolved", "no_longer_in_breach")
    opened, resolved = payloads(engine)
    assert (opened["type"], resolved["type"]) == ("alert.opened", "alert.resolved")
    assert resolved["data"]["text_zh"] == "已解除：" + opened["data"]["text_zh"]
    assert resolved["data"]["actual"] == opened["data"]["actual"]


def test_who_was_told_of_a_matter_is_told_of_its_end_though_the_enterprise_moved(engine, settings, plant):
    here, _ = endpoint(engine, "dongli", "120110"), endpoint(engine, "heping", "120101")
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    with engine.begin() as connection:
        connection.execute(text("UPDATE enterprise_assignment SET district_code = '120101'"))
        connection.execute(text("UPDATE rule SET is_enabled = false"))
    judge(engine, settings, line_id=plant.line_id)
    told = table(engine, "SELECT v.kind, d.endpoint_id FROM delivery d JOIN event v ON v.id = d.event_id ORDER BY d.id")
    assert [(row["kind"], row["endpoint_id"]) for row in told] == [("alert.opened", here), ("alert.resolved", here)]


def test_an_acknowledged_alert_is_not_told_again_and_still_resolves(engine, settings, plant):
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alert SET state = 'acknowledged', acknowledged_at = now()"))
    judge(engine, settings, line_id=plant.line_id)
    assert [row["state"] for row in alerts(engine)] == ["acknowledged"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE rule SET is_enabled = false"))
    judge(engine, settings, line_id=plant.line_id)
    (found,) = alerts(engine)
    assert (found["state"], found["reason"]) == ("resolved", "rule_disabled")


def test_a_recalled_level_opens_no_violation_unless_switched_on(engine, settings, plant, database_url):
    with engine.begin() as connection:
        connection.execute(text("UPDATE efficiency_level SET confidence = 'recalled'"))
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    assert alerts(engine) == []
    bold = Settings(database_url=database_url, recalled_levels_open_violations=True)
    judge(engine, bold, line_id=plant.line_id)
    assert [row["state"] for row in alerts(engine)] == ["open"]
    (told,) = [payload["data"] for payload in payloads(engine)]
    assert told["level"]["confidence"] == "recalled"
    assert "水平值出处待核" in told["text_zh"]
    assert "The level is not confirmed." in told["text_en"]
    judge(engine, settings, line_id=plant.line_id)
    assert [(row["state"], row["reason"]) for row in alerts(engine)] == [("resolved", "level_is_recalled")]


def test_a_data_centre_is_judged_on_a_full_year(engine, settings):
    city.load_reference(engine)
    months = [date(2026, month, 1) for month in range(1, 13)]
    with engine.begin() as connection:
        connection.execute(text("UPDATE efficiency_level SET confidence = 'confirmed'"))
        centre = city.add_plant(connection, variant_key="data-centre-pue")
        power = city.add_point(connection, centre, "E1")
        for month in months:
            hours = city.use_month(connection, power, month, "160")  # 1.6 against a baseline of 1.5
            connection.execute(
                text(
                    "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)"
                    " VALUES (:l, 'it_electricity', 'month', :m, 1, :v, 'kWh', 'test')"
                ),
                {"l": centre.line_id, "m": month, "v": hours * 100},
            )
    bounds = calendar.month_bounds(months[0])[0], calendar.month_bounds(months[-1])[1]
    for now, told in ((bounds[1] - timedelta(hours=1), []), (bounds[1] + timedelta(days=9), ["2026"])):
        city.mark_account(engine, centre.kiln_id, *bounds)
        with engine.begin() as connection:
            stale.mark(connection, "benchmark", centre.line_id, *bounds, cause="month_closed")
        city.settle(engine, now)
        judge(engine, settings, now, line_id=centre.line_id)
        opened = [payload["data"] for payload in payloads(engine) if payload["type"] == "alert.opened"]
        assert [data["period"] for data in opened] == told
    (data,) = opened
    assert (data["rule"], data["actual"], data["baseline"]) == ("below_baseline", "1.6", "1.5")


def test_bad_data_opens_a_data_alert_after_it_has_lasted_and_never_a_violation(engine, settings, plant):
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "COAL", "raw_coal", "kg")
        city.use_month(connection, coal, OCT, "500", hours=600)
        city.report(connection, plant, OCT, "600")
    city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(OCT))
    city.settle(engine)
    judge(engine, settings)
    (found,) = alerts(engine)
    assert (found["kind"], found["state"]) == ("data_quality", "pending")
    assert payloads(engine) == []
    judge(engine, settings, NOW + timedelta(minutes=31), line_id=plant.line_id)
    (found,) = alerts(engine)
    assert (found["state"], found["reason"]) == ("open", "breach_confirmed")
    (body,) = payloads(engine)
    assert (body["data"]["severity"], body["data"]["measured_share"]) == ("data", "0.8065")
    assert "80.65 %" in body["data"]["text_zh"]


def test_history_that_completes_in_time_is_never_told(engine, settings, plant):
    with engine.begin() as connection:
        coal = city.add_point(connection, plant, "COAL", "raw_coal", "kg")
        city.use_month(connection, coal, OCT, "100", hours=300)
        city.report(connection, plant, OCT, "744")
    city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(OCT))
    city.settle(engine)
    judge(engine, settings)
    with engine.begin() as connection:
        city.use_month(connection, coal, OCT, "100")
    city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(OCT))
    city.settle(engine)
    judge(engine, settings, NOW + timedelta(minutes=1))
    (found,) = alerts(engine)
    assert (found["state"], found["reason"]) == ("resolved", "cleared_while_pending")
    assert payloads(engine) == []


def test_two_workers_never_open_two(engine, settings):
    city.load_reference(engine)
    with engine.begin() as connection:
        plants = [city.add_plant(connection, number) for number in range(1, 9)]
    for each in plants:
        city.over_baseline(engine, each, "170")
    with engine.begin() as connection:  # every line marked several times over
        for each in plants * 3:
            stale.mark(connection, "alert", each.line_id, NOW, NOW + timedelta(1), cause="clock")
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(judge, engine, settings) for _ in range(2)]:
            future.result()
    assert sorted(row["subject_id"] for row in alerts(engine)) == [each.line_id for each in plants]
    assert len(payloads(engine)) == len(plants)


# Silence of gateways


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
