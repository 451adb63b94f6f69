"""Edits: entries of a person beside those of the gateway. Raw readings stay; what counts is the highest rank."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope

# Ranks are counted up from what is there; one change at a time keeps the count right.
EDIT_LOCK = 7_230_026
# So much is listed where no first instant is given.
DEFAULT_RANGE = timedelta(days=92)
Instant = tuple[int, datetime]  # point id, ts
_KEYS = "unnest(CAST(:points AS integer[]), CAST(:instants AS timestamptz[])) AS k (point_id, ts)"
_COLUMNS = (
    "point_id integer, ts timestamptz, rank integer, value double precision, quality smallint, origin text,"
    " receipt_id bigint, actor text, reason text, evidence text, recorded_at timestamptz"
)


@dataclass(frozen=True, slots=True)
class Point:
    """A point by its ids, and since when a meter has been behind it."""

    point_id: int
    gateway_id: int
    installed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of `reading`."""

    value: float
    quality: int
    receipt_id: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of an entry of an overridden instant."""

    rank: int
    origin: str
    value: float | None
    actor: str | None
    reason: str | None
    evidence: str | None


def lock(connection: Connection) -> None:
    """Wait until no other edit is being written; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": EDIT_LOCK})


def find_points(connection: Connection, scope: Scope, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Point]:
    """Return the points in scope by (gateway code, point code)."""
    rows = connection.execute(
        text(
            "SELECT g.code, p.code, p.id, g.id,"
            " (SELECT min(i.from_at) FROM meter_installation i WHERE i.point_id = p.id)"
            " FROM unnest(CAST(:gateways AS text[]), CAST(:codes AS text[])) AS k (gateway, code)"
            " JOIN gateway g ON g.code = k.gateway JOIN point p ON p.gateway_id = g.id AND p.code = k.code"
            f" JOIN enterprise e ON e.id = g.enterprise_id WHERE {scope.enterprises_sql()}"
        ),
        {"gateways": [g for g, _ in names], "codes": [p for _, p in names], **scope.parameters()},
    )
    return {(gateway, code): Point(*facts) for gateway, code, *facts in rows}


def lock_readings(connection: Connection, instants: Sequence[Instant]) -> dict[Instant, Reading]:
    """Lock and return the rows of `reading` at these instants, in the order in which ingest locks them."""
    rows = connection.execute(
        text(
            f"SELECT r.point_id, r.ts, r.value, r.quality, r.receipt_id FROM {_KEYS}"
            " JOIN reading r ON r.point_id = k.point_id AND r.ts = k.ts"
            # The bounds let the planner leave out the chunks that cannot hold any of the instants.
            " WHERE r.ts BETWEEN :first AND :last ORDER BY r.point_id, r.ts FOR UPDATE OF r"
        ),
        {**_keys(instants), "first": min(ts for _, ts in instants), "last": max(ts for _, ts in instants)},
    )
    return {(point_id, ts): Reading(*facts) for point_id, ts, *facts in rows}


def entries(connection: Connection, instants: Sequence[Instant]) -> dict[Instant, list[Entry]]:
    """Return the override entries of these instants, in order of rank."""
    rows = connection.execute(
        text(
            "SELECT o.point_id, o.ts, o.rank, o.origin, o.value, o.actor, o.reason, o.evidence"
            f" FROM {_KEYS} JOIN reading_override o USING (point_id, ts) ORDER BY o.rank"
        ),
        _keys(instants),
    )
    found: dict[Instant, list[Entry]] = {}
    for point_id, ts, *facts in rows:
        found.setdefault((point_id, ts), []).append(Entry(*facts))
    return found


def _keys(instants: Sequence[Instant]) -> dict[str, Any]:
    return {"points": [point_id for point_id, _ in instants], "instants": [ts for _, ts in instants]}


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append entries to `reading_override`; columns that a row does not name are null."""
    names = ", ".join(column.split()[0] for column in _COLUMNS.split(", "))
    connection.execute(
        text(
            f"INSERT INTO reading_override ({names})"
            f" SELECT {names} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_COLUMNS})"
        ),
        {"rows": json.dumps(list(rows), ensure_ascii=False, allow_nan=False, default=_instant_text)},
    )


def _instant_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} cannot be written as JSON")


def close_disputes(connection: Connection, instants: Sequence[Instant], *, actor: str, note: str, now: datetime) -> int:
    """Close the open disputes of these instants; return how many there were."""
    closed = connection.execute(
        text(
            f"UPDATE finding f SET closed_at = :now, closed_by = :actor, note = :note FROM {_KEYS}"
            " WHERE f.point_id = k.point_id AND f.from_at = k.ts AND f.reason = 'disputed' AND f.closed_at IS NULL"
        ),
        {**_keys(instants), "now": now, "actor": actor, "note": note},
    )
    return closed.rowcount


# Every entry of the overridden instants. The reading joins them where it arrived after a manual value: it has no entry.
_LIST = """
WITH instant AS (
  SELECT DISTINCT o.point_id, o.ts, p.code FROM reading_override o JOIN point p ON p.id = o.point_id
  WHERE p.gateway_id = :gateway_id AND (CAST(:point AS text) IS NULL OR p.code = :point)
    AND o.ts >= coalesce(CAST(:from_at AS timestamptz), '-infinity')
    AND o.ts < coalesce(CAST(:to_at AS timestamptz), 'infinity')
  ORDER BY o.ts DESC, p.code LIMIT :limit
), entry AS (
  SELECT o.id, i.code, o.point_id, o.ts, o.rank, o.value, o.quality, o.origin, o.receipt_id, o.actor, o.reason,
         o.evidence, o.recorded_at
  FROM instant i JOIN reading_override o USING (point_id, ts)
  UNION ALL
  SELECT 0, i.code, r.point_id, r.ts, 0, r.value, r.quality, 'gateway', r.receipt_id, NULL, NULL, NULL, c.committed_at
  FROM instant i JOIN reading r USING (point_id, ts) LEFT JOIN receipt c ON c.id = r.receipt_id
  WHERE NOT EXISTS (SELECT FROM reading_override o
                    WHERE o.point_id = r.point_id AND o.ts = r.ts AND o.origin = 'gateway')
)
SELECT e.code AS point, e.ts, e.rank, CAST(CAST(e.value AS text) AS numeric) AS value, e.quality, e.origin,
       max(e.rank) OVER same = e.rank AND count(*) OVER top = 1 AS counts,
       e.receipt_id, c.epoch, c.lane, c.seq, e.actor, e.reason, e.evidence, e.recorded_at
FROM entry e LEFT JOIN receipt c ON c.id = e.receipt_id
WINDOW same AS (PARTITION BY e.point_id, e.ts), top AS (PARTITION BY e.point_id, e.ts, e.rank)
ORDER BY e.ts DESC, e.code, e.rank, e.id
"""


def list_entries(
    connection: Connection,
    gateway_id: int,
    *,
    limit: int,
    point: str | None = None,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return all entries of the latest `limit` overridden instants in [from, to) of a gateway found in scope.

    `counts` marks the one entry that counts: the single one at the highest rank; none in a dispute.
    """
    rows = connection.execute(
        text(_LIST),
        {"gateway_id": gateway_id, "point": point, "from_at": from_at, "to_at": to_at, "limit": limit},
    ).mappings()
    return [dict(row) for row in rows]
