"""The pages in a real browser: what people do on them, in both languages, on a desk and on a phone."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, text

from tests.browser import Browser, Page
from tests.integration.api_site import SEPTEMBER, Site, build
from tests.integration.served_site import served

PHONE = 390
# refresh.js waits 15 s; in the tests its clock runs 50 times as fast.
FASTER = "const wait = window.setInterval; window.setInterval = (f, ms) => wait(f, ms / 50);"


@pytest.fixture
def site(engine: Engine, database_url: str) -> Site:
    return build(engine, database_url)


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    with served(site.app) as found:
        yield found


@contextmanager
def visitor(
    browser: Browser, address: str, key: str | None, *, language: str = "en", width: int = 1280, script: str = ""
) -> Iterator[Page]:
    """A visitor who signed in; at the end nothing was complained of and no other host was asked."""
    with browser.page(width=width, language=language, script=script) as page:
        page.open(address + "/")
        if key is not None:
            page.write("#key", key)
            page.click(".sign-in button")
            page.wait_for("the overview", "document.querySelector('.figures')")
        yield page
        assert page.errors == []
        hosts = {urlsplit(url).netloc for url in page.requests if not url.startswith("data:")}
        assert hosts == {urlsplit(address).netloc}


def test_a_wrong_key_is_told_so_clearly(browser: Browser, address: str) -> None:
    with browser.page() as page:
        page.open(address + "/")
        page.write("#key", "nh_wrong")
        page.click(".sign-in button")
        page.wait_for("an error", "document.querySelector('[role=alert]')")
        assert page.text("[role=alert]") == "This key is not valid: it may be unknown, expired or revoked."
        assert page.evaluate("document.querySelector('.figures')") is None
        assert [error for error in page.errors if "401" not in error] == [], "a refused key is a 401, and no more"


def test_the_overview_shows_ratio_status_and_alert(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["regulator"]) as page:
        shown = page.text()
        for words in ("Cement-a", "Cement-b", "117.40", "1.1740", "Below baseline", "97.45 %"):
            assert words in shown, words
        assert page.text(".alerts").count("Cement-") == 2
        colours = page.evaluate(
            "[...document.querySelectorAll('td .status.below_baseline, td .status.at_benchmark')]"
            ".map(e => e.className + ' ' + getComputedStyle(e).color + getComputedStyle(e, '::before').content)"
        )
        assert {c for c in colours if "below_baseline" in c} == {'status below_baseline rgb(179, 38, 30)"▼ "'}


def test_an_alert_is_acknowledged_with_its_note(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["official-a"], language="zh") as page:
        page.click(f"a[href='/enterprises/{site.a.enterprise_id}']")
        page.wait_for_text(site.a.uscc)
        page.write(".acknowledge input", "已约谈企业，限期整改")
        page.click(".acknowledge button")
        page.wait_for_text("已确认: official-a")
        assert "已约谈企业，限期整改" in page.text(".alerts")
        assert page.evaluate("document.querySelector('.acknowledge')") is None, "an alert is acknowledged once"
    with site.engine.connect() as connection:
        row = connection.execute(
            text("SELECT state, acknowledge_note FROM alert WHERE id = :i"), {"i": site.a.alert_id}
        )
        assert row.one() == ("acknowledged", "已约谈企业，限期整改")


def test_the_language_is_switched_and_kept(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["operator"], language="zh") as page:
        assert "低于基准" in page.text()
        page.click("header a[lang=en]")
        page.wait_for_text("Below baseline")
        page.open(f"{address}/ranking?of=15&period=2026-09")
        page.wait_for_text("Below baseline")
        page.click("header a[lang=zh-CN]")
        page.wait_for_text("低于基准")
        assert page.evaluate("location.search") == "?of=15&period=2026-09&lang=zh", "the question is kept"


def test_an_official_of_one_district_never_sees_the_other(browser: Browser, site: Site, address: str) -> None:
    own, other = site.a, site.b
    pages = ("/", "/ranking?of=15&period=2026-09", "/key-units", "/data-quality", f"/enterprises/{own.enterprise_id}",
             f"/lines/{own.line_id}/2026-09", f"/points/{own.point_id}/2026-10")  # fmt: skip
    with visitor(browser, address, site.keys["official-a"]) as page:
        for path in pages:
            page.open(address + path)
            html = page.evaluate("document.documentElement.outerHTML")
            assert "Cement-a" in html, path
            for secret in ("Cement-b", "kiln-b", other.uscc, other.gateway_code, "222", "Jizhou"):
                assert secret not in html, (path, secret)
    with browser.page() as page:
        page.open(address + "/")
        page.write("#key", site.keys["official-a"])
        page.click(".sign-in button")
        page.wait_for("the overview", "document.querySelector('.figures')")
        for path in (f"/enterprises/{other.enterprise_id}", f"/lines/{other.line_id}/2026-09",
                     f"/points/{other.point_id}/2026-10", f"/?district={other.district_code}"):  # fmt: skip
            page.open(address + path)
            assert page.text("h1") == "Not found", path
            assert other.uscc not in page.text()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, site: Site, address: str, language: str) -> None:
    paths = ("/", "/ranking", "/ranking?of=15&period=2026-10", "/key-units", "/data-quality", "/docs",
             f"/enterprises/{site.a.enterprise_id}", f"/lines/{site.a.line_id}/2026-09",
             f"/points/{site.a.point_id}/2026-10", f"/points/{site.a.point_id}/2026-10-15")  # fmt: skip
    with visitor(browser, address, site.keys["regulator"], language=language, width=PHONE) as page:
        for path in paths:
            page.open(address + path)
            assert page.overflow_px() == 0, path
            assert page.evaluate("getComputedStyle(document.querySelector('main')).fontSize") == "15px", path
        page.resize(1280, 900)
        for path in paths:
            page.open(address + path)
            assert page.overflow_px() == 0, path


def test_the_documentation_of_a_phone_has_no_table_that_scrolls(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["regulator"], width=PHONE) as page:
        page.open(address + "/docs")
        page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        hidden = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert page.evaluate("document.querySelectorAll('.scroll').length") > 50
        assert page.evaluate(hidden) == 0
        shadow = page.evaluate("getComputedStyle(document.querySelector('pre')).backgroundAttachment")
        assert shadow == "local, local, scroll, scroll", "an example that is cut shows a shadow there"


def test_a_new_figure_appears_by_itself_and_a_note_being_written_stays(
    browser: Browser, site: Site, address: str
) -> None:
    with visitor(browser, address, site.keys["regulator"], script=FASTER) as page:
        page.evaluate("window.notReloaded = true")
        _set_actual(site, "103.25")
        page.wait_for_text("103.25")
        page.write(".acknowledge input", "half a sen")
        _set_actual(site, "104.75")
        before = len(page.requests)
        page.wait_for("three pauses", "new Promise(done => setTimeout(() => done(true), 900))")
        assert len(page.requests) == before, "nothing is fetched while somebody writes"
        assert page.evaluate("document.querySelector('.acknowledge input').value") == "half a sen"
        page.evaluate("(() => { const i = document.querySelector('.acknowledge input'); i.value = ''; i.blur(); })()")
        page.wait_for_text("104.75")
        assert page.evaluate("window.notReloaded") is True


LONG_NAMES = (
    "UPDATE enterprise SET name_en = 'Tianjin Chuanyunling Building Materials Co., Ltd.'",
    "UPDATE production_line SET name_en = 'Carbonation and calcination 1'",
    "UPDATE catalogue_variant SET product_en = 'membrane liquid caustic, mass fraction not under 30 %'",
)


def test_names_have_room_on_a_desk(browser: Browser, site: Site, address: str) -> None:
    with site.engine.begin() as connection:
        for statement in LONG_NAMES:
            connection.execute(text(statement))
    with visitor(browser, address, site.keys["regulator"]) as page:
        for path in ("/", "/ranking?of=15&period=2026-09", "/ranking?of=15&period=2026-10"):
            page.open(address + path)
            heights = page.evaluate("[...document.querySelectorAll('tr:has(td.head a)')].map(e => e.clientHeight)")
            assert len(heights) >= 2, path
            assert max(heights) <= 100, f"{path}: four lines of text and the padding"


def test_a_phone_shows_what_is_wrong_and_folds_the_rest(browser: Browser, site: Site, address: str) -> None:
    with site.engine.begin() as connection:
        better = text("UPDATE ratio SET status = 'between' WHERE line_id = :l")
        connection.execute(better, {"l": site.b.line_id})
    with visitor(browser, address, site.keys["regulator"], width=PHONE) as page:
        shown = page.text("main")
        assert shown.index("Lines below the baseline") < shown.index("Share of capacity")
        for name in ("share", "districts", "targets", "other-lines"):
            assert page.evaluate(f"document.querySelector('#{name} tbody').checkVisibility()") is False, name
            page.click(f"#{name} summary")
            assert page.evaluate(f"document.querySelector('#{name} tbody').checkVisibility()") is True, name
        assert page.overflow_px() == 0


def test_on_a_desk_nothing_is_folded(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["regulator"]) as page:
        folds = "[...document.querySelectorAll('details.fold')].map(e => e.lastElementChild.checkVisibility())"
        assert set(page.evaluate(folds)) == {True}


def test_the_period_of_the_share_that_was_asked_for_is_shown_on_a_phone(
    browser: Browser, site: Site, address: str
) -> None:
    with visitor(browser, address, site.keys["regulator"], width=PHONE) as page:
        page.click("#share summary")
        page.click("#share a[href$='year_to_date']")
        page.wait_for("the share of the year", "document.querySelector('#share a[aria-current][href$=year_to_date]')")
        assert page.evaluate("document.querySelector('#share table').checkVisibility()") is True


def test_what_was_unfolded_stays_so_when_the_page_renews_itself(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["regulator"], width=PHONE, script=FASTER) as page:
        page.click("#districts summary")
        _set_actual(site, "103.25")
        page.wait_for_text("103.25")
        states = "[...document.querySelectorAll('details.fold')].filter(e => e.open).map(e => e.id)"
        assert page.evaluate(states) == ["districts"]


def _set_actual(site: Site, actual: str) -> None:
    with site.engine.begin() as connection:
        change = text("UPDATE ratio SET actual = :a WHERE line_id = :l AND period = :m AND grain = 'month'")
        connection.execute(change, {"a": actual, "l": site.a.line_id, "m": SEPTEMBER})


def test_from_a_ratio_to_the_ranking_by_clicking(browser: Browser, site: Site, address: str) -> None:
    with visitor(browser, address, site.keys["regulator"]) as page:
        page.click("nav.menu a[href='/ranking']")
        page.wait_for_text("Cement-b")
        page.evaluate("document.querySelector('select[name=period]').value = '2026-10'")
        page.click(".ask button")
        page.wait_for_text("the month is not over")
        assert page.evaluate("document.querySelector('td.rank')") is None, "a provisional figure has no rank"
        page.open(f"{address}/ranking?of=15&period=2026-09")
        page.click(f"a[href='/lines/{site.b.line_id}/2026-09']")
        page.wait_for_text("How it is made")
        assert "Cement-b" in page.text()
