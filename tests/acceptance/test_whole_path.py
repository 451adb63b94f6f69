"""From a meter's register to a signed notice, on the program of `make run`, seen from outside."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.figures import months_ago, wait_until_figures_are_what_was_sent
from tests.acceptance.installation import Installation, wait_for
from tests.browser import Browser

MONTH = months_ago(1)


def _ratios(city: Installation) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = city.get(f"/api/v1/ratios?from_month={MONTH}&to_month={MONTH}")["items"]
    return items


def test_first_ratio_is_visible_within_a_minute(city: Installation) -> None:
    wait_for("the first ratio", lambda: "first ratio visible" in city.lines.read_text(), 60)
    seconds = re.search(r"first ratio visible (\d+) s", city.lines.read_text())
    assert seconds is not None
    assert int(seconds[1]) <= 60


def test_the_notice_of_the_clinker_line_says_what_an_official_needs(city: Installation) -> None:
    wait_for("a notice", lambda: city.folder.joinpath("notices.jsonl").exists(), 60)
    notices = [json.loads(line) for line in (city.folder / "notices.jsonl").read_text().splitlines()]
    assert {notice["outcome"] for notice in notices} == {"verified"}
    bodies = [json.loads(notice["body"]) for notice in notices]
    violations = [body["data"] for body in bodies if body["data"].get("rule") == "below_baseline"]
    assert len(violations) == 1
    data = violations[0]
    assert data["product_en"] == "cement clinker"
    assert data["period"] == MONTH
    assert data["level"]["confidence"] == "confirmed"
    assert (data["benchmark"], data["baseline"]) == ("100", "117")
    assert Decimal(data["actual"]) > 117
    assert Decimal(data["measured_share"]) > Decimal("0.9")
    assert data["enterprise"]["name_zh"]
    assert data["line"]["name_zh"]
    read = (city.folder / "logs" / "receiver.log").read_text()
    for words in (data["enterprise"]["name_zh"], data["line"]["name_zh"], "117", data["text_zh"], data["text_en"]):
        assert words in read


def test_lines_fall_into_every_status_and_recalled_levels_open_nothing(city: Installation) -> None:
    wait_for("all ratios", lambda: sum(1 for item in _ratios(city) if item["actual"]) >= 24, 60)
    ratios = _ratios(city)
    assert {item["status"] for item in ratios} == {"at_benchmark", "between", "below_baseline", "unknown"}
    recalled = [i for i in ratios if i["status"] == "below_baseline" and i["level_confidence"] == "recalled"]
    assert recalled
    open_lines = {
        alert["subject_id"]
        for alert in city.get("/api/v1/alerts?limit=200")["items"]
        if alert["rule"] == "below_baseline" and alert["state"] in ("open", "acknowledged")
    }
    assert open_lines.isdisjoint({item["line_id"] for item in recalled})
    converters = [item for item in ratios if "converter" in item["variant_key"]]
    assert converters
    assert all(Decimal(item["actual"]) < 0 for item in converters)


def test_usage_equals_what_the_gateways_sent(city: Installation) -> None:
    wait_until_figures_are_what_was_sent(city, 60)


def test_an_official_reads_the_violation_and_its_chain_in_a_browser(city: Installation, browser: Browser) -> None:
    wait_for("the violation", lambda: city.get("/api/v1/alerts?state=open&limit=1")["items"], 60)
    with browser.page(width=390, language="zh") as page:
        page.open(city.address)
        page.write("#key", city.key)
        page.click(".sign-in button")
        page.wait_for_text("劣于基准水平117 kgce/t")
        page.click(".alerts li.violation a[href^='/enterprises/']")
        page.wait_for_text("统一社会信用代码")
        page.click(f"td a[href$='/{MONTH}']")
        page.wait_for_text("由原始读数重新推导的结果与在册数据一致。", 30)
        assert "低于基准" in page.text()
        assert page.overflow_px() == 0
        assert page.errors == []


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics", "/health/live", "/health/ready"])
def test_pages_answer(city: Installation, path: str) -> None:
    assert len(city.text(path)) > 10
