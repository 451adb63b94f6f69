"""A bare gateway for tests: it sends whatever bytes it is told and keeps the acks it gets."""

import json
import queue
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


class Device:
    """One connection with one account; use it as a context."""

    def __init__(self, port: int, code: str, password: str) -> None:
        self.code = code
        self.acks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.disconnects: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=code, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(code, password)
        self._client.on_message = lambda _c, _u, message: self.acks.put(json.loads(message.payload))
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: self.disconnects.put(str(reason))
        self._subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._client.on_connect = lambda client, _u, _f, _r, _p: client.subscribe(f"nenghao/v1/{code}/down/#", qos=1)
        self._client.on_subscribe = lambda _c, _u, _m, _r, _p: self._subscribed.put(True)
        self._port = port

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._subscribed.get(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, payload: bytes | dict[str, Any], lane: str = "live") -> None:
        """Publish one message at QoS 1 without waiting."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(f"nenghao/v1/{self.code}/up/{lane}", body, qos=1)

    def asked(self, payload: bytes | dict[str, Any], lane: str = "live") -> dict[str, Any]:
        """Publish one message and return its ack."""
        self.send(payload, lane)
        return self.acks.get(timeout=20)
