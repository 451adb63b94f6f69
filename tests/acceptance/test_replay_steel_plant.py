"""A year of real meter readings goes through the real path and comes out to the last digit, three ways."""

import csv
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from tests.acceptance.installation import ROOT, Installation, wait_for

READINGS = ROOT.parent / "shared" / "data" / "steel_plant_2018_15min.csv"
YEAR_KWH = Decimal("959636.71")
INSTALLED = "2017-12-31T00:00:00+08:00"

pytestmark = pytest.mark.skipif(not READINGS.exists(), reason="the steel plant's readings are not beside this checkout")


def _months() -> dict[str, Decimal]:
    """The CSV's own month sums, kWh."""
    months: dict[str, Decimal] = defaultdict(Decimal)
    with READINGS.open() as file:
        for row in csv.DictReader(file):
            months[row["interval_start"][:7]] += Decimal(row["usage_kwh"])
    return dict(months)


def _registry() -> dict[str, object]:
    def point(code: str, signal: str) -> dict[str, object]:
        return {
            "code": code,
            "name_zh": "总进线",
            "name_en": "Main feeder",
            "carrier_key": "electricity",
            "signal": signal,
            "unit": "kWh",
            "installations": [{"from_at": INSTALLED, "serial": f"S-{code}", "multiplier": "1"}],
            "assignments": [{"from_at": INSTALLED, "process_unit": "plant", "flow": "in", "expected_interval_s": 900}],
        }

    points = [point("REGISTER", "register"), point("SHUFFLED", "register"), point("INTERVAL", "interval")]
    return {
        "enterprises": [
            {
                "uscc": "91120000000000001M",
                "name_zh": "回放钢厂",
                "name_en": "Replayed Steel Plant",
                "from_on": "2017-01-01",
                "district_code": "120110",
                "industry_code": "3120",
                "process_units": [{"code": "plant", "scope": 1, "name_zh": "全厂", "name_en": "Plant"}],
                "gateways": [{"code": "gw-replay", "points": points}],
            }
        ]
    }


@pytest.fixture(scope="module")
def password(city: Installation, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("replay")
    file, credentials = folder / "registry.yaml", folder / "credentials.json"
    file.write_text(yaml.safe_dump(_registry(), allow_unicode=True))
    city.command("nenghao", "registry", "import", str(file), "--credentials", str(credentials))
    return {g["code"]: g["password"] for g in json.loads(credentials.read_text())["gateways"]}["gw-replay"]


def _replay(city: Installation, password: str, point: str, *words: str) -> str:
    broker = str(city.ports["mosquitto"])
    gateway = ("--gateway", "gw-replay", "--password", password, "--point", point)
    return city.command("nenghao-sim", "replay", str(READINGS), *gateway, "--port", broker, *words).stdout


def _usage(city: Installation, point: str) -> dict[str, Decimal]:
    question = f"gateway=gw-replay&point={point}&grain=month&from=2018-01&to=2019-01"
    series = city.get(f"/api/v1/usage?{question}")["series"]
    steps = series[0]["steps"] if series else []
    return {step["start"][:7]: Decimal(step["quantity"]) for step in steps if step["quantity"] is not None}


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ("REGISTER", ()),
        ("REGISTER", ("--batch", "200")),  # a second time: nothing changes
        ("SHUFFLED", ("--shuffle", "7")),
        ("INTERVAL", ("--as", "interval")),
    ],
)
def test_every_month_is_exact(city: Installation, password: str, point: str, words: tuple[str, ...]) -> None:
    expected = _months()
    assert sum(expected.values()) == YEAR_KWH
    printed = _replay(city, password, point, *words)
    assert ("35,040" if point == "INTERVAL" else "35,041") in printed
    assert wait_for("the year's usage", lambda: _usage(city, point) == expected, 120)
    assert sum(_usage(city, point).values()) == YEAR_KWH
