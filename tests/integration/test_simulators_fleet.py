"""The fleet and the replay as programs against a real broker, with a tiny service that stores and acknowledges."""

import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.local.broker import Broker
from simulators.truth import City, day_number, day_start_s, number_of

CONTROL = "$CONTROL/dynamic-security/v1"
ROOT = Path(__file__).parents[2]
GATEWAYS = ["gw-clinker-01", "gw-tissue-01"]


def open_accounts(broker: Broker, topics: dict[str, list[str]]) -> dict[str, str]:
    """Create broker accounts that may read and write their topics, or give existing ones new passwords."""
    passwords = {user: secrets.token_urlsafe(16) for user in topics}
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    commands: list[dict[str, Any]] = []
    for user, allowed in topics.items():
        acls = [{"acltype": kind, "topic": topic, "allow": True} for kind in kinds for topic in allowed]
        commands += [
            {"command": "deleteClient", "username": user},
            {"command": "deleteRole", "rolename": user},
            {"command": "createRole", "rolename": user, "acls": acls},
            {
                "command": "createClient",
                "username": user,
                "password": passwords[user],
                "roles": [{"rolename": user}],
            },
        ]
    answered = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="test-admin", protocol=mqtt.MQTTv5)
    client.username_pw_set(*broker.admin_credentials)
    client.on_message = lambda *_: answered.set()
    client.on_subscribe = lambda c, *_: c.publish(CONTROL, json.dumps({"commands": commands}), qos=1)
    client.connect("127.0.0.1", broker.port)
    client.subscribe(f"{CONTROL}/response", qos=1)
    client.loop_start()
    assert answered.wait(10)
    client.disconnect()
    client.loop_stop()
    return passwords


class StoringService:
    """Keeps the first value of each (gateway, point, instant) and acknowledges; counts what differs."""

    def __init__(self, broker: Broker, user: str, password: str) -> None:
        self.values: dict[tuple[str, str, float], float] = {}
        self.duplicates = self.conflicts = 0
        self.reject: Callable[[float], bool] = lambda value: False
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=user, protocol=mqtt.MQTTv5)
        self.client.username_pw_set(user, password)
        self.client.on_message = self._take
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", broker.port)
        self.client.subscribe([("nenghao/v1/+/up/live", 1), ("nenghao/v1/+/up/backfill", 1)])
        self.client.loop_start()
        assert ready.wait(10)

    def _take(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        _, _, gateway, _, lane = message.topic.split("/")
        body = json.loads(message.payload)
        items = [
            (r["point"], datetime.fromisoformat(r["ts"]).timestamp(), r["value"]) for r in body.get("readings", [])
        ]
        for series in body.get("series", []):
            start_s = datetime.fromisoformat(series["start"]).timestamp()
            values = enumerate(series["values"])
            items += [(series["point"], start_s + place * series["step_s"], value) for place, value in values]
        counts = {"accepted": 0, "duplicate": 0, "disputed": 0}
        rejected = []
        for index, (point, at_s, value) in enumerate(items):
            if self.reject(value):
                rejected.append({"index": index, "reason": "unknown_point"})
                continue
            known = self.values.setdefault((gateway, point, at_s), value)
            is_new = len(self.values) > self._size
            self._size = len(self.values)
            counts["accepted" if is_new else "duplicate" if known == value else "disputed"] += 1
        answer = {"epoch": body["epoch"], "lane": lane, "seq": body["seq"], "rejected": rejected, **counts}
        self.client.publish(f"nenghao/v1/{gateway}/down/ack", json.dumps(answer), qos=0)

    _size = 0

    def of(self, gateway: str, point: str) -> dict[float, float]:
        return {at_s: value for (g, p, at_s), value in dict(self.values).items() if (g, p) == (gateway, point)}


class Site:
    """A broker with accounts, the service behind it, and the fleet's files."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        user = f"service-{secrets.token_hex(4)}"
        topics = {code: [f"nenghao/v1/{code}/{side}/#" for side in ("up", "down")] for code in GATEWAYS}
        self.passwords = open_accounts(broker, {**topics, user: ["nenghao/v1/#"]})
        self.port, self.folder = broker.port, folder
        self.service = StoringService(broker, user, self.passwords[user])
        listing = [{"code": code, "password": self.passwords[code]} for code in GATEWAYS]
        (folder / "credentials.json").write_text(json.dumps({"gateways": listing}))

    def start(self, *more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "simulators", "fleet", "run", "--port", str(self.port)]
        command += ["--credentials", str(self.folder / "credentials.json"), "--state", str(self.folder / "state")]
        return subprocess.Popen([*command, *more], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def totals(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "simulators", "fleet", "totals", "--state", str(self.folder / "state")]
        answer: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
        return answer


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Iterator[Site]:
    made = Site(broker, tmp_path)
    yield made
    made.service.client.disconnect()
    made.service.client.loop_stop()


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    return condition()


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> tuple[str, float]:
    began_s = time.monotonic()
    process.send_signal(number)
    printed, _ = process.communicate(timeout=10)
    return printed, time.monotonic() - began_s


def recent_day(days_ago: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days_ago)


def test_history_comes_whole_then_live_and_a_killed_fleet_fills_its_hole(site: Site) -> None:
    start = recent_day(3)
    arguments = ["--speed-up", "900", "--from", str(start)]
    fleet = site.start(*arguments)
    quarter_hours = 2 * 96  # two whole days at the least
    assert wait_for(lambda: len(site.service.of("gw-clinker-01", "E101")) > quarter_hours + 3)
    end(fleet, signal.SIGKILL)
    time.sleep(2.5)  # a hole in the live samples
    fleet = site.start(*arguments)
    size = len(site.service.values)
    assert wait_for(lambda: len(site.service.values) > size + 30)
    printed, took_s = end(fleet)
    assert fleet.returncode == 0
    assert took_s < 2
    assert "acknowledged" in printed.splitlines()[-1]

    city, start_s = City(seed=1), day_start_s(number_of(start))
    for point in ("E101", "C101"):
        stored = site.service.of("gw-clinker-01", point)
        last_s = int(max(stored))
        due = {float(at_s) for at_s in range(start_s, last_s + 1, 900)}
        assert due <= stored.keys(), "a quarter hour is missing"
        for at_s, value in stored.items():
            if point == "E101":
                expected = city.register_at("gw-clinker-01", point, int(at_s))
            else:
                expected = city.usage_between("gw-clinker-01", point, int(at_s), int(at_s) + 900)
            assert Decimal(repr(value)) == expected
    assert max(at_s for _, _, at_s in site.service.values) <= time.time()

    totals = site.totals()["gateways"][0]
    assert totals["gateway"] == "gw-clinker-01"
    assert totals["rejected"] == totals["disputed"] == 0
    for point in totals["points"]:
        stored = site.service.of("gw-clinker-01", point["point"])
        assert point["readings"] >= len(stored)  # what was on its way at the end may be missing there
        assert datetime.fromisoformat(point["first_at"]).timestamp() == min(stored)


def test_an_impossible_wish_is_refused_in_words(site: Site) -> None:
    for arguments, words in [
        (["--from", "2019-01-01"], "2025-01-01"),
        (["--from", "soon"], "YYYY-MM-DD"),
        (["--faults", "lightning"], "lightning"),
        (["--api", "http://127.0.0.1:1"], "belong together"),
    ]:
        command = [sys.executable, "-m", "simulators", "fleet", "run", "--port", str(site.port), *arguments]
        command += ["--credentials", str(site.folder / "credentials.json"), "--state", str(site.folder / "other")]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert result.returncode == 2
        assert words in result.stderr
        assert "Traceback" not in result.stderr


class _Api(BaseHTTPRequestHandler):
    rows: list[dict[str, Any]]
    refuse_first: list[int]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_refused = bool(self.refuse_first) and self.refuse_first.pop()
        if not is_refused and self.path == "/api/v1/outputs" and self.headers["authorization"] == "Bearer nh_test":
            assert body["closed_year_reason"]  # what is reported may lie in a closed year
            self.rows.extend(body["outputs"])
        self.send_response(503 if is_refused else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_outputs_of_finished_days_are_posted_once_also_after_a_refusal(site: Site) -> None:
    handler = type("Api", (_Api,), {"rows": [], "refuse_first": [1]})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        start, city = recent_day(4), City(seed=1)
        today = day_number(int(time.time()))
        expected = len(city.lines) * (today - number_of(start))
        arguments = ["--from", str(start), "--api", f"http://127.0.0.1:{server.server_address[1]}", "--key", "nh_test"]
        fleet = site.start(*arguments)
        assert wait_for(lambda: len(handler.rows) == expected)  # type: ignore[attr-defined]
        time.sleep(0.7)
        end(fleet)
        fleet = site.start(*arguments)
        time.sleep(1.5)
        end(fleet)
        server.shutdown()
        thread.join()
    rows: list[dict[str, Any]] = handler.rows  # type: ignore[attr-defined]
    assert len(rows) == expected
    row = next(r for r in rows if r["line"]["code"] == "kiln-1" and r["period"] == str(start))
    assert row["line"]["uscc"] == city.plan[0].uscc
    assert row["value"] == str(city.output_of(city.lines[0], number_of(start)))
    assert (row["kind"], row["grain"], row["unit"]) == ("production", "day", "t")


@pytest.fixture
def csv_file(tmp_path: Path) -> tuple[Path, Decimal]:
    """A CSV of 400 quarter hours, and its total."""
    begin, total = datetime(2018, 3, 1), Decimal(0)  # noqa: DTZ001 - local times, as in such files
    rows = ["interval_start,usage_kwh"]
    for number in range(400):
        quantity = Decimal(number * 37 % 1000) / 100
        total += quantity
        rows.append(f"{begin + timedelta(minutes=15 * number):%Y-%m-%dT%H:%M},{quantity}")
    path = tmp_path / "meter.csv"
    path.write_text("\n".join(rows) + "\n")
    return path, total


def run_replay(site: Site, file: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "simulators", "replay", str(file), "--gateway", GATEWAYS[0], "--port"]
    command += [str(site.port), "--password", site.passwords[GATEWAYS[0]], *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_replay_gives_the_files_total_in_any_order_and_twice(site: Site, csv_file: tuple[Path, Decimal]) -> None:
    path, total = csv_file
    for point, more in [("R1", []), ("R2", ["--shuffle", "7", "--batch", "33"]), ("R1", [])]:
        result = run_replay(site, path, "--point", point, "--initial", "1000.5", *more)
        assert result.returncode == 0, result.stderr
        stored = site.service.of(GATEWAYS[0], point)
        assert len(stored) == 401
        first, last = (Decimal(repr(stored[at_s])) for at_s in (min(stored), max(stored)))
        assert first == Decimal("1000.5")
        assert last - first == total
    assert "accepted 0, duplicate 401" in result.stdout
    result = run_replay(site, path, "--point", "I1", "--as", "interval", "--lane", "live")
    stored = site.service.of(GATEWAYS[0], "I1")
    assert result.returncode == 0
    assert len(stored) == 400
    assert sum(Decimal(repr(value)) for value in stored.values()) == total
    assert datetime.fromtimestamp(min(stored), UTC).isoformat() == "2018-02-28T16:00:00+00:00"


def test_a_replay_that_is_not_taken_whole_fails(site: Site, csv_file: tuple[Path, Decimal]) -> None:
    site.service.reject = lambda value: value > 9
    result = run_replay(site, csv_file[0], "--point", "I2", "--as", "interval")
    assert result.returncode == 1
    assert "unknown_point" in result.stderr
    site.service.client.unsubscribe("nenghao/v1/+/up/backfill")
    time.sleep(0.2)
    result = run_replay(site, csv_file[0], "--point", "I3", "--as", "interval", "--timeout", "1")
    assert result.returncode == 1
    assert "not acknowledged" in result.stderr
    site.passwords[GATEWAYS[0]] = "not the password"
    result = run_replay(site, csv_file[0], "--point", "I4")
    assert result.returncode == 1
    assert "refuses" in result.stderr
