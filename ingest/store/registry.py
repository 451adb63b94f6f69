"""The registry as ingest needs it, cached: gateway code → id, zone, points with their first installation."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from ingest.store.arrivals import Gateway

# How long an entry is believed, and how soon it is read again when a message does not fit it.
BELIEVED_S = 30.0
REREAD_S = 5.0
# Codes that nobody registered; bounded, because anyone with a broker account can make them up.
MAX_UNKNOWN = 10_000
# A point without any installation: no instant is after its installation.
NEVER_US = 2**62

_GATEWAYS = "SELECT id, code, zone, is_enabled FROM gateway WHERE code = ANY(%s)"
_POINTS = """
    SELECT p.gateway_id, p.code, p.id, min(i.from_at) FROM point p
    LEFT JOIN meter_installation i ON i.point_id = p.id
    WHERE p.gateway_id = ANY(%s) GROUP BY p.id
"""
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Entry:
    gateway: Gateway | None
    read_s: float


class Registry:
    """A cache of gateways; entries age, and one that does not fit is read again at most every five seconds."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def load(self, connection: psycopg.Connection[Any], codes: Iterable[str], *, newer_than_s: float) -> None:
        """Read the gateways of `codes` whose entry was read before the monotonic instant `newer_than_s`."""
        missing = [code for code in codes if self._read_s(code) < newer_than_s]
        if not missing:
            return
        now_s = time.monotonic()
        found = _read(connection, missing)
        if len(self._entries) > MAX_UNKNOWN:
            self._entries = {code: entry for code, entry in self._entries.items() if entry.gateway}
        self._entries |= {code: _Entry(found.get(code), now_s) for code in missing}

    def get(self, code: str) -> Gateway | None:
        """Return a gateway that `load` was asked for, or None if nobody registered it."""
        entry = self._entries.get(code)
        return entry.gateway if entry else None

    def may_reread(self, code: str) -> bool:
        """Whether the entry is old enough to be read again because something does not fit it."""
        return time.monotonic() - self._read_s(code) >= REREAD_S

    def forget(self) -> None:
        """Believe nothing any more; everything is read again when it is needed."""
        self._entries.clear()

    def _read_s(self, code: str) -> float:
        entry = self._entries.get(code)
        return entry.read_s if entry else float("-inf")


def _read(connection: psycopg.Connection[Any], codes: list[str]) -> dict[str, Gateway]:
    gateways = connection.execute(_GATEWAYS, [codes]).fetchall()
    points: dict[int, dict[str, tuple[int, int]]] = {row[0]: {} for row in gateways}
    for gateway_id, code, point_id, from_at in connection.execute(_POINTS, [list(points)]):
        points[gateway_id][code] = (point_id, _microseconds(from_at))
    return {code: Gateway(id_, code, zone, is_enabled, points[id_]) for id_, code, zone, is_enabled in gateways}


def _microseconds(at: datetime | None) -> int:
    return NEVER_US if at is None else (at - _UNIX_EPOCH) // timedelta(microseconds=1)
