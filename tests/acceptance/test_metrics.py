"""What Prometheus sees: the rules' metrics exist in live processes, and no label names a meter or an enterprise."""

import re
import urllib.request
from typing import Any

import pytest
import yaml

from tests.acceptance.installation import ROOT, Installation

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
LABELS = {
    *("le", "lane", "session", "reason", "result", "kind", "state", "stage", "method", "route", "status", "outcome"),
    *("generation", "implementation", "major", "minor", "patchlevel", "version"),
}
# Far above what fixed labels give, far below what one label per gateway and point would.
MOST_SERIES = 2000


@pytest.fixture(scope="module")
def pages(city: Installation) -> dict[str, str]:
    found = {"api": city.text("/metrics")}
    for name in ("worker-metrics", "ingest-1-metrics", "ingest-2-metrics"):
        with urllib.request.urlopen(f"http://127.0.0.1:{city.ports[name]}/metrics", timeout=10) as answer:
            found[name] = answer.read().decode()
    return found


def _series(page: str) -> list[tuple[str, list[str]]]:
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return [(re.split(r"[{ ]", line, maxsplit=1)[0], re.findall(r'(\w+)="', line)) for line in lines]


def test_every_metric_of_the_rules_is_there(pages: dict[str, str]) -> None:
    there = {re.sub(r"_(bucket|sum|count)$", "", name) for page in pages.values() for name, _ in _series(page)}
    there |= set(re.findall(r"^# TYPE (\w+)", "\n".join(pages.values()), re.MULTILINE))
    for rule in RULES:
        names = set(re.findall(r"nenghao_\w+", rule["expr"]))
        assert names
        assert names <= there, rule["alert"]


def test_no_label_names_a_gateway_a_point_or_an_enterprise(city: Installation, pages: dict[str, str]) -> None:
    everything = "\n".join(pages.values())
    for page in pages.values():
        series = _series(page)
        assert {label for _, labels in series for label in labels} <= LABELS
        assert len(series) < MOST_SERIES
    for item in city.get("/api/v1/enterprises?limit=5")["items"]:
        assert item["uscc"] not in everything
    assert "gw-clinker" not in everything


def test_every_alert_has_its_runbook() -> None:
    runbooks = (ROOT / "deploy" / "runbooks.md").read_text()
    for rule in RULES:
        page = runbooks.split(f"## {rule['alert']}\n", 1)[1].split("\n## ")[0]
        assert all(f"**{part}.**" in page for part in ("Meaning", "Impact", "Diagnosis", "Mitigation"))
        assert rule["annotations"]["runbook"].endswith("#" + rule["alert"].lower())
