"""Registry entries to begin from, and a client that tells what the broker lets an account do."""

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from app.domain.credit_code import with_check_digit
from app.settings import Settings

NOW = datetime(2026, 10, 5, tzinfo=UTC)
START = "2026-01-01T00:00:00+08:00"
USCC = with_check_digit("91120000MA0000001")


def point(code: str = "E001", **changes: Any) -> dict[str, Any]:
    return {
        "code": code, "carrier_key": "electricity", "signal": "register", "unit": "kWh",
        "installations": [{"from_at": START, "serial": "S1", "multiplier": "80", "digits": 8, "rated_load": "20000"}],
        "assignments": [{"from_at": START, "process_unit": "kiln", "flow": "in"}], **changes,
    }  # fmt: skip


def enterprise(uscc: str = USCC, gateway: str = "gw-1-a", **changes: Any) -> dict[str, Any]:
    return {
        "uscc": uscc, "name_zh": "示例水泥", "name_en": "Example Cement", "from_on": "2026-01-01",
        "district_code": "120119", "industry_code": "3011",
        "process_units": [
            {"code": "kiln", "parent": "plant", "scope": 2, "name_zh": "烧成"},
            {"code": "plant", "scope": 1, "name_zh": "全厂"},
        ],
        "lines": [{"code": "kiln-1", "process_unit": "kiln", "name_zh": "一线", "from_on": "2026-01-01",
                   "variant_key": "ndrc723-15-cement-clinker", "capacity": "5000", "capacity_unit": "t/d"}],
        "gateways": [{"code": gateway, "points": [point()]}], **changes,
    }  # fmt: skip


class Session:
    """A client under one account, its refusals and what it received; its identifier is the account's name."""

    def __init__(
        self, settings: Settings, user: str | None, password: str | None, *, identifier: str | None = None
    ) -> None:
        self.received: queue.Queue[str] = queue.Queue()
        self._events: queue.Queue[tuple[str, bool]] = queue.Queue()
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=identifier or user or "", protocol=MQTTProtocolVersion.MQTTv5
        )
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self._events.put(("connect", not reason.is_failure))
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._events.put(
            ("subscribe", not reasons[0].is_failure)
        )
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self._events.put(("publish", not reason.is_failure))
        self.client.on_disconnect = lambda *_: self._events.put(("end", True))
        self.client.on_message = lambda _c, _u, message: self.received.put(message.topic)
        self.client.connect("127.0.0.1", settings.broker_port)
        self.client.loop_start()
        self.is_connected = self._await("connect")

    def _await(self, wanted: str) -> bool:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            kind, outcome = self._events.get(timeout=10)
            if kind == wanted:
                return outcome
        raise AssertionError(f"no {wanted} in time")

    def may_subscribe(self, topic: str) -> bool:
        self.client.subscribe(topic, qos=1)
        return self._await("subscribe")

    def may_publish(self, topic: str) -> bool:
        self.client.publish(topic, "{}", qos=1)
        return self._await("publish")

    def was_ended(self) -> bool:
        return self._await("end")


@contextmanager
def session(
    settings: Settings, user: str | None, password: str | None, *, identifier: str | None = None
) -> Iterator[Session]:
    opened = Session(settings, user, password, identifier=identifier)
    try:
        yield opened
    finally:
        opened.client.disconnect()
        opened.client.loop_stop()
