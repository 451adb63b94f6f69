"""A small registry for the tests of ingest, written by SQL, and messages of its gateways."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from ingest.store import Arrival, Outcome

INSTALLED_AT = datetime(2020, 1, 1, tzinfo=UTC)
FIRST_AT = datetime(2026, 3, 1, tzinfo=UTC)
RECEIVED_AT = datetime(2026, 6, 1, tzinfo=UTC)

_REGISTRY = """
    INSERT INTO district (code, name_zh, name_en, level, source, confidence)
        VALUES ('120101', '和平区', 'Heping', 'district', 'test', 'recalled') ON CONFLICT DO NOTHING;
    INSERT INTO unit_of_measure (unit, canonical_unit, canonical_per_unit, source, confidence)
        VALUES ('kWh', 'kWh', 1, 'test', 'recalled') ON CONFLICT DO NOTHING;
    INSERT INTO enterprise (uscc, name_zh) VALUES ('91120000MA0000001X', '测试') ON CONFLICT DO NOTHING;
"""


@dataclass(frozen=True)
class Site:
    """A database with gateways, each with the points E000, E001, ..."""

    url: str
    gateway_ids: dict[str, int]

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in its own transaction and return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self.query(f"SELECT count(*) FROM {table}")[0][0]


def build_site(url: str, *codes: str, points: int = 3) -> Site:
    """Write the registry of some gateways."""
    ids = {}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_REGISTRY)
        for code in codes:
            row = connection.execute(
                "INSERT INTO gateway (code, enterprise_id) SELECT %s, id FROM enterprise LIMIT 1 RETURNING id", [code]
            ).fetchone()
            assert row is not None
            ids[code] = row[0]
    site = Site(url, ids)
    for code in codes:
        for number in range(points):
            add_point(site, code, f"E{number:03d}")
    return site


def add_point(site: Site, gateway: str, code: str) -> int:
    """Register a point, installed since 2020."""
    point_id = site.query(
        "INSERT INTO point (gateway_id, code, signal, unit) VALUES (%s, %s, 'register', 'kWh') RETURNING id",
        site.gateway_ids[gateway],
        code,
    )[0][0]
    site.query(
        "INSERT INTO meter_installation (point_id, from_at, serial) VALUES (%s, %s, 'S')", point_id, INSTALLED_AT
    )
    return int(point_id)


def reading(number: int, value: float, *, point: str = "E000", **more: Any) -> dict[str, Any]:
    """Return the reading of the quarter hour `number` after FIRST_AT."""
    return {"point": point, "ts": (FIRST_AT + timedelta(minutes=15 * number)).isoformat(), "value": value, **more}


def arrival(gateway: str, seq: int, readings: list[Any], *, lane: int = 0, epoch: str = "e1") -> Arrival:
    """Return a message of these readings as it arrives."""
    body = json.dumps({"epoch": epoch, "seq": seq, "readings": readings}).encode()
    return Arrival(gateway, lane, body, RECEIVED_AT)


def counts(outcome: Outcome) -> tuple[int, int, int, list[tuple[int | None, str]]]:
    """Return (accepted, duplicate, disputed, rejected) of an outcome's ack."""
    assert outcome.ack is not None
    ack = outcome.ack
    return ack.accepted, ack.duplicate, ack.disputed, list(ack.rejected)
