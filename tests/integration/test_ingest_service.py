"""The whole ingest process on a real broker and a real database: acknowledged means on disk."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from prometheus_client import CollectorRegistry

from app import broker as accounts
from app.db import migrations
from app.settings import Settings as AppSettings
from deploy.local.broker import Broker
from deploy.local.ports import free_port
from deploy.local.postgres import Postgres
from deploy.local.unpack import ServerPrograms
from ingest.service import Service
from ingest.settings import Settings
from tests.integration.ingest_site import Site, build_site, reading

PASSWORD = secrets.token_urlsafe(12)


def settings_of(url: str, broker: Broker, client: str = "1") -> Settings:
    return Settings(
        database_url=url,
        broker_port=broker.port,
        ingest_password=PASSWORD,
        ingest_client=client,
        ingest_batch_messages=16,
    )


def make_accounts(url: str, broker: Broker, *codes: str) -> dict[str, str]:
    name, password = broker.admin_credentials
    settings = AppSettings(
        database_url=url, broker_port=broker.port, broker_admin_user=name, broker_admin_password=password
    )
    accounts.ensure_service_account(settings, PASSWORD)
    return accounts.ensure_gateway_accounts(settings, codes)


class Gateway:
    """A gateway that keeps sending what is not acknowledged."""

    def __init__(self, code: str, password: str, port: int) -> None:
        self.code, self.acks, self.unacknowledged = code, {}, {}
        self._got = threading.Condition()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=code, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.username_pw_set(code, password)
        self.client.on_connect, self.client.on_message = self._connected, self._received
        self.client.reconnect_delay_set(1, 1)
        self._subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(10)

    def _connected(self, client: Client, _: Any, __: ConnectFlags, reason: ReasonCode, ___: Properties | None) -> None:
        client.subscribe(f"nenghao/v1/{self.code}/down/#", qos=1)

    def _received(self, client: Client, _: Any, message: MQTTMessage) -> None:
        ack = json.loads(message.payload)
        with self._got:
            self.acks.setdefault(ack["seq"], []).append(ack)
            self.unacknowledged.pop(ack["seq"], None)
            self._got.notify_all()

    def send(self, seq: int, readings: list[Any], lane: str = "live") -> None:
        body = json.dumps({"epoch": "e1", "seq": seq, "readings": readings}).encode()
        with self._got:
            self.unacknowledged[seq] = body
        self.client.publish(f"nenghao/v1/{self.code}/up/{lane}", body, qos=1)

    def say(self, topic: str, body: bytes, *, retain: bool = False) -> None:
        self.client.publish(f"nenghao/v1/{self.code}/up/{topic}", body, qos=1, retain=retain)

    def wait(self, timeout_s: float, *, resend_s: float = 60.0) -> None:
        """Wait until everything is acknowledged, sending again what is not after `resend_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._got:
                self._got.wait_for(lambda: not self.unacknowledged, min(resend_s, timeout_s))
                left = list(self.unacknowledged.values())
            if not left:
                return
            assert time.monotonic() < deadline, f"{len(left)} messages are not acknowledged"
            for body in left:
                self.client.publish(f"nenghao/v1/{self.code}/up/live", body, qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def running(settings: Settings, registry: CollectorRegistry | None = None) -> Iterator[Service]:
    service = Service(settings, registry=registry or CollectorRegistry())
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        eventually(lambda: service.is_receiving)
        yield service
    finally:
        service.stop()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def opened(code: str, passwords: dict[str, str], broker: Broker) -> Iterator[Gateway]:
    gateway = Gateway(code, passwords[code], broker.port)
    try:
        yield gateway
    finally:
        gateway.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def metrics(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@pytest.fixture
def code() -> str:
    return f"gw-{secrets.token_hex(4)}"


@pytest.fixture
def own_broker(programs: ServerPrograms, tmp_path: Path) -> Iterator[Broker]:
    server = Broker(programs, tmp_path, free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(database_url: str, code: str) -> Site:
    return build_site(database_url, code)


def test_readings_on_both_lanes_are_stored_and_acknowledged(site: Site, broker: Broker, code: str) -> None:
    passwords = make_accounts(site.url, broker, code)
    registry = CollectorRegistry()
    with running(settings_of(site.url, broker), registry), opened(code, passwords, broker) as gateway:
        for seq in range(40):
            gateway.send(seq, [reading(seq, seq)])
            gateway.send(1000 + seq, [reading(seq, seq, point="E001"), reading(0, 1, point="nobody")], "backfill")
        gateway.say("live", b'{"epoch": "e1", "seq": 5000, "readings": [}')
        gateway.wait(20)
        eventually(lambda: 5000 in gateway.acks)
    assert site.count("reading") == 80
    assert gateway.acks[5000][0]["rejected"] == [{"index": None, "reason": "malformed_json"}]
    ack = gateway.acks[1007][0]
    assert (ack["epoch"], ack["lane"], ack["accepted"]) == ("e1", "backfill", 1)
    assert ack["rejected"] == [{"index": 1, "reason": "unknown_point"}]
    assert registry.get_sample_value("nenghao_ingest_readings_total", {"result": "accepted"}) == 80
    assert registry.get_sample_value("nenghao_ingest_rejects_total", {"reason": "unknown_point"}) == 40
    assert registry.get_sample_value("nenghao_ingest_rejects_total", {"reason": "malformed_json"}) == 1


def test_what_gateways_say_of_themselves_is_kept(site: Site, broker: Broker, code: str) -> None:
    passwords = make_accounts(site.url, broker, code)
    with running(settings_of(site.url, broker)):
        pass  # what is said from now on, while no ingest runs, must not be kept for it beside the retained message
    with opened(code, passwords, broker) as gateway:
        gateway.say("state", b'{"state": "online", "sent_at": "2026-03-01T00:00:00Z", "queue_depth": 9}', retain=True)
        with running(settings_of(site.url, broker)):
            select = "SELECT is_online, queue_depth, clock_skew_s IS NULL FROM gateway_state"
            eventually(lambda: site.query(select) == [(True, 9, True)])  # retained: no sign of life now
            gateway.say("state", b'{"state": "online", "sent_at": "2026-03-01T00:00:00Z", "queue_depth": 3}')
            eventually(lambda: site.query(select) == [(True, 3, False)])
            gateway.say("state", b"\xff\x00 nonsense")
            gateway.say("state", b'{"state": "offline"}', retain=True)
            eventually(lambda: site.query(select) == [(False, 3, False)])
        gateway.say("state", b"", retain=True)


def test_a_release_is_noticed(site: Site, broker: Broker, code: str) -> None:
    passwords = make_accounts(site.url, broker, code)
    with running(settings_of(site.url, broker)), opened(code, passwords, broker) as gateway:
        gateway.send(1, [reading(0, 1, point="E000"), {**reading(1, 1), "value": "1"}])
        gateway.wait(10)
        site.query("UPDATE quarantine SET raw = convert_to(replace(convert_from(raw, 'UTF8'), '\"1\"', '7'), 'UTF8')")
        site.query("UPDATE quarantine SET release_requested_at = now()")
        eventually(lambda: site.query("SELECT released_at IS NOT NULL FROM quarantine") == [(True,)])
    assert site.query("SELECT value FROM reading ORDER BY ts") == [(1.0,), (7.0,)]


def test_the_process_drains_on_sigterm_and_survives_sigkill(site: Site, own_broker: Broker, code: str) -> None:
    broker = own_broker  # the sessions of these processes would keep their share of other tests' messages
    passwords = make_accounts(site.url, broker, code)
    env = {
        **os.environ,
        "NENGHAO_DATABASE_URL": site.url,
        "NENGHAO_BROKER_PORT": str(broker.port),
        "NENGHAO_INGEST_PASSWORD": PASSWORD,
    }

    def start(client: str) -> subprocess.Popen[bytes]:
        port = free_port()
        more = {"NENGHAO_INGEST_CLIENT": client, "NENGHAO_INGEST_METRICS_PORT": str(port)}
        process = subprocess.Popen([sys.executable, "-m", "ingest"], env=env | more)
        eventually(lambda: 'nenghao_ingest_is_receiving{session="live"} 1.0' in metrics(port))
        return process

    processes = [start("a"), start("b")]
    try:
        with opened(code, passwords, broker) as gateway:
            for seq in range(300):
                gateway.send(seq, [reading(seq, seq)])
                time.sleep(0.005)
                if seq in (100, 200):
                    processes[0].send_signal(signal.SIGKILL if seq == 100 else signal.SIGTERM)
                    assert processes[0].wait(20) == (-signal.SIGKILL if seq == 100 else 0)
                    processes[0] = start("a")
            gateway.wait(60, resend_s=3)
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(20) for process in processes] == [0, 0]
    assert site.query("SELECT count(*), sum(value) FROM reading") == [(300, sum(range(300)))]
    assert site.query("SELECT count(*), sum(accepted) FROM receipt") == [(300, 300)]


@pytest.mark.slow
def test_broker_and_database_are_killed_while_readings_stream(
    programs: ServerPrograms, own_broker: Broker, tmp_path: Path, code: str
) -> None:
    broker = own_broker
    postgres = Postgres(programs, tmp_path, free_port())  # durable: what is acknowledged must survive the kill
    postgres.start()
    try:
        postgres.ensure_database("killed")
        migrations.upgrade(postgres.dsn("killed"))
        site = build_site(postgres.dsn("killed"), code)
        passwords = make_accounts(site.url, broker, code)
        with running(settings_of(site.url, broker)), opened(code, passwords, broker) as gateway:
            for seq in range(600):
                gateway.send(seq, [reading(seq, seq)])
                time.sleep(0.01)
                if seq in (100, 350):
                    broker.kill()
                if seq in (200, 450):
                    postgres.kill()
                if seq in (150, 400):
                    broker.start()
                if seq in (250, 500):
                    postgres.start()
            gateway.wait(60, resend_s=2)
            acknowledged = {seq for seq, acks in gateway.acks.items() if acks[0]["accepted"] == 1}
        assert acknowledged == set(range(600))
        assert site.query("SELECT count(*), sum(value) FROM reading") == [(600, sum(range(600)))]
        assert all(len({json.dumps(ack) for ack in acks}) == 1 for acks in gateway.acks.values())
    finally:
        postgres.stop()


def test_a_last_will_that_comes_while_the_database_is_away_is_not_forgotten(
    site: Site, broker: Broker, code: str
) -> None:
    """The broker says it once: forgotten, the gateway would be shown online until it is missed by its heartbeats."""
    passwords, registry = make_accounts(site.url, broker, code), CollectorRegistry()
    online = "SELECT is_online FROM gateway_state"
    with (
        psycopg.connect(site.url, autocommit=True) as other,
        running(settings_of(site.url, broker), registry),
        opened(code, passwords, broker) as gateway,
    ):
        gateway.say("state", b'{"state": "online"}')
        eventually(lambda: site.query(online) == [(True,)])
        other.execute("ALTER TABLE gateway_state RENAME TO away")
        gateway.say("state", b'{"state": "offline"}')
        eventually(lambda: registry.get_sample_value("nenghao_ingest_is_storing") == 0)
        other.execute("ALTER TABLE away RENAME TO gateway_state")
        eventually(lambda: site.query(online) == [(False,)])


def test_nothing_is_acknowledged_while_the_database_is_away(site: Site, broker: Broker, code: str) -> None:
    passwords = make_accounts(site.url, broker, code)
    registry = CollectorRegistry()

    def told(metric: str) -> float:
        return registry.get_sample_value(f"nenghao_ingest_{metric}", {"lane": "live"}) or 0.0

    with (
        psycopg.connect(site.url, autocommit=True) as blocker,
        running(settings_of(site.url, broker), registry),
        opened(code, passwords, broker) as gateway,
    ):
        gateway.send(0, [reading(0, 0)])
        gateway.wait(10)
        with blocker.transaction():
            blocker.execute("LOCK TABLE receipt IN ACCESS EXCLUSIVE MODE")
            for seq in range(1, 50):
                gateway.send(seq, [reading(seq, seq)])
            time.sleep(1)
            assert set(gateway.acks) == {0}
            assert told("backlog_messages") == 49
            assert 0.5 < told("oldest_unacknowledged_seconds") < 10
        gateway.wait(20)
        eventually(lambda: told("backlog_messages") == told("oldest_unacknowledged_seconds") == 0)
    assert site.count("reading") == 50
