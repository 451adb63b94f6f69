"""Whatever a gateway sends, the process lives, good readings are kept, and every refusal can be read and counted."""

import json
import re
import types
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.device import Device
from tests.acceptance.installation import Installation, wait_for
from tests.bench.accounts import open_account

NOW = datetime.now(UTC).replace(microsecond=0)
INSTALLED = "2025-01-01T00:00:00+08:00"


def _point(code: str) -> dict[str, Any]:
    return {
        "code": code,
        "carrier_key": "electricity",
        "signal": "register",
        "unit": "kWh",
        "installations": [{"from_at": INSTALLED, "serial": f"S-{code}", "multiplier": "10"}],
        "assignments": [{"from_at": INSTALLED, "process_unit": "plant", "flow": "in"}],
    }


def _register(city: Installation, folder: Path, *codes: str) -> dict[str, str]:
    file, credentials = folder / "registry.yaml", folder / "credentials.json"
    enterprise = {
        "uscc": "91120000000000002Q",
        "name_zh": "报文测试厂",
        "name_en": "Message Test Works",
        "from_on": "2024-01-01",
        "district_code": "120111",
        "industry_code": "3011",
        "process_units": [{"code": "plant", "scope": 1, "name_zh": "全厂", "name_en": "Plant"}],
        "gateways": [{"code": "gw-bad-input", "points": [_point(code) for code in codes]}],
    }
    file.write_text(yaml.safe_dump({"enterprises": [enterprise]}, allow_unicode=True))
    city.command("nenghao", "registry", "import", str(file), "--credentials", str(credentials))
    return {g["code"]: g["password"] for g in json.loads(credentials.read_text())["gateways"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad-input")


@pytest.fixture(scope="module")
def password(city: Installation, folder: Path) -> str:
    return _register(city, folder, "E001")["gw-bad-input"]


@pytest.fixture
def device(city: Installation, password: str) -> Iterator[Device]:
    with Device(city.ports["mosquitto"], "gw-bad-input", password) as opened:
        yield opened


def _reading(value: Any, ts: str | None = None, point: str = "E001", **extra: Any) -> dict[str, Any]:
    return {"point": point, "ts": ts or NOW.isoformat(), "value": value, **extra}


def _rejects(city: Installation) -> dict[str, float]:
    """Rejections by reason, summed over both ingest processes."""
    found: dict[str, float] = {}
    for number in (1, 2):
        url = f"http://127.0.0.1:{city.ports[f'ingest-{number}-metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for reason, count in re.findall(r'^nenghao_ingest_rejects_total\{reason="(\w+)"\} (\S+)', text, re.M):
            found[reason] = found.get(reason, 0) + float(count)
    return found


def _quarantined(city: Installation, gateway: str) -> dict[str, int]:
    items = city.get(f"/api/v1/quarantine?gateway={gateway}&limit=200")["items"]
    counts: dict[str, int] = {}
    for item in items:
        counts[item["reason"]] = counts.get(item["reason"], 0) + item["item_count"]
    return counts


def test_good_readings_of_a_bad_message_are_kept(city: Installation, device: Device) -> None:
    before = _rejects(city)
    earlier = (NOW - timedelta(minutes=15)).isoformat()
    good, end = json.dumps(_reading(100.5, earlier)), json.dumps(_reading(101.5))
    bad = [
        json.dumps(_reading(1, point="NOBODY")),
        json.dumps(_reading(float("nan"), earlier)),
        json.dumps(_reading(1, "1970-01-01T00:00:00+08:00")),
        json.dumps(_reading(1, "2099-01-01T00:00:00+08:00")),
        json.dumps(_reading("12", earlier)),
        json.dumps(_reading(1, "2026-02-30T00:00:00+08:00")),
    ]
    body = f'{{"epoch": "bad1", "seq": 0, "readings": [{", ".join([good, *bad, end])}]}}'
    ack = device.asked(body.encode())
    assert (ack["epoch"], ack["seq"], ack["lane"], ack["accepted"]) == ("bad1", 0, "live", 2)
    reasons = {item["index"]: item["reason"] for item in ack["rejected"]}
    expected = {
        1: "unknown_point",
        2: "non_finite",
        3: "before_installation",
        4: "in_future",
        5: "invalid_item",
        6: "bad_timestamp",
    }
    assert reasons == expected
    stored = _quarantined(city, "gw-bad-input")
    assert all(stored.get(reason) == 1 for reason in expected.values())
    after = _rejects(city)
    assert all(after[reason] == before[reason] + 1 for reason in expected.values())

    def used() -> bool:
        series = city.get("/api/v1/usage?gateway=gw-bad-input&point=E001&grain=day")["series"]
        return bool(series) and series[0]["total"] is not None and Decimal(series[0]["total"]) == 10

    assert wait_for("the usage of the two good readings", used, 30)


@pytest.mark.parametrize("body", [b"{not json", b"\xff\xfe\x00", b"[]", b"null", b"", b'{"epoch": "a b", "seq": -1}'])
def test_an_unreadable_message_is_refused_with_a_reason(city: Installation, device: Device, body: bytes) -> None:
    before = sum(_quarantined(city, "gw-bad-input").values())
    ack = device.asked(body)
    assert ack["accepted"] == 0
    assert [item["reason"] for item in ack["rejected"]] in (["malformed_json"], ["invalid_message"])
    assert sum(_quarantined(city, "gw-bad-input").values()) == before + 1
    assert device.asked({"epoch": "alive", "seq": hash(body) % 2**40, "readings": []})["accepted"] == 0


def test_the_same_message_counts_once_and_a_reused_identity_is_refused(device: Device) -> None:
    message = {"epoch": "twice", "seq": 7, "readings": [_reading(99.0, (NOW - timedelta(hours=1)).isoformat())]}
    first = device.asked(message)
    assert first["accepted"] == 1
    assert device.asked(message) == first
    other = {**message, "readings": [_reading(98.0, (NOW - timedelta(hours=2)).isoformat())]}
    refused = device.asked(other)
    assert (refused["accepted"], [item["reason"] for item in refused["rejected"]]) == (0, ["seq_reused"])


def test_a_packet_over_the_limit_is_refused_by_the_broker(device: Device) -> None:
    device.send(b'{"epoch": "large", "seq": 1, "padding": "' + b"x" * 300_000 + b'"}')
    assert "large" in device.disconnects.get(timeout=20).lower()
    assert device.acks.empty()


def test_an_account_without_a_registry_row_is_refused(city: Installation) -> None:
    admin = (city.folder / "secrets" / "broker-admin.password").read_text().strip()
    broker = types.SimpleNamespace(port=city.ports["mosquitto"], admin_credentials=("admin", admin))
    password = open_account(broker, "gw-stranger", ["nenghao/v1/gw-stranger/#"])  # type: ignore[arg-type]
    with Device(city.ports["mosquitto"], "gw-stranger", password) as stranger:
        ack = stranger.asked({"epoch": "stranger", "seq": 0, "readings": [_reading(1.0)]})
    assert (ack["accepted"], [item["reason"] for item in ack["rejected"]]) == (0, ["unknown_gateway"])
    assert _quarantined(city, "gw-stranger") == {"unknown_gateway": 1}


def test_release_brings_an_unknown_points_readings_in(city: Installation, device: Device, folder: Path) -> None:
    stamps = [(NOW - timedelta(minutes=15 * step)).isoformat() for step in (2, 1, 0)]
    readings = [_reading(float(number), ts, point="LATER") for number, ts in enumerate(stamps)]
    ack = device.asked({"epoch": "later", "seq": 0, "readings": readings})
    assert [item["reason"] for item in ack["rejected"]] == ["unknown_point"] * 3
    _register(city, folder, "E001", "LATER")
    words = ("nenghao", "quarantine", "release", "--gateway", "gw-bad-input", "--reason", "unknown_point")
    city.command(*words)

    def used() -> bool:
        series = city.get("/api/v1/usage?gateway=gw-bad-input&point=LATER&grain=day")["series"]
        return bool(series) and series[0]["total"] is not None and Decimal(series[0]["total"]) == 20

    assert wait_for("the released readings' usage", used, 30)
    waiting = city.get("/api/v1/quarantine?gateway=gw-bad-input&reason=unknown_point&waiting=true")["items"]
    assert [item["point_code"] for item in waiting] == ["NOBODY"]
