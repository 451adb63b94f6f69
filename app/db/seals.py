"""Statements of the sealer and of verification."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

# One sealer at a time in the whole installation: an advisory lock that ends with its transaction.
SEALER_LOCK = 7_230_041
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
# What retention dropped is no part of the evidence any more: neither are entries left over from its stretches.
_STORED = (
    "SELECT * FROM ("
    f"SELECT r.receipt_id, r.ts, '\\x0005'::bytea || {_FIELDS.format('r')} AS bytes"
    " FROM reading r WHERE r.point_id = ANY(:points)"
    f" UNION ALL SELECT o.receipt_id, o.ts,"
    f" '\\x0006'::bytea || {_FIELDS.format('o')} || '\\x00000004' || int4send(o.rank)"
    " FROM reading_override o WHERE o.point_id = ANY(:points) AND o.origin = 'gateway' AND NOT (o.rank = 0 AND EXISTS ("
    "SELECT 1 FROM reading r WHERE r.point_id = o.point_id AND r.ts = o.ts AND r.value = o.value"
    " AND r.quality = o.quality AND r.receipt_id = o.receipt_id))) AS s"
    " WHERE (CAST(:receipts AS bigint[]) IS NULL OR s.receipt_id = ANY(:receipts))"
    " AND NOT EXISTS (SELECT FROM unnest(CAST(:dropped_from AS timestamptz[]), CAST(:dropped_to AS timestamptz[]))"
    " AS d (from_at, to_at) WHERE s.ts >= d.from_at AND s.ts < d.to_at)"
)
Span = tuple[datetime, datetime]  # [from, to)


def try_lock(connection: Connection) -> bool:
    """Become the one sealer for this transaction, or return False."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": SEALER_LOCK}).scalar_one())


def unsealed(connection: Connection, limit: int, *, is_thorough: bool = False) -> list[dict[str, Any]]:
    """Return committed receipts that have no link yet, in order of commit; thorough: however old they are."""
    newest = "(SELECT max(committed_at) FROM seal WHERE kind = 'receipt')"
    since = "'-infinity'" if is_thorough else f"coalesce({newest} - interval '{LOOK_BACK}', '-infinity')"
    rows = connection.execute(
        text(
            f"SELECT {SEALED_COLUMNS} FROM receipt r WHERE r.committed_at >= {since}"
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


def chain(connection: Connection, gateway_id: int, first_no: int, last_no: int) -> list[dict[str, Any]]:
    """Return links first_no to last_no of a gateway, each with its receipt as it is now (`id` None: it is gone)."""
    rows = connection.execute(
        text(
            "SELECT s.chain_no, s.kind, s.receipt_id, s.covers, s.digest,"
            f" s.committed_at AS sealed_committed_at, {SEALED_COLUMNS}"
            " FROM seal s LEFT JOIN receipt r ON r.id = s.receipt_id"
            " WHERE s.gateway_id = :gateway AND s.chain_no BETWEEN :first AND :last ORDER BY s.chain_no"
        ),
        {"gateway": gateway_id, "first": first_no, "last": last_no},
    ).mappings()
    return [dict(row) for row in rows]


def numbers_within(
    connection: Connection, gateway_id: int, from_at: datetime | None, to_at: datetime | None
) -> tuple[int, int]:
    """Return the first and last number of the links whose receipts were committed in [from_at, to_at); (1, 0): none."""
    row = connection.execute(
        text(
            "SELECT min(chain_no), max(chain_no) FROM seal WHERE gateway_id = :gateway"
            " AND committed_at >= coalesce(CAST(:from_at AS timestamptz), '-infinity')"
            " AND committed_at < coalesce(CAST(:to_at AS timestamptz), 'infinity')"
        ),
        {"gateway": gateway_id, "from_at": from_at, "to_at": to_at},
    ).one()
    return (row[0], row[1]) if row[0] is not None else (1, 0)


def link_digest(connection: Connection, gateway_id: int, number: int) -> bytes | None:
    """Return the digest of a link, None where there is no such link."""
    found = connection.execute(
        text("SELECT digest FROM seal WHERE gateway_id = :gateway AND chain_no = :number"),
        {"gateway": gateway_id, "number": number},
    ).scalar()
    return None if found is None else bytes(found)


def tombstones(connection: Connection, gateway_id: int) -> list[dict[str, Any]]:
    """Return what a gateway's tombstones cover (`from`, `to`, `receipts`), oldest first."""
    rows = connection.execute(
        text("SELECT covers FROM seal WHERE gateway_id = :gateway AND kind = 'tombstone' ORDER BY chain_no"),
        {"gateway": gateway_id},
    )
    return [dict(covers) for covers in rows.scalars()]


def stored_digests(
    connection: Connection, points: Sequence[int], dropped: Sequence[Span], receipt_ids: Sequence[int] | None
) -> dict[int, tuple[bytes, int]]:
    """Return, for each receipt, the digest over its readings as they stand in the tables now, and their number."""
    rows = connection.execute(
        text(
            "SELECT receipt_id, sha256(string_agg(bytes, ''::bytea ORDER BY bytes)), count(*)"
            f" FROM ({_STORED}) AS stored GROUP BY receipt_id"
        ),
        _stored_parameters(points, dropped, receipt_ids),
    )
    return {receipt_id: (bytes(digest), count) for receipt_id, digest, count in rows}


def stored_rows(connection: Connection, points: Sequence[int], dropped: Sequence[Span], receipt_id: int) -> list[bytes]:
    """Return the readings of a receipt as they stand in the tables now, in the form that its digest covers."""
    rows = connection.execute(
        text(f"SELECT bytes FROM ({_STORED}) AS stored ORDER BY bytes"),
        _stored_parameters(points, dropped, [receipt_id]),
    )
    return [bytes(row) for row in rows.scalars()]


def _stored_parameters(
    points: Sequence[int], dropped: Sequence[Span], receipt_ids: Sequence[int] | None
) -> dict[str, Any]:
    return {
        "points": list(points),
        "receipts": None if receipt_ids is None else list(receipt_ids),
        "dropped_from": [from_at for from_at, _ in dropped],
        "dropped_to": [to_at for _, to_at in dropped],
    }


def copies(connection: Connection, receipt_ids: Sequence[int]) -> dict[int, bytes]:
    """Return the copy of the readings of those receipts that have one (see app.domain.receipt_rows)."""
    rows = connection.execute(
        text("SELECT id, rows_copy FROM receipt WHERE id = ANY(:ids) AND rows_copy IS NOT NULL"),
        {"ids": list(receipt_ids)},
    )
    return {receipt_id: bytes(copy) for receipt_id, copy in rows}


def forget_copies(connection: Connection, receipt_ids: Sequence[int]) -> None:
    """Drop the copies of receipts whose readings were all dropped."""
    connection.execute(text("UPDATE receipt SET rows_copy = NULL WHERE id = ANY(:ids)"), {"ids": list(receipt_ids)})


def point_codes(connection: Connection, gateway_id: int) -> dict[int, str]:
    """Return the codes of a gateway's points by id."""
    rows = connection.execute(text("SELECT id, code FROM point WHERE gateway_id = :id"), {"id": gateway_id})
    return {row.id: row.code for row in rows}


def instants_without_their_first(connection: Connection, points: Sequence[int]) -> list[Row[Any]]:
    """Return (point code, ts) of instants whose override entries lack a copy of the row in `reading`."""
    return list(
        connection.execute(
            text(
                "SELECT p.code, o.ts FROM (SELECT DISTINCT point_id, ts FROM reading_override"
                # A manual value that was entered before the first arrival has no copy of it beside it.
                " WHERE point_id = ANY(:points) AND origin = 'gateway') o JOIN point p ON p.id = o.point_id"
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


def dropped_until(connection: Connection, gateway_id: int) -> datetime | None:
    """Return the instant up to which retention dropped a gateway's readings; None: it dropped none."""
    ends = [datetime.fromisoformat(covers["to"]) for covers in tombstones(connection, gateway_id)]
    return max(ends, default=None)


def receipts_within(connection: Connection, points: Sequence[int], from_at: datetime, to_at: datetime) -> list[int]:
    """Return the receipts that have readings or entries in a stretch [from_at, to_at)."""
    rows = connection.execute(
        text(
            "SELECT receipt_id FROM reading WHERE point_id = ANY(:points) AND ts >= :from_at AND ts < :to_at"
            " UNION SELECT receipt_id FROM reading_override WHERE point_id = ANY(:points) AND origin = 'gateway'"
            " AND ts >= :from_at AND ts < :to_at ORDER BY 1"
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
