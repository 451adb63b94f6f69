"""The pages: signing in, what they show to whom, and that nothing comes from elsewhere."""

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.web import pages
from tests.integration.api_site import SEPTEMBER, Site, build

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
    assert "104,512.75" in page


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
