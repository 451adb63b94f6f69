"""The pages: signing in, what they show to whom, and that nothing comes from elsewhere."""

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.db import engine as engine_module
from app.main import create_app
from app.settings import Settings
from app.web import pages
from deploy.local.ports import free_port
from tests.integration.api_site import SEPTEMBER, Site, Tenant, build

SAME_SITE = {"Origin": "http://testserver"}


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


def signed_in(site: Site, who: str) -> TestClient:
    client = site.client()
    answer = client.post("/sign-in", data={"key": site.keys[who]}, headers=SAME_SITE, follow_redirects=False)
    assert answer.status_code == 303
    return client


def test_a_key_opens_the_page_by_a_cookie_that_scripts_and_other_sites_cannot_use(site: Site) -> None:
    client = site.client()
    assert 'action="/sign-in"' in client.get("/").text
    answer = client.post("/sign-in", data={"key": site.keys["operator"]}, headers=SAME_SITE, follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "kiln-a" in client.get("/").text
    client.post("/sign-out", headers=SAME_SITE)
    assert "kiln-a" not in client.get("/").text


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}])
def test_forms_of_other_sites_are_refused(site: Site, headers: dict[str, str]) -> None:
    answer = site.client().post("/sign-in", data={"key": site.keys["operator"]}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("who", [None, "gateway"])
def test_a_key_that_opens_nothing_is_told_so(site: Site, who: str | None) -> None:
    key = site.keys[who] if who else "nh_wrong"
    answer = site.client().post("/sign-in", data={"key": key}, headers=SAME_SITE)
    assert (answer.status_code, 'role="alert"' in answer.text) == (401, True)


def test_the_overview_shows_totals_lines_and_alerts_in_both_languages(site: Site) -> None:
    client = signed_in(site, "regulator")
    chinese = client.get("/?lang=zh").text
    for shown in ("333.33", "低于基准", "117.40", "1.1740", "97.45 %", "水泥厂a", "水泥厂b", "产线 kiln-a"):
        assert shown in chinese, shown
    english = client.get("/?lang=en").text
    assert "Below baseline" in english
    assert "Cement-a" in english
    assert "Below baseline" in client.get("/").text, "the chosen language is remembered"


def test_recalled_levels_are_marked(site: Site) -> None:
    client = signed_in(site, "regulator")
    with site.engine.begin() as connection:
        change = text("UPDATE ratio SET level_confidence = :c WHERE line_id = :l AND period = :m")
        connection.execute(change, {"c": "confirmed", "l": site.b.line_id, "m": SEPTEMBER})
        connection.execute(change, {"c": "recalled", "l": site.a.line_id, "m": SEPTEMBER})
    assert client.get("/?lang=zh").text.count(">水平值出处待核<") == 1


def test_a_district_sees_its_own_pages_only(site: Site) -> None:
    for who, own, other in (("official-a", site.a, site.b), ("enterprise-b", site.b, site.a)):
        client = signed_in(site, who)
        overview = client.get("/").text
        assert f"kiln-{own.letter}" in overview
        assert f"kiln-{other.letter}" not in overview
        assert own.uscc in client.get(f"/enterprises/{own.enterprise_id}").text
        refused = client.get(f"/enterprises/{other.enterprise_id}", headers={"Accept": "text/html"})
        assert (refused.status_code, refused.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert other.uscc not in refused.text


def _scoped(tenant: Tenant) -> tuple[str, ...]:
    return (
        *("/ranking?of=15&period=2026-09", "/ranking?of=ndrc723-15-cement-clinker&period=2025", "/key-units"),
        *("/data-quality", f"/lines/{tenant.line_id}/2026-09", f"/points/{tenant.point_id}/2026-10"),
    )


@pytest.mark.parametrize("who", ["official-a", "enterprise-a", "official-b", "enterprise-b"])
def test_every_page_shows_what_its_caller_may_see_and_no_more(site: Site, who: str) -> None:
    own, other = (site.a, site.b) if who.endswith("a") else (site.b, site.a)
    client = signed_in(site, who)
    for path in _scoped(own):
        shown = client.get(path).text
        assert f"Cement-{own.letter}" in shown, path
        for secret in (f"Cement-{other.letter}", f"kiln-{other.letter}", other.uscc, other.gateway_code):
            assert secret not in shown, (path, secret)
    for path in _scoped(other)[-2:]:
        refused = client.get(path, headers={"Accept": "text/html"})
        assert (refused.status_code, f"Cement-{other.letter}" in refused.text) == (404, False), path


def test_a_district_is_a_cut_of_the_city_and_no_way_into_another_one(site: Site) -> None:
    client = signed_in(site, "regulator")
    assert f'href="/?district={site.a.district_code}"' in client.get("/").text
    cut = client.get(f"/?district={site.a.district_code}").text
    assert "Cement-a" in cut
    assert "Cement-b" not in cut
    own = signed_in(site, "official-a")
    assert own.get(f"/?district={site.b.district_code}").status_code == 404
    assert own.get(f"/?district={site.a.district_code}").status_code == 200
    assert signed_in(site, "enterprise-a").get(f"/?district={site.b.district_code}").status_code == 404
    assert client.get("/?district=999999").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/ranking", "/key-units", "/data-quality", "/lines/1/2026-09", "/points/1/2026-10"]
)
def test_without_a_key_every_page_is_the_sign_in_form(site: Site, path: str) -> None:
    shown = site.client().get(path).text
    assert 'action="/sign-in"' in shown
    assert "kiln-" not in shown


def test_the_overview_shows_share_of_capacity_targets_and_findings(site: Site) -> None:
    client = signed_in(site, "regulator")
    shown = client.get("/").text
    for words in ("Share of capacity at the benchmark", "more than 30 %", "target not met", "0 / 10,000", "overdue 2",
                  "no energy statistics"):  # fmt: skip
        assert words in shown, words
    months = client.get("/?share=rolling_12_months").text
    assert "provisional, not counted as reached: 2" in months, "eleven months are missing"
    assert "Progress towards" not in signed_in(site, "enterprise-a").get("/").text


def test_the_overview_says_which_enterprises_it_counts(site: Site) -> None:
    client = signed_in(site, "regulator")
    with site.engine.begin() as connection:
        connection.execute(text("DELETE FROM key_unit_list"))
    shown = client.get("/?lang=en").text
    assert "<dt>Registered enterprises</dt><dd>2</dd>" in shown
    assert "Key enterprises" not in shown
    assert "<dt>已登记企业</dt><dd>2</dd>" in client.get("/?lang=zh").text


def test_newer_alerts_of_the_data_never_push_a_violation_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ALERTS_SHOWN", 1)
    client = signed_in(site, "regulator")
    with site.engine.begin() as connection:
        newer = "UPDATE alert SET rule_id = (SELECT id FROM rule WHERE severity = 'data' LIMIT 1) WHERE id = :a"
        connection.execute(text(newer), {"a": max(site.a.alert_id, site.b.alert_id)})
    shown = client.get("/").text
    assert shown.index('<li class="violation">') < shown.index('id="other-alerts"') < shown.index('<li class="data">')


def test_capacities_in_two_units_are_explained(site: Site) -> None:
    client = signed_in(site, "regulator")
    assert "units are not added together" not in client.get("/").text
    with site.engine.begin() as connection:
        other = text("UPDATE output SET unit = 't' WHERE line_id = :l AND kind = 'capacity'")
        connection.execute(other, {"l": site.b.line_id})
    shown = client.get("/").text
    assert shown.count(">cement clinker</a></td>") == 2
    assert "units are not added together" in shown
    assert "不相加" in client.get("/?lang=zh").text


def test_a_share_that_rests_on_recalled_levels_says_so(site: Site) -> None:
    client = signed_in(site, "regulator")
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE ratio SET level_confidence = 'confirmed'"))
    assert "by a level not confirmed" not in client.get("/").text
    with site.engine.begin() as connection:
        change = text("UPDATE ratio SET level_confidence = 'recalled' WHERE line_id = :l")
        connection.execute(change, {"l": site.a.line_id})
    assert "lines by a level not confirmed: 1" in client.get("/").text


def test_the_ranking_shows_peers_distance_and_who_is_left_out_with_the_reason(site: Site) -> None:
    client = signed_in(site, "regulator")
    chosen = client.get("/ranking").text
    assert "<option selected>2026-09</option>" in chosen, "the last month that is over"
    for words in ("Median", "17.40 <small>tce", "34.80 <small>tce", 'href="/lines/'):
        assert words in chosen, words
    left_out = client.get("/ranking?of=15&period=2026-10").text
    assert left_out.count("the month is not over") == 2
    assert client.get("/ranking?of=15&period=2026-Q3").status_code == 200
    for period in ("2026-13", "2026-Q5", "0000", "x"):
        refused = client.get(f"/ranking?of=15&period={period}", headers={"Accept": "text/html"})
        assert (refused.status_code, "2026-Q3" in refused.text) == (422, True), period


def test_key_units_show_their_post_and_their_budget_against_time(site: Site) -> None:
    client = signed_in(site, "regulator")
    shown = client.get("/key-units").text
    for words in ("10,000 tce", "document of a", "held", "25,000 <small>tce", "through 2026-10-14"):
        assert words in shown, words
    with site.engine.begin() as connection:
        end = text("UPDATE energy_manager SET expires_on = '2026-09-30' WHERE enterprise_id = :e")
        connection.execute(end, {"e": site.a.enterprise_id})
    shown = client.get("/key-units").text
    assert "Posts not held: 1" in shown
    assert shown.index("expired") < shown.index(">held<"), "those that are not held come first"
    assert "No budget was entered for this year." in client.get("/key-units?year=2024").text


def test_data_quality_shows_the_clock_and_silent_gateways(site: Site) -> None:
    client = signed_in(site, "regulator")
    shown = client.get("/data-quality").text
    assert shown.count("overdue 2026-10-10") == 2
    assert "Every gateway is online." in shown
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE finding SET due_on = '2026-10-16' WHERE id = :f"), {"f": site.a.finding_id})
        connection.execute(text("UPDATE finding SET due_on = NULL WHERE id = :f"), {"f": site.b.finding_id})
        off = text("UPDATE gateway_state SET is_online = false FROM gateway g WHERE g.id = gateway_id AND g.code = :c")
        connection.execute(off, {"c": site.b.gateway_code})
    shown = client.get("/data-quality").text
    for words in ("due 2026-10-16", "clock not started", f"<code>{site.b.gateway_code}</code>", "offline"):
        assert words in shown, words
    assert "overdue 2026" not in shown


def test_an_official_acknowledges_on_the_page(site: Site) -> None:
    client = signed_in(site, "official-a")
    path = f"/alerts/{site.a.alert_id}/acknowledge"
    assert path in client.get("/").text
    assert client.post(path, data={"note": "x"}).status_code == 403, "not from a page of this service"
    answer = client.post(path, data={"note": "已联系企业"}, headers=SAME_SITE)
    assert answer.status_code == 200
    assert "已联系企业" in answer.text
    assert path not in answer.text
    assert (
        client.post(f"/alerts/{site.b.alert_id}/acknowledge", data={"note": "x"}, headers=SAME_SITE).status_code == 404
    )
    enterprise = signed_in(site, "enterprise-b")
    refused = enterprise.post(f"/alerts/{site.b.alert_id}/acknowledge", data={"note": "x"}, headers=SAME_SITE)
    assert refused.status_code == 403


def test_what_comes_from_the_registry_is_text_and_never_markup(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE enterprise SET name_zh = '<script>alert(1)</script>'"))
    client = signed_in(site, "regulator")
    for path in ("/?lang=zh", f"/enterprises/{site.a.enterprise_id}"):
        assert "<script>alert" not in client.get(path).text


def test_an_enterprise_shows_its_days_with_gaps(site: Site) -> None:
    page = signed_in(site, "operator").get(f"/enterprises/{site.a.enterprise_id}?lang=zh").text
    assert page.count('class="day"') == pages.DAYS_SHOWN
    assert 'class="gap"' in page
    assert "104,512.75 <small>kWh × 80</small>" in page, "a register is worth its multiplier"
    assert '<td data-label="能源品种">电力</td>' in page
    assert "左刻度为基准" in page, "a phone shows no titles: the track is explained on the page"


def test_units_and_indicators_are_words_of_the_page(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE point SET unit = 't water'"))
    client = signed_in(site, "operator")
    path = f"/enterprises/{site.a.enterprise_id}"
    assert "t（水）" in client.get(f"{path}?lang=zh").text
    assert "t (water)" in client.get(f"{path}?lang=en").text
    overview = client.get("/?lang=en").text
    assert 'title="comprehensive energy per unit of product"' in overview
    assert "单位产品综合能耗" not in overview


def test_the_page_of_a_problem_shows_code_as_code(site: Site) -> None:
    assert "<code>errors</code> lists every" in site.client().get("/problems/invalid").text
    assert "<code>errors</code> 逐条列出" in site.client(language="zh").get("/problems/invalid").text


@pytest.mark.parametrize(
    "path", ["/", "/enterprises/{}", "/ranking", "/key-units", "/data-quality", "/docs", "/problems/invalid"]
)
def test_pages_load_nothing_from_elsewhere_and_carry_nothing_inline(site: Site, path: str) -> None:
    client = signed_in(site, "operator")
    page = client.get(path.format(site.a.enterprise_id)).text
    assert not re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", page)
    assert not re.findall(r"<style|style=|<script(?![^>]* src=)|\son\w+=", page)
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert client.get(name).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/problems/invalid", "/nowhere", "/ranking?period=x", "/enterprises/999999"])
def test_who_is_signed_in_keeps_the_menu_on_documents_and_errors(site: Site, path: str) -> None:
    shown = signed_in(site, "regulator").get(path, headers={"Accept": "text/html"}).text
    for words in ('class="menu"', 'href="/key-units"', 'action="/sign-out"', "regulator"):
        assert words in shown, words
    assert 'class="menu"' not in site.client().get(path, headers={"Accept": "text/html"}).text


def test_the_documentation_shows_code_as_code(site: Site) -> None:
    shown = site.client().get("/docs").text
    assert "<code>Retry-After</code> says" in shown
    assert "`" not in re.sub(r"<pre>.*?</pre>", "", shown, flags=re.S)


def test_the_documentation_needs_no_database() -> None:
    url = f"postgresql://nobody:x@127.0.0.1:{free_port()}/none"
    engine = engine_module.create(url)
    client = TestClient(create_app(Settings(database_url=url), engine), cookies={pages.KEY_COOKIE: "nh_x"})  # type: ignore[arg-type]
    assert client.get("/docs").status_code == 200
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 503
    engine.dispose()


def test_problems_are_told_in_the_language_of_the_reader(site: Site) -> None:
    client = site.client()
    for slug, english, chinese in (
        ("too-many-requests", "has used up its requests", "请求次数已用完"),
        ("not-found", "There is no such thing", "没有此内容"),
    ):
        assert english in client.get(f"/problems/{slug}?lang=en").text
        shown = client.get(f"/problems/{slug}?lang=zh").text
        assert chinese in shown
        assert english not in shown
    for problem in client.get("/openapi.json").json()["x-problems"]:
        assert not problem["description_zh"].isascii(), problem["slug"]
    assert len({problem["description_zh"] for problem in client.get("/openapi.json").json()["x-problems"]}) == 11


def test_the_page_of_a_breach_names_it_in_the_language_chosen_on_the_page(site: Site) -> None:
    client = signed_in(site, "regulator")
    client.get("/?lang=zh")  # remembered in the cookie; the browser still says English
    shown = client.get("/key-units?year=x", headers={"Accept": "text/html"}).text
    assert "<code>query.year</code>: 应为整数" in shown
    english = client.get("/key-units?year=x&lang=en", headers={"Accept": "text/html"}).text
    assert "<code>query.year</code>: must be a whole number" in english


def test_only_listed_files_are_served(site: Site) -> None:
    for name in ("pages.py", "..%2Fpages.py", "%2e%2e/pages.py"):
        assert site.client().get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"), [("/nowhere", 404), ("/enterprises/x", 422), ("/problems/unheard-of", 404)]
)
def test_a_browser_gets_its_errors_as_pages(site: Site, path: str, status: int) -> None:
    answer = site.client().get(path, headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert site.client().get(path).headers["content-type"] == "application/problem+json"
