"""Figures by the API: exact decimals, explicit gaps, citations, rankings, CSV."""

import csv
import io
import time
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.api.usage import Usage
from tests.integration.api_site import NOW, SEPTEMBER, Site, build


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


def test_usage_stands_on_a_full_grid_with_nulls_and_an_exact_total(site: Site) -> None:
    answer = site.client("operator").get(
        "/api/v1/usage",
        params={"gateway": site.a.gateway_code, "point": "E001", "from": "2026-10-01", "to": "2026-10-05"},
    )
    usage = answer.json()
    Usage.model_validate(usage)
    (series,) = usage["series"]
    assert [step["quantity"] for step in series["steps"]] == ["0.1", None, "0.2", None]
    assert [step["start"] for step in series["steps"]][1:3] == ["2026-10-02", "2026-10-03"]
    assert (series["total"], series["unit"]) == ("0.3", "kWh")
    assert series["steps"][0] | {"start": ""} == {
        "start": "", "quantity": "0.1", "windows_expected": 96, "windows_received": 90, "windows_estimated": 6,
    }  # fmt: skip


def test_hours_are_written_in_business_time(site: Site) -> None:
    params = {
        "point_id": site.a.point_id,
        "grain": "hour",
        "from": "2026-10-01T08:00:00+08:00",
        "to": "2026-10-01T09:00:00+08:00",
    }
    (step,) = site.client("operator").get("/api/v1/usage", params=params).json()["series"][0]["steps"]
    assert (step["start"], step["quantity"]) == ("2026-10-01T08:00:00+08:00", "0.1")


def test_too_much_at_once_is_refused_with_the_limit(site: Site) -> None:
    params = {"point_id": site.a.point_id, "grain": "hour", "from": "2020-01-01", "to": "2026-01-01"}
    answer = site.client("operator").get("/api/v1/usage", params=params)
    assert (answer.status_code, answer.json()["limit"]) == (422, 50_000)


def test_energy_is_signed_and_names_what_has_no_factor(site: Site) -> None:
    answer = site.client("operator").get(
        "/api/v1/energy",
        params={"enterprise_id": site.a.enterprise_id, "grain": "month", "from": "2026-08", "to": "2026-11"},
    )
    energy = answer.json()
    total = energy["total"]
    assert (total["equivalent_kgce"], total["co2_kg"]) == ("222211", "222211")
    assert (total["equal_kgce"], total["carriers_without_equal_factor"]) == (None, ["electricity"])
    assert (total["factor_sets"], total["carriers_without_co2_factor"]) == (["set-1"], [])
    assert [step["equivalent_kgce"] for step in energy["steps"]] == [None, "111111", "111100"]
    assert [(c["flow"], c["equivalent_kgce"]) for c in energy["by_carrier"]] == [("in", "222222"), ("out", "11")]


def test_districts_sum_to_the_city(site: Site) -> None:
    client = site.client("regulator")
    districts = {d["code"]: d for d in client.get("/api/v1/districts").json()}
    summary = client.get("/api/v1/summary").json()
    assert len(districts) == 16
    assert districts["120110"]["energy_last_month"]["equivalent_tce"] == "111.111"
    assert summary["energy_last_month"]["equivalent_tce"] == "333.333"
    assert sum(d["enterprises"] for d in districts.values()) == summary["enterprises"] == 2
    assert summary["lines_by_status"] == {"at_benchmark": 0, "between": 0, "below_baseline": 2, "unknown": 0}
    assert (
        summary["gateways"],
        summary["gateways_online"],
        summary["windows_received_today"],
        summary["alerts_open"],
    ) == (
        2,
        2,
        180,
        2,
    )


def move(site: Site, on: date) -> None:
    """The first enterprise moves to the second one's district."""
    parameters = {"e": site.a.enterprise_id, "on": on}
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE enterprise_assignment SET to_on = :on WHERE enterprise_id = :e"), parameters)
        connection.execute(
            text(
                "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
                " VALUES (:e, :on, '120119', '3011')"
            ),
            parameters,
        )


def test_an_enterprise_that_moved_keeps_its_past_where_it_was(site: Site) -> None:
    move(site, date(2026, 10, 2))
    districts = {d["code"]: d for d in site.client("regulator").get("/api/v1/districts").json()}
    assert districts["120110"]["energy_last_month"]["equivalent_tce"] == "111.111"
    assert districts["120119"]["energy_this_month"]["equivalent_tce"] == "333.311"
    assert site.client("official-a").get(f"/api/v1/enterprises/{site.a.enterprise_id}").status_code == 404
    assert site.client("official-b").get(f"/api/v1/enterprises/{site.a.enterprise_id}").status_code == 200


def test_an_enterprise_that_will_move_stays_where_it_is_until_that_day(site: Site) -> None:
    move(site, date(2026, 10, 16))
    path = f"/api/v1/enterprises/{site.a.enterprise_id}"
    answer = site.client("official-a").get(path)
    assert (answer.status_code, answer.json()["district_code"]) == (200, "120110")
    assert site.client("official-b").get(path).status_code == 404
    site.app.dependency_overrides[api_now] = lambda: NOW + timedelta(days=1)
    assert site.client("official-a").get(path).status_code == 404
    answer = site.client("official-b").get(path)
    assert (answer.status_code, answer.json()["district_code"]) == (200, "120119")


def test_a_ratio_cites_its_level_and_says_what_was_measured(site: Site) -> None:
    params = {"line_id": site.a.line_id, "from_month": "2026-09", "to_month": "2026-09"}
    (row,) = site.client("operator").get("/api/v1/ratios", params=params).json()["items"]
    assert (row["actual"], row["ratio"], row["status"]) == ("117.4", "1.174", "below_baseline")
    assert row["level_source"]
    assert row["level_confidence"] in {"confirmed", "recalled"}
    assert (row["measured_share"], row["estimated_share"]) == ("0.9745", "0.0255")


def test_provisional_figures_are_left_out_of_the_ranking_with_the_reason(site: Site) -> None:
    client = site.client("regulator")
    with site.engine.begin() as connection:
        connection.execute(
            text("UPDATE ratio SET actual = 99, position = 18.0/17, ratio = 0.99 WHERE line_id = :l AND period = :m"),
            {"l": site.b.line_id, "m": SEPTEMBER},
        )
    september = client.get("/api/v1/ranking", params={"month": "2026-09", "domain": 15}).json()
    assert [(row["rank"], row["line_id"]) for row in september["ranked"]] == [(1, site.b.line_id), (2, site.a.line_id)]
    october = client.get("/api/v1/ranking", params={"month": "2026-10", "domain": 15}).json()
    assert (october["ranked"], {row["left_out_because"] for row in october["left_out"]}) == ([], {"month_open"})
    assert client.get("/api/v1/ranking", params={"month": "2026-10"}).status_code == 422


def test_csv_opens_in_excel_and_runs_nothing(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE enterprise SET name_zh = '=cmd()' WHERE id = :e"), {"e": site.a.enterprise_id})
    answer = site.client("operator").get(
        "/api/v1/ratios", params={"format": "csv", "excel": "true", "line_id": site.a.line_id}
    )
    assert answer.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert {row["enterprise_name_zh"] for row in rows} == {"'=cmd()"}
    assert rows[0]["position"].startswith("-0.02352941")
    ranking = site.client("operator").get("/api/v1/ranking", params={"format": "csv", "month": "2026-09", "domain": 15})
    assert len(ranking.text.splitlines()) == 3
    usage = site.client("operator").get(
        "/api/v1/usage", params={"format": "csv", "point_id": site.a.point_id, "from": "2026-10-01", "to": "2026-10-03"}
    )
    assert usage.text.splitlines()[2].endswith("2026-10-02,,,,")


def test_pages_follow_each_other_without_loss_or_repetition(site: Site) -> None:
    client, seen, cursor = site.client("operator"), [], None
    for _ in range(3):
        page = client.get("/api/v1/enterprises", params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        seen += [row["id"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [site.a.enterprise_id, site.b.enterprise_id]
    assert client.get("/api/v1/enterprises", params={"cursor": "bogus"}).status_code == 422


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"district": "120110"}, 1), ({"industry": "30"}, 2), ({"industry": "31"}, 0), ({"search": "CEMENT-B"}, 1),
        ({"search": "91120000MA00000a"}, 1), ({"status": "below_baseline"}, 2), ({"status": "at_benchmark"}, 0),
    ],
)  # fmt: skip
def test_enterprise_filters(site: Site, params: dict[str, str], count: int) -> None:
    assert len(site.client("operator").get("/api/v1/enterprises", params=params).json()["items"]) == count


def test_an_enterprise_shows_its_points_with_the_last_reading(site: Site) -> None:
    found = site.client("operator").get(f"/api/v1/enterprises/{site.a.enterprise_id}").json()
    (point,) = found["points"]
    assert (point["last_value"], point["last_reading_at"], point["multiplier"]) == (
        "104512.75",
        "2026-10-15T12:15:00+08:00",
        "80",
    )
    assert [line["period"] for line in found["lines"]] == ["2026-09-01"]
    assert found["gateways"][0]["is_online"] is True


def test_a_line_never_computed_is_unknown_and_never_at_benchmark(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("DELETE FROM ratio WHERE line_id = :l"), {"l": site.a.line_id})
    (line,) = site.client("operator").get(f"/api/v1/enterprises/{site.a.enterprise_id}").json()["lines"]
    assert (line["status"], line["reason"], line["period"]) == ("unknown", "not_computed", None)


def test_quarantine_receipts_and_release(site: Site) -> None:
    client = site.client("operator")
    page = client.get("/api/v1/quarantine").json()
    assert [(r["reason"], r["items"], r["waiting"]) for r in page["by_reason"]] == [("unknown_point", 2, 2)]
    assert page["items"][0]["raw_head"] == '{"point": "E009"}\ufffd\ufffd'
    released = client.post("/api/v1/quarantine/release", json={"gateway_code": site.a.gateway_code})
    assert (released.status_code, released.json()["requested"], released.json()["pending"]) == (202, 1, 1)
    with site.engine.begin() as connection:  # the rest of the readings of a row count one by one
        connection.execute(text("UPDATE quarantine SET item_count = 96 WHERE release_requested_at IS NULL"))
    page = client.get("/api/v1/quarantine").json()
    assert [(r["items"], r["waiting"]) for r in page["by_reason"]] == [(97, 97)]
    assert sorted(item["item_count"] for item in page["items"]) == [1, 96]
    released = client.post("/api/v1/quarantine/release", json={"reason": "unknown_point"})
    assert (released.json()["requested"], released.json()["pending"]) == (96, 97)
    assert client.post("/api/v1/quarantine/release", json={}).status_code == 422
    receipts = client.get(
        "/api/v1/receipts", params={"gateway": site.a.gateway_code, "epoch": "e1", "seq": 7, "lane": "live"}
    )
    assert [(r["seq"], r["rejected"]) for r in receipts.json()["items"]] == [(7, [{"index": 1}])]
    assert receipts.json()["counts"][0]["rejected"] == 1


def test_an_alert_is_acknowledged_once_and_the_audit_tells(site: Site) -> None:
    path = f"/api/v1/alerts/{site.a.alert_id}/acknowledge"
    first = site.client("official-a").post(path, json={"note": "已联系"})
    assert (first.status_code, first.json()["state"], first.json()["acknowledged_by"]) == (
        200,
        "acknowledged",
        "official-a",
    )
    again = site.client("regulator").post(path, json={"note": "again"})
    assert (again.status_code, again.json()["acknowledged_by"]) == (409, "official-a")
    (entry,) = site.client("operator").get("/api/v1/audit", params={"actor": "official-a"}).json()["items"]
    assert (entry["action"], entry["subject"], entry["detail"]) == (
        "alert.acknowledge", f"alert/{site.a.alert_id}", {"note": "已联系"},
    )  # fmt: skip


def test_an_alert_that_is_still_held_back_is_not_acknowledged(site: Site) -> None:
    """Acknowledged, it would never be told: nobody else would hear of the matter."""
    with site.engine.begin() as connection:
        connection.execute(
            text("UPDATE alert SET state = 'pending', opened_at = NULL WHERE id = :id"), {"id": site.a.alert_id}
        )
    answer = site.client("official-a").post(f"/api/v1/alerts/{site.a.alert_id}/acknowledge", json={"note": "seen"})
    assert (answer.status_code, "not open yet" in answer.json()["detail"]) == (409, True)
    assert site.client("operator").get(f"/api/v1/alerts/{site.a.alert_id}").json()["state"] == "pending"


def test_receipts_are_listed_by_commit_whatever_ids_their_writers_drew(site: Site) -> None:
    """Each writer draws a thousand ids ahead, so that those of two writers are no order in time."""
    with site.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO receipt (id, gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted,"
                " duplicate, disputed, received_at, committed_at)"
                " SELECT m.id, g.id, 'e1', 0, m.seq, '', '', 1, 0, 0, m.at, m.at"
                " FROM gateway g, (VALUES (5001, 8, CAST(:now AS timestamptz) + interval '1 minute'),"
                " (4001, 9, :now + interval '2 minutes'), (5002, 10, :now + interval '2 minutes'),"
                " (4002, 11, :now + interval '3 minutes')) AS m (id, seq, at) WHERE g.code = :gateway"
            ),
            {"now": NOW, "gateway": site.a.gateway_code},
        )
    seqs, cursor = [], None
    while True:
        params = {"gateway": site.a.gateway_code, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = site.client("operator").get("/api/v1/receipts", params=params).json()
        seqs += [row["seq"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seqs == [11, 10, 9, 8, 7]


def test_a_test_notice_takes_the_way_of_every_notice(site: Site) -> None:
    client = site.client("operator")
    made = client.post("/api/v1/endpoints", json={"name": "new", "url": "https://new.example/in"})
    assert (made.status_code, made.json()["secret"].startswith("whsec_")) == (201, True)
    assert made.json()["secret"] not in client.get("/api/v1/endpoints").text
    sent = client.post(f"/api/v1/endpoints/{made.json()['id']}/test")
    assert sent.status_code == 202
    (delivery,) = client.get("/api/v1/deliveries", params={"endpoint_id": made.json()["id"]}).json()["items"]
    assert (delivery["id"], delivery["state"], delivery["kind"]) == (
        sent.json()["delivery_id"],
        "pending",
        "endpoint.test",
    )
    off = client.patch(f"/api/v1/endpoints/{made.json()['id']}", json={"is_enabled": False, "reason": "away"})
    assert off.json()["disabled_reason"] == "away"
    assert client.post("/api/v1/endpoints/99999/test").status_code == 404


def test_a_month_of_days_of_many_points_costs_little_beside_its_query(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(
            text(
                "WITH made AS (INSERT INTO point (gateway_id, code, carrier_key, signal, unit) SELECT g.id, 'P' || n,"
                " 'electricity', 'register', 'kWh' FROM gateway g, generate_series(1, 200) n WHERE g.code = :g"
                " RETURNING id)"
                " INSERT INTO usage_day SELECT made.id, day::date, 1.5, 96, 96, 0 FROM made,"
                " generate_series('2026-09-01'::date, '2026-09-30', '1 day') day"
            ),
            {"g": site.b.gateway_code},
        )
    params = {"gateway": site.b.gateway_code, "from": "2026-09-01", "to": "2026-10-01"}
    client = site.client("operator")
    client.get("/api/v1/usage", params=params)
    started = time.perf_counter()
    answer = client.get("/api/v1/usage", params=params)
    seconds = time.perf_counter() - started
    assert sum(len(series["steps"]) for series in answer.json()["series"]) == 201 * 30
    assert seconds < 1.0, f"{seconds:.3f} s for 6,030 values"
