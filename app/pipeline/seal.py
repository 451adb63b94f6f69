"""Seal committed receipts into each gateway's chain; ingest writes them unchained, so that writers never wait.

One sealer works at a time. A link is appended some seconds after its receipt was committed; what is not sealed yet is
the tail that `nenghao verify` reports.
"""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Engine

from app.db import seals
from app.domain import sealing

BATCH = 2000
# Receipts of a stretch of readings are named in its tombstone, so a chunk (7 days) is the unit of retention.
_log = structlog.get_logger(process="worker")


def run(engine: Engine, now: datetime) -> int:
    """Seal one batch of receipts and return how many; 0 when none waits or another sealer is at work."""
    with engine.begin() as connection:
        if not seals.try_lock(connection):
            return 0
        receipts = seals.unsealed(connection, BATCH)
        heads = seals.heads(connection, sorted({receipt["gateway_id"] for receipt in receipts})) if receipts else {}
        links = []
        for receipt in receipts:
            number, previous = heads.get(receipt["gateway_id"], (0, sealing.FIRST_LINK))
            digest = sealing.link(previous, "receipt", receipt)
            heads[receipt["gateway_id"]] = (number + 1, digest)
            links.append(_link(receipt["gateway_id"], number + 1, digest, receipt, now))
        seals.add_links(connection, links)
    return len(receipts)


def log_heads(engine: Engine) -> int:
    """Write every chain's newest link to the log, where nobody with access to the database can alter it."""
    with engine.connect() as connection:
        heads = seals.heads(connection)
    for gateway_id, (number, digest) in sorted(heads.items()):
        _log.info("chain head", gateway_id=gateway_id, chain_no=number, digest=digest.hex())
    return len(heads)


def drop_readings(engine: Engine, before_at: datetime, now: datetime) -> list[tuple[datetime, datetime]]:
    """Drop the raw chunks that end by an instant, each under a tombstone in the chains it concerns.

    Figures stay: usage and energy are tables of their own. Verify before, or a tombstone covers what was altered.
    """
    with engine.connect() as connection:
        chunks = seals.reading_chunks(connection, before_at)
    for from_at, to_at in chunks:
        with engine.begin() as connection:
            while not seals.try_lock(connection):
                connection.exec_driver_sql("SELECT pg_sleep(0.1)")
            _bury(connection, from_at, to_at, now)
            seals.drop_chunk(connection, from_at, to_at)
    return chunks


def _bury(connection: Connection, from_at: datetime, to_at: datetime, now: datetime) -> None:
    links = []
    for gateway in seals.gateways(connection, None):
        points = seals.points_of(connection, gateway.id)
        receipts = seals.receipts_within(connection, points, from_at, to_at)
        if receipts:
            covers = {"from": from_at.isoformat(), "to": to_at.isoformat(), "receipts": receipts}
            number, previous = seals.heads(connection, [gateway.id]).get(gateway.id, (0, sealing.FIRST_LINK))
            digest = sealing.link(previous, "tombstone", covers)
            links.append(
                {**_link(gateway.id, number + 1, digest, {"id": None, "committed_at": now}, now), "kind": "tombstone"}
                | {"covers": covers}
            )
    seals.add_links(connection, links)


def _link(gateway_id: int, number: int, digest: bytes, receipt: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "gateway_id": gateway_id,
        "chain_no": number,
        "kind": "receipt",
        "receipt_id": receipt["id"],
        "covers": None,
        "digest": digest,
        "committed_at": receipt["committed_at"],
        "sealed_at": now,
    }
