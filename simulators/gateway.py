"""A gateway as a third party would build it: MQTT 5, store and forward, deletes on the application's ack alone."""

import itertools
import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from simulators.store import LANES, Message, Store, Tally

ZONE = ZoneInfo("Asia/Shanghai")
WINDOW = 64  # unacknowledged messages per lane (wire contract)
FIRST_RESEND_S = 60.0  # without a reconnect; doubles, up to LAST_RESEND_S
LAST_RESEND_S = 3600.0
LOOK_S = 1.0  # how often overdue messages are looked for
HEARTBEAT_S = 60.0
FIRST_RECONNECT_S = 0.25
LAST_RECONNECT_S = 5.0
MQTT_KEEPALIVE_S = 30
AT_MOST_ONCE, AT_LEAST_ONCE = SubscribeOptions(qos=0), SubscribeOptions(qos=1)
# Numbers of the lanes, for services that name a lane by its number.
_LANE_OF = {"live": "live", "backfill": "backfill", 0: "live", 1: "backfill"}


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker listens; with the file of a certificate authority, over TLS."""

    host: str = "127.0.0.1"
    port: int = 1883
    cafile: Path | None = None


@dataclass(slots=True)
class Pending:
    """A message on its way: when it went last (monotonic seconds) and how long it may stay unanswered."""

    sent_at_s: float
    wait_s: float


@dataclass(slots=True)
class Lane:
    """What is on its way on one lane; `cursor` is the highest seq taken from the store on this connection."""

    name: str
    cursor: int = 0
    pending: dict[int, Pending] = field(default_factory=dict)


@dataclass(slots=True)
class Ack:
    """An application ack as the gateway understood it."""

    gateway: str
    lane: str
    seq: int
    readings: int
    answer: Tally
    reasons: dict[str, int]
    rejected: list[tuple[int | None, str]]  # (index, reason); index None: the message as a whole
    waited_s: float | None  # since it was sent last; None for an answer that nobody waited for


class Gateway:
    """One device. Not thread-safe: a `simulators.loop.Loop` runs it, together with others, in one thread."""

    def __init__(
        self,
        code: str,
        password: str,
        store: Store,
        broker: Broker,
        *,
        on_ack: Callable[[Ack], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.code, self.store, self.broker, self.clock = code, store, broker, clock
        self.refusal: str | None = None  # why the broker refused the last connection, None when it did not
        self.is_connected = False
        self.acks_ignored = 0
        self.sent_messages = 0
        self.client: Client | None = None
        self.on_socket_close: Callable[[Any], None] = lambda _: None  # told before a socket goes; set by the loop
        self.reconnect_at_s = 0.0
        self._password, self._on_ack = password, on_ack
        self._lanes = {name: Lane(name) for name in LANES}
        self._reconnect_s = FIRST_RECONNECT_S
        self._heartbeat_at_s = 0.0
        self._look_at_s = 0.0  # when to look for overdue messages

    # -- connection ---------------------------------------------------------------------------------------------

    def connect(self, now_s: float) -> None:
        """Start a fresh connection. Nothing is left to the library's session: the store knows what is unanswered."""
        self.client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=self.code, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.username_pw_set(self.code, self._password)
        client.will_set(self._topic("up/state"), self._state("offline"), qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_message = self._received
        client.on_socket_close = lambda _client, _userdata, closing: self.on_socket_close(closing)
        client.connect_timeout = 3.0
        # The library keeps at most 20 messages without the broker's PUBACK, Mosquitto's default Receive Maximum; the
        # rest of the window waits in the library.
        try:
            if self.broker.cafile is not None:
                client.tls_set(str(self.broker.cafile))
            client.connect(self.broker.host, self.broker.port, keepalive=MQTT_KEEPALIVE_S)
        except OSError as error:
            self.refusal = f"{self.broker.host}:{self.broker.port}: {error}"
            self._lost(now_s)

    def abort(self) -> None:
        """Cut the connection without a word, as a dead network would; the broker publishes the last will."""
        connection = self.client.socket() if self.client is not None else None
        if isinstance(connection, socket.socket):
            connection.shutdown(socket.SHUT_RDWR)

    def fall_silent(self) -> None:
        """Cut the connection and never come back."""
        if self.client is not None:
            self.abort()
        self._reconnect_s = math.inf

    def say_goodbye(self) -> None:
        """Publish the retained `offline` and disconnect in good order."""
        if self.client is not None and self.is_connected:
            self.client.publish(self._topic("up/state"), self._state("offline"), qos=0, retain=True)
            self.client.disconnect()
        self.client, self.is_connected = None, False

    def _lost(self, now_s: float) -> None:
        self.client, self.is_connected = None, False
        self.reconnect_at_s = now_s + self._reconnect_s
        self._reconnect_s = max(self._reconnect_s, min(self._reconnect_s * 2, LAST_RECONNECT_S))

    def _connected(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refusal = f"the broker refuses {self.code}: {reason}"
            return
        self.is_connected, self.refusal = True, None
        self._reconnect_s, self._heartbeat_at_s = FIRST_RECONNECT_S, 0.0
        client.subscribe([(self._topic("down/ack"), AT_MOST_ONCE), (self._topic("down/request"), AT_LEAST_ONCE)])
        for lane in self._lanes.values():  # everything unanswered is sent again
            lane.cursor = 0
            lane.pending.clear()

    def _disconnected(
        self, client: Client, _: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if client is self.client:
            if reason.is_failure and self.refusal is None and self._reconnect_s < math.inf:
                self.refusal = f"{self.broker.host}:{self.broker.port}: the connection was lost"
            self._lost(time.monotonic())

    # -- sending ------------------------------------------------------------------------------------------------

    def pump(self, now_s: float) -> None:
        """Send what may be sent now: new messages up to the window, overdue ones again, the heartbeat."""
        if not self.is_connected or self.client is None:
            return
        is_time_to_look = now_s >= self._look_at_s
        if is_time_to_look:
            self._look_at_s = now_s + LOOK_S
        for lane in self._lanes.values():
            if is_time_to_look and lane.pending:
                self._resend_overdue(lane, now_s)
            free = WINDOW - len(lane.pending)
            if free > 0 and lane.cursor < self.store.last_seq(self.code, lane.name):
                for message in self.store.after(self.code, lane.name, lane.cursor, free):
                    lane.cursor = message.seq
                    self._send(lane, message, now_s, FIRST_RESEND_S)
        # The library tells of a lost connection while it sends, so the client may have gone since.
        if now_s >= self._heartbeat_at_s and self.client is not None:
            self._heartbeat_at_s = now_s + HEARTBEAT_S
            self.client.publish(self._topic("up/state"), self._state("online"), qos=1, retain=True)

    def due_at_s(self) -> float:
        """Return the monotonic instant at which something becomes due without any event."""
        if not self.is_connected:
            return self.reconnect_at_s
        is_waiting = any(lane.pending for lane in self._lanes.values())
        return min(self._heartbeat_at_s, self._look_at_s) if is_waiting else self._heartbeat_at_s

    def unacknowledged(self, lane: str) -> int:
        """Return how many messages of a lane are on their way."""
        return len(self._lanes[lane].pending)

    def _resend_overdue(self, lane: Lane, now_s: float) -> None:
        overdue = [seq for seq, pending in lane.pending.items() if now_s - pending.sent_at_s >= pending.wait_s]
        for seq in overdue:
            message = self.store.one(self.code, lane.name, seq)
            if message is None:
                del lane.pending[seq]
            else:
                self._send(lane, message, now_s, min(lane.pending[seq].wait_s * 2, LAST_RESEND_S))

    def _send(self, lane: Lane, message: Message, now_s: float, wait_s: float) -> None:
        if self.client is not None:
            lane.pending[message.seq] = Pending(now_s, wait_s)
            self.client.publish(self._topic(f"up/{lane.name}"), message.payload, qos=1)
            self.sent_messages += 1

    # -- receiving ----------------------------------------------------------------------------------------------

    def _received(self, client: Client, _: Any, message: MQTTMessage) -> None:
        try:
            body = json.loads(message.payload)
            if message.topic.endswith("/down/ack"):
                self._take_ack(body)
            elif message.topic.endswith("/down/request"):
                self._take_request(body)
        except (ValueError, KeyError, TypeError):
            self.acks_ignored += 1  # not understood: the messages stay here and are sent again

    def _take_ack(self, body: dict[str, Any]) -> None:
        lane, seq = self._lanes[_LANE_OF[body["lane"]]], int(body["seq"])
        if body["epoch"] != self.store.epoch:
            self.acks_ignored += 1
            return
        rejected = [(item["index"], str(item["reason"])) for item in body.get("rejected") or []]
        reasons: dict[str, int] = {}
        for _index, reason in rejected:
            reasons[reason] = reasons.get(reason, 0) + 1
        answer = Tally(
            accepted=int(body["accepted"]),
            duplicate=int(body["duplicate"]),
            disputed=int(body.get("disputed", 0)),
            # An ack lists only so many items; the total then stands beside them.
            rejected=int(body.get("rejected_total", sum(reasons.values()))),
        )
        readings = self.store.settle(self.code, lane.name, seq, answer, reasons)
        pending = lane.pending.pop(seq, None)
        if readings and self._on_ack is not None:
            waited_s = time.monotonic() - pending.sent_at_s if pending else None
            self._on_ack(Ack(self.code, lane.name, seq, readings, answer, reasons, rejected, waited_s))

    def _take_request(self, body: dict[str, Any]) -> None:
        """Resend what is asked for and still here; say `gone` for the rest, range by range."""
        lane, from_seq, to_seq = self._lanes[_LANE_OF[body["lane"]]], int(body["from"]), int(body["to"])
        is_ours = body["epoch"] == self.store.epoch
        held = self.store.held(self.code, lane.name, from_seq, to_seq) if is_ours else []
        for seq in held:
            if seq <= lane.cursor:  # what lies ahead is sent in its turn
                lane.pending[seq] = Pending(-LAST_RESEND_S, FIRST_RESEND_S)  # due at once
                self._look_at_s = 0.0
        if self.client is not None:
            for gone in _missing(from_seq, to_seq, held):
                answer = json.dumps({"epoch": body["epoch"], "gone": list(gone)})
                self.client.publish(self._topic(f"up/{lane.name}"), answer, qos=1)

    def _topic(self, tail: str) -> str:
        return f"nenghao/v1/{self.code}/{tail}"

    def _state(self, state: str) -> str:
        at = datetime.fromtimestamp(self.clock(), ZONE).isoformat(timespec="milliseconds")
        return json.dumps({"state": state, "sent_at": at, "queue_depth": self.store.depth(self.code)})


def _missing(from_seq: int, to_seq: int, held: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of [from_seq, to_seq] that are not in `held` (sorted)."""
    for before, after in itertools.pairwise([from_seq - 1, *held, to_seq + 1]):
        if after - before > 1:
            yield before + 1, after - 1
