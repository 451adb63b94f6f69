"""Acknowledgements go back on the connection on which their message came, or not at all."""

import threading
from typing import Any, cast

import pytest
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from ingest.mqtt import BrokerAddress, Delivery, LaneSession


class Wire:
    """Stands for paho's client where a real one would need a broker that reuses packet identifiers on demand."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.published: list[str] = []

    def ack(self, packet_id: int, _: int) -> None:
        self.acknowledged.append(packet_id)

    def publish(self, topic: str, _: bytes, qos: int) -> None:
        self.published.append(topic)

    def subscribe(self, *_: Any, **__: Any) -> None:
        """Every connection subscribes."""


@pytest.fixture
def session() -> LaneSession:
    address = BrokerAddress("127.0.0.1", 1, "u", "p")
    made = LaneSession(address, "t", "live", receive_maximum=3, wake=threading.Event(), on_event=lambda *_: None)
    made._client = cast(Any, Wire())
    made._stopping.set()  # no pause before a reconnect that never comes
    return made


def connect(session: LaneSession) -> None:
    reason = ReasonCode(PacketTypes.CONNACK, "Success")
    session._connected(session._client, None, ConnectFlags(session_present=True), reason, None)


def disconnect(session: LaneSession) -> None:
    reason = ReasonCode(PacketTypes.DISCONNECT, "Unspecified error")
    session._disconnected(session._client, None, DisconnectFlags(False), reason, None)


def arrive(session: LaneSession, packet_id: int) -> None:
    message = MQTTMessage(packet_id, b"nenghao/v1/gw-1/up/live")
    message.payload = b"{}"
    session._message(session._client, None, message)


def taken(session: LaneSession) -> list[Delivery]:
    return list(iter(session.take, None))


def test_messages_of_an_earlier_connection_are_not_acknowledged(session: LaneSession) -> None:
    wire = cast(Wire, session._client)
    connect(session)
    arrive(session, 1)
    arrive(session, 2)
    first = taken(session)
    session.acknowledge(first[:1])
    disconnect(session)
    session.acknowledge(first[1:])
    session.publish("t", b"")
    connect(session)
    session.acknowledge(first[1:])
    assert (wire.acknowledged, wire.published) == ([1], [])
    arrive(session, 2)
    session.acknowledge(taken(session))
    session.publish("t", b"")
    assert (wire.acknowledged, wire.published) == ([1, 2], ["t"])


def test_what_waited_from_an_earlier_connection_is_dropped_when_it_comes_again(session: LaneSession) -> None:
    connect(session)
    arrive(session, 1)
    arrive(session, 2)
    disconnect(session)
    connect(session)
    arrive(session, 1)
    assert [delivery.generation for delivery in taken(session)] == [session.generation]


def test_no_more_waits_than_the_receive_maximum(session: LaneSession) -> None:
    connect(session)
    for packet_id in range(1, 6):
        arrive(session, packet_id)
    assert [delivery.packet_id for delivery in taken(session)] == [1, 2, 3]
    session.close()
    arrive(session, 6)
    assert taken(session) == []
