"""The broker side of ingest and the only user of paho: one session per lane, acknowledged by hand, in order.

Each lane has its own client, session and Receive Maximum, so that a live message never waits behind the backlog. paho
runs one thread per client; what it receives goes into a bounded deque that the service empties. Every connection has a
**generation**: packet identifiers are reused after a reconnect, so an acknowledgement is sent only on the connection
on which its message came. What was not acknowledged is delivered again by the broker.
"""

import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

GROUP = "nenghao"
KEEPALIVE_S = 30
SESSION_EXPIRY_S = 300
# After a clean stop: long enough for a restart to find its messages, short enough that a process which is gone for good
# is not dealt its share of messages for long (the gateways send those again after 60 s).
SESSION_EXPIRY_AFTER_STOP_S = 30
FIRST_RECONNECT_S, LAST_RECONNECT_S = 1, 15
# States are kept by gateway, the latest alone; the bound is against made-up names.
MAX_STATES = 100_000


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and who asks. With a certificate authority the connection is TLS."""

    host: str
    port: int
    user: str
    password: str
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it came, and what is needed to acknowledge it."""

    gateway_code: str
    raw: bytes
    received_at: datetime
    packet_id: int
    generation: int
    is_redelivered: bool
    is_retained: bool


class Session:
    """A connection that comes back by itself, with its subscription; what happens to it is told to `on_event`."""

    # Whether the broker keeps messages for it while it is away.
    is_kept = True

    def __init__(
        self,
        address: BrokerAddress,
        client_name: str,
        name: str,
        subscription: str,
        *,
        receive_maximum: int,
        is_acknowledged_by_hand: bool,
        on_event: Callable[[str, dict[str, object]], None],
    ) -> None:
        self.generation = 0
        self.is_connected = self.is_subscribed = False
        self._address, self._subscription = address, subscription
        self._receive_maximum, self._on_event, self.name = receive_maximum, on_event, name
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._client = self._new_client(f"nenghao-ingest-{client_name}-{name}", is_acknowledged_by_hand)

    def start(self) -> None:
        """Connect in the background, now or whenever the broker comes."""
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.SessionExpiryInterval = SESSION_EXPIRY_S if self.is_kept else 0
        connect.ReceiveMaximum = self._receive_maximum
        self._client.connect_async(
            self._address.host, self._address.port, KEEPALIVE_S, clean_start=not self.is_kept, properties=connect
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Send what is queued, disconnect in good order and end the thread; the broker keeps the session a while."""
        self._stopping.set()
        farewell = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        farewell.SessionExpiryInterval = SESSION_EXPIRY_AFTER_STOP_S if self.is_kept else 0
        self._client.disconnect(properties=farewell)
        self._client.loop_stop()

    def receive(self, delivery: Delivery) -> None:
        """Take a message; called in paho's thread, must not block or raise."""
        raise NotImplementedError

    def publish(self, topic: str, body: bytes) -> None:
        """Send at QoS 0, if connected."""
        with self._lock:
            if self.is_connected:
                self._client.publish(topic, body, qos=0)

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge messages, in the order in which they came; those of an earlier connection are left out."""
        with self._lock:
            for delivery in deliveries:
                if self.is_connected and delivery.generation == self.generation:
                    self._client.ack(delivery.packet_id, 1)

    def _new_client(self, client_id: str, is_acknowledged_by_hand: bool) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=is_acknowledged_by_hand,
        )
        client.username_pw_set(self._address.user, self._address.password)
        if self._address.ca_file is not None:
            client.tls_set(str(self._address.ca_file))
        client.reconnect_delay_set(FIRST_RECONNECT_S, LAST_RECONNECT_S)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail, client.on_message = self._connect_failed, self._message
        client.on_subscribe, client.on_socket_open = self._subscribed, _send_at_once
        return client

    def _connected(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._on_event("broker refuses", {"session": self.name, "reason": str(reason)})
            return
        with self._lock:
            self.generation += 1
            self.is_connected = True
            # Every time: the broker may have forgotten the session, or lost all of them.
            client.subscribe(self._subscription, options=SubscribeOptions(qos=1))
        self._on_event("broker connected", {"session": self.name, "session_present": flags.session_present})

    def _subscribed(
        self, client: Client, _: Any, packet_id: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self.is_subscribed = not any(reason.is_failure for reason in reasons)
        if not self.is_subscribed:
            self._on_event("broker refuses the subscription", {"session": self.name, "topic": self._subscription})

    def _disconnected(
        self, client: Client, _: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._lock:  # nothing is queued on a dead connection: paho empties its queue when it reconnects
            self.generation += 1
            self.is_connected = self.is_subscribed = False
        if not self._stopping.is_set():
            self._on_event("broker lost", {"session": self.name, "reason": str(reason)})
            self._spread()

    def _connect_failed(self, client: Client, _: Any) -> None:
        self._on_event("broker unreachable", {"session": self.name})
        self._spread()

    def _spread(self) -> None:
        """Wait a random part of a second: paho backs off by doubling, but all sessions in step."""
        self._stopping.wait(random.uniform(0, 1))  # noqa: S311 - only spreads load

    def _message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        levels = message.topic.split("/")
        code = levels[2] if len(levels) > 2 else ""
        now = datetime.now(UTC)
        self.receive(
            Delivery(code, bytes(message.payload), now, message.mid, self.generation, message.dup, message.retain)
        )


class LaneSession(Session):
    """The session of a data lane: messages wait in a deque, no more than the broker may have unacknowledged."""

    def __init__(
        self,
        address: BrokerAddress,
        client_name: str,
        lane: str,
        *,
        receive_maximum: int,
        wake: threading.Event,
        on_event: Callable[[str, dict[str, object]], None],
    ) -> None:
        super().__init__(
            address,
            client_name,
            lane,
            f"$share/{GROUP}/nenghao/v1/+/up/{lane}",
            receive_maximum=receive_maximum,
            is_acknowledged_by_hand=True,
            on_event=on_event,
        )
        self._waiting: deque[Delivery] = deque()
        self._waiting_generation = 0
        self._wake = wake
        self._is_open = True

    def receive(self, delivery: Delivery) -> None:
        """Keep a message until the service takes it. One too many is left to the broker, which delivers it again."""
        if delivery.generation != self._waiting_generation:
            self._waiting_generation = delivery.generation
            self._waiting.clear()  # came on an earlier connection, comes again on this one
        if self._is_open and len(self._waiting) < self._receive_maximum:
            self._waiting.append(delivery)
            if not self._wake.is_set():
                self._wake.set()

    def take(self) -> Delivery | None:
        """Return the message that has waited longest, or None."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def __len__(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Take nothing more in; what comes from now on stays with the broker."""
        self._is_open = False


class StateSession(Session):
    """The session of the state topic: the latest message of each gateway. Not shared, so retained ones come too.

    It starts clean: a heartbeat kept for it would come late and look like a clock that is behind.
    """

    is_kept = False

    def __init__(
        self,
        address: BrokerAddress,
        client_name: str,
        *,
        on_event: Callable[[str, dict[str, object]], None],
    ) -> None:
        super().__init__(
            address,
            client_name,
            "state",
            "nenghao/v1/+/up/state",
            receive_maximum=1000,
            is_acknowledged_by_hand=False,
            on_event=on_event,
        )
        self._latest: dict[str, Delivery] = {}
        self._latest_lock = threading.Lock()

    def receive(self, delivery: Delivery) -> None:
        """Keep the latest state of a gateway."""
        with self._latest_lock:
            if delivery.gateway_code in self._latest or len(self._latest) < MAX_STATES:
                self._latest[delivery.gateway_code] = delivery

    def take(self) -> list[Delivery]:
        """Return the latest states that came since the last call."""
        with self._latest_lock:
            taken, self._latest = list(self._latest.values()), {}
        return taken

    def give_back(self, taken: Iterable[Delivery]) -> None:
        """Keep states that could not be written for the next `take`; what came meanwhile is newer and stays."""
        with self._latest_lock:
            self._latest = {delivery.gateway_code: delivery for delivery in taken} | self._latest


def _send_at_once(_: Client, __: Any, connection: Any) -> None:
    """Turn Nagle's algorithm off: it holds small acks back for up to 40 ms, and the broker waits for them."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def ack_topic(gateway_code: str) -> str:
    """Return the topic on which a gateway hears what became of its messages."""
    return f"nenghao/v1/{gateway_code}/down/ack"


def request_topic(gateway_code: str) -> str:
    """Return the topic on which a gateway is asked to send messages again."""
    return f"nenghao/v1/{gateway_code}/down/request"
