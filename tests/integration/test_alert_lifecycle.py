"""Alerts on the real database: one per matter, told once, with the notice in the same transaction."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from sqlalchemy import text

from app.db import stale
from app.domain import calendar
from app.pipeline import account, benchmark
from app.settings import Settings
from tests.integration import accounting_city as city
from tests.integration.alert_site import NOW, alerts, endpoint, judge, payloads, table

OCT = date(2026, 10, 1)


@pytest.fixture
def settings(database_url):
    return Settings(database_url=database_url, public_url="https://energy.example/")


@pytest.fixture
def plant(engine):
    city.load_reference(engine)
    with engine.begin() as connection:
        return city.add_plant(connection)


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
        "（标杆水平100 kgce/t，2021/2023）。实测100.00 %，估算0.00 %，缺失0.00 %。"
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
        "status": "below_baseline", "figure_reason": None, "level": {"edition": "2021/2023", "confidence": "confirmed"},
        "measured_share": "1.0000", "estimated_share": "0.0000", "missing_share": "0.0000",
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
    told, ended = resolved["data"], resolved["data"].pop("resolution")
    assert told["text_zh"].startswith(
        "已解除：东丽区第1水泥厂一号窑2026-10指标已变化，不再劣于基准水平。"
        "2026-10能耗现为100.38 kgce/t（基准水平117 kgce/t）"
    )
    assert told["text_zh"].endswith("原告警：" + opened["data"]["text_zh"])
    assert "2026-10 is now 100.38 kgce/t" in told["text_en"]
    assert {**told, "text_zh": "", "text_en": ""} == {**opened["data"], "text_zh": "", "text_en": ""}
    present = ended["present"]
    assert (ended["reason"], present["period"], present["status"]) == ("no_longer_in_breach", "2026-10", "between")
    assert (present["actual"], present["baseline"], present["measured_share"]) == ("100.38296", "117", "1.0000")
    assert found["facts"]["resolution"] == ended
    assert found["facts"]["actual"] == opened["data"]["actual"]


def test_another_edition_of_the_level_resolves_it_and_is_named_as_the_reason(engine, settings, plant):
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    with engine.begin() as connection:
        connection.execute(text("UPDATE efficiency_level SET baseline = 130 WHERE baseline = 117"))
        stale.mark(connection, "benchmark", plant.line_id, *calendar.month_bounds(OCT), cause="edition")
    city.settle(engine)
    judge(engine, settings, NOW + timedelta(hours=1))
    _, resolved = payloads(engine)
    assert alerts(engine)[0]["reason"] == resolved["data"]["resolution"]["reason"] == "level_changed"
    assert "所比的基准水平已改变（原为117）" in resolved["data"]["text_zh"]
    assert resolved["data"]["baseline"] == "117"
    assert resolved["data"]["resolution"]["present"]["baseline"] == "130"


def test_a_figure_that_is_gone_resolves_it(engine, settings, plant):
    city.over_baseline(engine, plant, "170")
    judge(engine, settings)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ratio SET actual = NULL, ratio = NULL, position = NULL, status = 'unknown',"
                                " reason = 'no_output'"))  # fmt: skip
    judge(engine, settings, NOW + timedelta(hours=1), line_id=plant.line_id)
    _, resolved = payloads(engine)
    ended = resolved["data"]["resolution"]
    assert (ended["reason"], ended["present"]["actual"], ended["present"]["figure_reason"]) == (
        "basis_withdrawn", None, "no_output"
    )  # fmt: skip
    assert "已无可判定的指标值。原告警" in resolved["data"]["text_zh"]


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
    assert found["facts"]["resolution"]["present"]["actual"] == "121.431"


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
