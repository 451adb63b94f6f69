"""Statements of the sealer and of verification."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

# One sealer at a time in the whole installation: an advisory lock that ends with its transaction.
SEALER_LOCK = 7_230_021
# Receipts are sealed in order of commit. Clocks of ingest machines differ, and a transaction may be a minute old when
# its commit is seen (ingest's statement_timeout): what was committed an hour before the newest link is all sealed.
LOOK_BACK = "1 hour"

SEALED_COLUMNS = (
    "r.id, r.gateway_id, r.epoch, r.lane, r.seq, r.message_digest, r.rows_digest, r.accepted, r.duplicate, r.disputed,"
    " r.rejected, r.sent_at, r.received_at, r.committed_at"
)

# A reading in the byte form that a receipt's rows_digest covers: PostgreSQL's binary COPY row (ingest.store.rows).
_FIELDS = (
    "'\\x00000004'::bytea || int4send({0}.point_id) || '\\x00000008' || timestamptz_send({0}.ts)"
    " || '\\x00000008' || float8send({0}.value) || '\\x00000002' || int2send({0}.quality)"
    " || '\\x00000008' || int8send({0}.receipt_id)"
)
_STORED = (
    f"SELECT r.receipt_id, '\\x0005'::bytea || {_FIELDS.format('r')} AS bytes"
    " FROM reading r WHERE r.point_id = ANY(:points)"
    f" UNION ALL SELECT o.receipt_id, '\\x0006'::bytea || {_FIELDS.format('o')} || '\\x00000004' || int4send(o.rank)"
    " FROM reading_override o WHERE o.point_id = ANY(:points) AND o.origin = 'gateway' AND NOT (o.rank = 0 AND EXISTS ("
    "SELECT 1 FROM reading r WHERE r.point_id = o.point_id AND r.ts = o.ts AND r.value = o.value"
    " AND r.quality = o.quality AND r.receipt_id = o.receipt_id))"
)


def try_lock(connection: Connection) -> bool:
    """Become the one sealer for this transaction, or return False."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": SEALER_LOCK}).scalar_one())


def unsealed(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return committed receipts that have no link yet, in order of commit."""
    rows = connection.execute(
        text(
            f"SELECT {SEALED_COLUMNS} FROM receipt r WHERE r.committed_at >="
            " coalesce((SELECT max(committed_at) FROM seal WHERE kind = 'receipt'), '-infinity')"
            f" - interval '{LOOK_BACK}'"
            " AND NOT EXISTS (SELECT 1 FROM seal s WHERE s.receipt_id = r.id)"
            " ORDER BY r.committed_at, r.id LIMIT :limit"
        ),
        {"limit": limit},
    ).mappings()
    return [dict(row) for row in rows]


def heads(connection: Connection, gateway_ids: Sequence[int] | None = None) -> dict[int, tuple[int, bytes]]:
    """Return the newest link (number, digest) of each gateway that has one."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT ON (gateway_id) gateway_id, chain_no, digest FROM seal"
            " WHERE CAST(:ids AS bigint[]) IS NULL OR gateway_id = ANY(:ids) ORDER BY gateway_id, chain_no DESC"
        ),
        {"ids": None if gateway_ids is None else list(gateway_ids)},
    )
    return {gateway_id: (chain_no, bytes(digest)) for gateway_id, chain_no, digest in rows}


def add_links(connection: Connection, links: Sequence[dict[str, Any]]) -> None:
    """Append links: gateway_id, chain_no, kind, receipt_id, covers, digest, committed_at, sealed_at."""
    if links:
        connection.execute(
            text(
                "INSERT INTO seal (gateway_id, chain_no, kind, receipt_id, covers, digest, committed_at, sealed_at)"
                " VALUES (:gateway_id, :chain_no, :kind, :receipt_id, CAST(:covers AS jsonb), :digest,"
                " :committed_at, :sealed_at)"
            ),
            [{**one, "covers": None if one["covers"] is None else json.dumps(one["covers"])} for one in links],
        )


def gateways(connection: Connection, code: str | None) -> list[Row[Any]]:
    """Return (id, code) of all gateways, or of the one named."""
    return list(
        connection.execute(
            text("SELECT id, code FROM gateway WHERE CAST(:code AS text) IS NULL OR code = :code ORDER BY code"),
            {"code": code},
        )
    )


def chain(connection: Connection, gateway_id: int) -> list[dict[str, Any]]:
    """Return a gateway's links in order, each with its receipt as it stands now (`id` None: the receipt is gone)."""
    rows = connection.execute(
        text(
            "SELECT s.chain_no, s.kind, s.receipt_id, s.covers, s.digest,"
            f" s.committed_at AS sealed_committed_at, {SEALED_COLUMNS}"
            " FROM seal s LEFT JOIN receipt r ON r.id = s.receipt_id"
            " WHERE s.gateway_id = :gateway ORDER BY s.chain_no"
        ),
        {"gateway": gateway_id},
    ).mappings()
    return [dict(row) for row in rows]


def points_of(connection: Connection, gateway_id: int) -> list[int]:
    """Return the ids of a gateway's points."""
    return list(connection.execute(text("SELECT id FROM point WHERE gateway_id = :id"), {"id": gateway_id}).scalars())


def stored_digests(connection: Connection, points: Sequence[int]) -> dict[int, tuple[bytes, int]]:
    """Return, for each receipt, the digest over its readings as they stand in the tables now, and their number."""
    rows = connection.execute(
        text(
            "SELECT receipt_id, sha256(string_agg(bytes, ''::bytea ORDER BY bytes)), count(*)"
            f" FROM ({_STORED}) AS stored GROUP BY receipt_id"
        ),
        {"points": list(points)},
    )
    return {receipt_id: (bytes(digest), count) for receipt_id, digest, count in rows}


def readings_of(connection: Connection, points: Sequence[int], receipt_id: int, limit: int) -> list[Row[Any]]:
    """Return (gateway's point code, ts, value) of what is stored under a receipt, for naming what is wrong."""
    return list(
        connection.execute(
            text(
                "SELECT p.code, r.ts, r.value FROM reading r JOIN point p ON p.id = r.point_id"
                " WHERE r.point_id = ANY(:points) AND r.receipt_id = :receipt ORDER BY r.ts, p.code LIMIT :limit"
            ),
            {"points": list(points), "receipt": receipt_id, "limit": limit},
        )
    )


def instants_without_their_first(connection: Connection, points: Sequence[int]) -> list[Row[Any]]:
    """Return (point code, ts) of instants whose override entries lack a copy of the row in `reading`."""
    return list(
        connection.execute(
            text(
                "SELECT p.code, o.ts FROM (SELECT DISTINCT point_id, ts FROM reading_override"
                " WHERE point_id = ANY(:points)) o JOIN point p ON p.id = o.point_id"
                " JOIN reading r ON r.point_id = o.point_id AND r.ts = o.ts"
                " WHERE NOT EXISTS (SELECT 1 FROM reading_override c WHERE c.point_id = o.point_id AND c.ts = o.ts"
                " AND c.origin = 'gateway' AND c.value = r.value AND c.quality = r.quality) ORDER BY 1, 2"
            ),
            {"points": list(points)},
        )
    )


def unsealed_count(connection: Connection, gateway_id: int) -> tuple[int, datetime | None]:
    """Return how many receipts of a gateway have no link yet, and when the oldest of them was committed."""
    row = connection.execute(
        text(
            "SELECT count(*), min(r.committed_at) FROM receipt r WHERE r.gateway_id = :gateway"
            " AND NOT EXISTS (SELECT 1 FROM seal s WHERE s.receipt_id = r.id)"
        ),
        {"gateway": gateway_id},
    ).one()
    return int(row[0]), row[1]


def receipts_within(connection: Connection, points: Sequence[int], from_at: datetime, to_at: datetime) -> list[int]:
    """Return the receipts that have readings of a stretch [from_at, to_at)."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT receipt_id FROM reading WHERE point_id = ANY(:points) AND ts >= :from_at AND ts < :to_at"
            " ORDER BY 1"
        ),
        {"points": list(points), "from_at": from_at, "to_at": to_at},
    )
    return list(rows.scalars())


def reading_chunks(connection: Connection, before_at: datetime) -> list[tuple[datetime, datetime]]:
    """Return the stretches [from, to) of `reading`'s chunks that end by an instant, oldest first."""
    rows = connection.execute(
        text(
            "SELECT range_start, range_end FROM timescaledb_information.chunks"
            " WHERE hypertable_name = 'reading' AND range_end <= :before ORDER BY range_start"
        ),
        {"before": before_at},
    )
    return [(row.range_start, row.range_end) for row in rows]


def drop_chunk(connection: Connection, from_at: datetime, to_at: datetime) -> None:
    """Drop the chunk of `reading` that covers exactly [from_at, to_at)."""
    connection.execute(
        text("SELECT drop_chunks('reading', older_than => CAST(:to AS timestamptz), newer_than => :from)"),
        {"to": to_at, "from": from_at},
    )


def receipt_ids(connection: Connection, gateway_id: int) -> set[int]:
    """Return the ids of all receipts of a gateway."""
    rows = connection.execute(text("SELECT id FROM receipt WHERE gateway_id = :id"), {"id": gateway_id})
    return set(rows.scalars())
