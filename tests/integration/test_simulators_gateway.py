"""Gateways of the simulator against a real broker: nothing leaves the store without the application's ack."""

import json
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.local.broker import Broker as LocalBroker
from simulators import gateway as gateway_module
from simulators.gateway import Broker, Gateway
from simulators.loop import Loop
from simulators.store import Store

CONTROL = "$CONTROL/dynamic-security/v1"
BODY = ('"readings":[{"point":"E001","ts":"2026-03-01T00:15:00+08:00","value":1.5}]', 1)


def mqtt_client(broker: LocalBroker, user: str, password: str) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{user}", protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", broker.port)
    return client


def open_account(broker: LocalBroker, user: str, topics: list[str]) -> str:
    """Create a broker account that may read and write the topics; return its password."""
    password = secrets.token_urlsafe(16)
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    acls = [{"acltype": kind, "topic": topic, "allow": True} for kind in kinds for topic in topics]
    commands = [
        {"command": "createRole", "rolename": user, "acls": acls},
        {"command": "createClient", "username": user, "password": password, "roles": [{"rolename": user}]},
    ]
    answers: list[dict[str, Any]] = []
    answered = threading.Event()

    def take(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        answers.extend(json.loads(message.payload)["responses"])
        answered.set()

    client = mqtt_client(broker, *broker.admin_credentials)
    client.on_message = take
    client.on_subscribe = lambda c, *_: c.publish(CONTROL, json.dumps({"commands": commands}), qos=1)
    client.subscribe(f"{CONTROL}/response", qos=1)
    client.loop_start()
    assert answered.wait(10), "the broker did not answer"
    client.disconnect()
    client.loop_stop()
    assert not [answer for answer in answers if "error" in answer]
    return password


class FakeService:
    """Takes what gateways send and answers as `answer` says; None leaves a message unanswered."""

    def __init__(self, broker: LocalBroker) -> None:
        self.received: list[tuple[str, str, dict[str, Any]]] = []
        self.states: list[dict[str, Any]] = []
        self.answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] = self.accept
        self._known: set[tuple[str, str, str, int]] = set()
        user = f"service-{secrets.token_hex(4)}"
        self.client = mqtt_client(broker, user, open_account(broker, user, ["nenghao/v1/#"]))
        self.client.on_message = self._take
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.subscribe("nenghao/v1/+/up/#", qos=1)
        self.client.loop_start()
        assert ready.wait(10)

    def accept(self, lane: str, body: dict[str, Any]) -> dict[str, Any]:
        readings = len(body.get("readings", [])) + sum(len(s["values"]) for s in body.get("series", []))
        return {"accepted": readings, "duplicate": 0, "disputed": 0, "rejected": []}

    def ack(self, gateway: str, lane: str, epoch: str, seq: int, **counts: Any) -> None:
        body = {"accepted": 1, "duplicate": 0, "disputed": 0, "rejected": []} | counts
        body |= {"epoch": epoch, "lane": lane, "seq": seq, "committed_at": "2026-03-01T00:15:03+08:00"}
        self.client.publish(f"nenghao/v1/{gateway}/down/ack", json.dumps(body), qos=0)

    def seqs(self, lane: str = "live") -> list[int]:
        return [body["seq"] for _, name, body in self.received if name == lane and "seq" in body]

    def _take(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        _, _, gateway, _, tail = message.topic.split("/")
        body = json.loads(message.payload)
        if tail == "state":
            if not message.retain:  # what earlier gateways left behind
                self.states.append(body)
            return
        self.received.append((gateway, tail, body))
        counts = self.answer(tail, body) if "seq" in body else None
        if counts is not None:
            self.ack(gateway, tail, body["epoch"], body["seq"], **counts)


@pytest.fixture
def service(broker: LocalBroker) -> Iterator[FakeService]:
    fake = FakeService(broker)
    yield fake
    fake.client.disconnect()
    fake.client.loop_stop()


class Site:
    """One gateway with its account and its store's file."""

    def __init__(self, broker: LocalBroker, folder: Path) -> None:
        self.code = f"gw-test-{secrets.token_hex(4)}"
        topics = [f"nenghao/v1/{self.code}/{side}/#" for side in ("up", "down")]
        self.password = open_account(broker, self.code, topics)
        self.broker = Broker("127.0.0.1", broker.port)
        self.path = folder / "gateway.sqlite"

    @contextmanager
    def running(self) -> Iterator[tuple[Gateway, Loop, Store]]:
        store = Store(self.path)
        gateway = Gateway(self.code, self.password, store, self.broker)
        loop = Loop(store, [gateway])
        try:
            yield gateway, loop, store
        finally:
            loop.close()
            store.close()


@pytest.fixture
def site(broker: LocalBroker, tmp_path: Path) -> Site:
    return Site(broker, tmp_path)


def write(store: Store, site: Site, messages: int, lane: str = "live") -> None:
    store.append(site.code, lane, [BODY] * messages)
    store.commit()


def test_a_message_is_deleted_on_its_ack_alone(site: Site, service: FakeService) -> None:
    service.answer = lambda lane, body: service.accept(lane, body) if body["seq"] == 2 else None
    with site.running() as (_, loop, store):
        write(store, site, 3)
        assert loop.run_until(lambda: store.depth(site.code) == 2, 10)
        loop.run_until(lambda: False, 0.5)
        assert store.held(site.code, "live", 1, 3) == [1, 3]
        assert store.tally(site.code).accepted == 1


@pytest.mark.parametrize("wrong", ["epoch", "lane", "seq"])
def test_an_ack_of_another_message_deletes_nothing(site: Site, service: FakeService, wrong: str) -> None:
    service.answer = lambda *_: None
    with site.running() as (_, loop, store):
        write(store, site, 1)
        assert loop.run_until(lambda: service.seqs() == [1], 10)
        right = {"lane": "live", "epoch": store.epoch, "seq": 1}
        service.ack(site.code, **(right | {wrong: {"epoch": "another", "lane": "backfill", "seq": 2}[wrong]}))
        loop.run_until(lambda: store.depth(site.code) == 0, 0.7)
        assert store.depth(site.code) == 1
        service.ack(site.code, **right)
        assert loop.run_until(lambda: store.depth(site.code) == 0, 10)


def test_a_rejected_item_is_handled_and_counted(site: Site, service: FakeService) -> None:
    service.answer = lambda *_: {"accepted": 0, "rejected": [{"index": 0, "reason": "unknown_point"}]}
    with site.running() as (_, loop, store):
        write(store, site, 2)
        assert loop.run_until(lambda: store.depth(site.code) == 0, 10)
        assert store.rejections() == {"unknown_point": 2}
        assert store.tally().rejected == 2


def test_at_most_64_messages_of_a_lane_are_unacknowledged(site: Site, service: FakeService) -> None:
    service.answer = lambda *_: None
    with site.running() as (gateway, loop, store):
        write(store, site, 100)
        write(store, site, 70, "backfill")
        assert loop.run_until(lambda: len(service.received) >= 128, 10)
        loop.run_until(lambda: False, 0.7)
        assert sorted(service.seqs("live")) == list(range(1, 65))
        assert sorted(service.seqs("backfill")) == list(range(1, 65))
        assert gateway.unacknowledged("live") == 64
        service.ack(site.code, "live", store.epoch, 5)
        assert loop.run_until(lambda: 65 in service.seqs("live"), 10)


def test_an_unanswered_message_is_sent_again_byte_for_byte_and_then_later(
    site: Site, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "FIRST_RESEND_S", 0.2)
    monkeypatch.setattr(gateway_module, "LOOK_S", 0.05)
    at_s: list[float] = []

    def lose(_lane: str, body: dict[str, Any]) -> dict[str, Any] | None:
        at_s.append(time.monotonic())
        return service.accept("live", body) if len(at_s) == 4 else None

    service.answer = lose
    with site.running() as (_, loop, store):
        write(store, site, 1)
        assert loop.run_until(lambda: store.depth(site.code) == 0, 10)
    assert len(at_s) == 4
    assert len({json.dumps(body) for _, _, body in service.received}) == 1
    first, second, third = (after - before for before, after in pairwise(at_s))
    assert first >= 0.15
    assert second >= 1.5 * first * 0.7
    assert third > second


def test_everything_unanswered_is_sent_again_after_a_cut(site: Site, service: FakeService) -> None:
    service.answer = lambda *_: None
    with site.running() as (gateway, loop, store):
        write(store, site, 5)
        assert loop.run_until(lambda: len(service.seqs()) == 5, 10)
        service.answer = service.accept
        gateway.abort()
        assert loop.run_until(lambda: store.depth(site.code) == 0, 15)
    assert Counter(service.seqs()) == dict.fromkeys(range(1, 6), 2)
    assert "offline" in [state["state"] for state in service.states]  # the last will


def test_a_connection_that_goes_while_it_sends_and_has_a_heartbeat_due_is_made_again(
    site: Site, service: FakeService
) -> None:
    with site.running() as (gateway, loop, store):
        assert loop.run_until(lambda: bool(service.states), 10)
        write(store, site, 5)
        gateway.abort()
        gateway.pump(time.monotonic() + 3600)  # the messages find the connection gone; the heartbeat is due too
        assert not gateway.is_connected
        assert loop.run_until(lambda: store.depth(site.code) == 0, 15)
    assert set(service.seqs()) == set(range(1, 6))


def test_the_heartbeat_tells_depth_and_clock_and_the_end_is_announced(site: Site, service: FakeService) -> None:
    service.answer = lambda *_: None
    with site.running() as (_, loop, store):
        write(store, site, 3)
        assert loop.run_until(lambda: bool(service.states), 10)
    assert service.states[0]["state"] == "online"
    assert service.states[0]["queue_depth"] == 3
    assert service.states[0]["sent_at"].endswith("+08:00")
    deadline_s = time.monotonic() + 5
    while service.states[-1]["state"] != "offline" and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert service.states[-1]["state"] == "offline"


def test_a_request_is_answered_with_what_is_here_and_gone_for_the_rest(site: Site, service: FakeService) -> None:
    service.answer = lambda lane, body: service.accept(lane, body) if body["seq"] in (1, 2, 4) else None
    with site.running() as (_, loop, store):
        write(store, site, 5)
        assert loop.run_until(lambda: store.depth(site.code) == 2, 10)
        before = len(service.received)
        request = {"epoch": store.epoch, "lane": "live", "from": 1, "to": 7}
        service.client.publish(f"nenghao/v1/{site.code}/down/request", json.dumps(request), qos=1)
        assert loop.run_until(lambda: len(service.received) >= before + 5, 10)
        later = [body for _, _, body in service.received[before:]]
        assert sorted(body["seq"] for body in later if "seq" in body) == [3, 5]
        assert [body["gone"] for body in later if "gone" in body] == [[1, 2], [4, 4], [6, 7]]


def test_a_wrong_password_is_told(site: Site) -> None:
    site.password = "not the password"
    with site.running() as (gateway, loop, store):
        write(store, site, 1)
        assert loop.run_until(lambda: gateway.refusal is not None, 10)
        assert gateway.refusal is not None
        assert "refuses" in gateway.refusal
        assert store.depth(site.code) == 1


KILLED = """
import sys
from pathlib import Path
from simulators.gateway import Broker, Gateway
from simulators.loop import Loop
from simulators.store import Store
path, code, password, port, body = sys.argv[1:]
store = Store(Path(path))
loop = Loop(store, [Gateway(code, password, store, Broker("127.0.0.1", int(port)))])
for number in range(10_000):
    store.append(code, "live", [(body, 1)])
    store.commit()
    print(number + 1, flush=True)
    loop.turn(0.001)
"""


def test_what_was_written_survives_sigkill_and_arrives(site: Site, service: FakeService) -> None:
    arguments = [str(site.path), site.code, site.password, str(site.broker.port), BODY[0]]
    command = [sys.executable, "-c", KILLED, *arguments]
    written = 0
    for goal in (40, 80):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == goal:
                process.kill()
        # Lines that were printed before the kill arrived were committed before they were printed.
        process.wait()
        process.stdout.close()
        written += goal
    with site.running() as (_, loop, store):
        assert store.last_seq(site.code, "live") >= written
        assert loop.run_until(lambda: store.depth(site.code) == 0, 20)
        last = store.last_seq(site.code, "live")
    assert set(service.seqs()) == set(range(1, last + 1))
    assert len({body["epoch"] for _, _, body in service.received}) == 1
