"""The pages that tell where a figure comes from name meters, factors, level, receipts, edits, events and findings."""

from decimal import Decimal

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.db.access import KEY_COOKIE, create_key
from app.main import create_app
from app.settings import Settings
from app.web.pages import present
from tests.integration import explained_city
from tests.integration.explained_city import DAY, NOW, Explained

JSON = "/api/v1/explain/ratio"


@pytest.fixture
def made(engine: Engine) -> Explained:
    return explained_city.build(engine)


@pytest.fixture
def client(engine: Engine, database_url: str, made: Explained) -> TestClient:
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[present] = lambda: NOW
    with engine.begin() as connection:
        key = create_key(connection, "regulator", "regulator")
        connection.execute(
            text(
                "INSERT INTO point_event (point_id, kind, at, stated, actor, reason, recorded_at)"
                " VALUES (:p, 'replacement', :at, '{}', 'operator', 'meter failed', :at)"
            ),
            {"p": made.power_id, "at": explained_city.EXCHANGED},
        )
    return TestClient(app, cookies={KEY_COOKIE: key}, headers={"Accept-Language": "en"})


def test_a_ratio_is_told_down_to_its_meters(client: TestClient, made: Explained) -> None:
    answer = client.get(f"/lines/{made.plant.line_id}/2026-10")
    assert answer.status_code == 200
    shown = answer.text
    for words in (
        *("Derived again from the raw readings it is the same", "serial S1", "multiplier 80", "serial S2"),
        *("multiplier 120", "read from the meter", "meter replaced", "meter failed", "GB/T 2589-2020", "raw coal"),
        *("corrected", "24 readings", f"/points/{made.power_id}/2026-10", JSON),
    ):
        assert words in shown, words


def test_figures_of_the_page_are_those_of_the_api(client: TestClient, made: Explained) -> None:
    stored = client.get(f"{JSON}?line_id={made.plant.line_id}&period=2026-10").json()["stored"]
    assert f'title="{Decimal(stored["actual"]):,f}"' in client.get(f"/lines/{made.plant.line_id}/2026-10").text


def test_a_figure_that_was_tampered_with_is_told_so(client: TestClient, engine: Engine, made: Explained) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE ratio SET actual = actual + 1 WHERE grain = 'month'"))
    shown = client.get(f"/lines/{made.plant.line_id}/2026-10").text
    assert "it differs in: actual" in shown
    assert "it is the same as what is stored" not in shown
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE ratio SET windows_received = 1, is_provisional = NOT is_provisional WHERE grain = 'month'")
        )
    shown = client.get(f"/lines/{made.plant.line_id}/2026-10?lang=zh").text
    assert "不一致： 实际、暂定、实收时段" in shown
    assert "windows_received" not in shown


def test_the_chain_speaks_one_language_and_marks_what_is_cited_in_another(client: TestClient, made: Explained) -> None:
    english = client.get(f"/lines/{made.plant.line_id}/2026-10?lang=en").text
    assert "comprehensive energy per unit of product kgce/t" in english
    assert "单位产品综合能耗" not in english
    assert "guideline_default" not in english
    assert "default values of the accounting guidelines" in english
    chinese = client.get(f"/lines/{made.plant.line_id}/2026-10?lang=zh").text
    assert "核算指南缺省值" in chinese
    assert '出处: <span lang="en">' in chinese
    assert "guideline_default" not in chinese


def test_a_month_before_the_first_reading_is_empty_and_no_alarm(client: TestClient, made: Explained) -> None:
    shown = client.get(f"/lines/{made.plant.line_id}/2026-05").text
    assert "no reading was received and no output reported" in shown
    assert "it differs in" not in shown


def test_what_made_a_revision_is_said_in_words(client: TestClient, engine: Engine, made: Explained) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE figure_revision SET cause = 'month_closed + output + unheard_of'"))
    shown = client.get(f"/lines/{made.plant.line_id}/2026-10?lang=zh").text
    assert "起因: 月度结束 + 产量更正 + unheard_of" in shown


def test_a_day_of_a_point_is_told_down_to_receipts_and_edits(client: TestClient, made: Explained) -> None:
    month = client.get(f"/points/{made.power_id}/2026-10").text
    assert f"/points/{made.power_id}/{DAY}" in month
    day = client.get(f"/points/{made.power_id}/{DAY}").text
    for words in ("photo 17", "operator: read from the meter", "live e1/", "serial S1", "serial S2", "Two values of"):
        assert words in day, words
    assert day.count('<tr class="out">') == 3, "the overwritten reading and both of the dispute do not count"


@pytest.mark.parametrize("period", ["2026-13", "2026-02-30", "2026", "x"])
def test_a_period_that_does_not_exist_is_refused_as_a_page(client: TestClient, made: Explained, period: str) -> None:
    answer = client.get(f"/points/{made.power_id}/{period}", headers={"Accept": "text/html"})
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
