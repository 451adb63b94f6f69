"""Seal committed receipts into each gateway's chain; ingest writes them unchained, so that writers never wait.

One sealer works at a time. A link is appended some seconds after its receipt was committed; what is not sealed yet is
the tail that `nenghao verify` reports.
"""

from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Engine

from app.db import seals
from app.domain import receipt_rows, sealing
from app.domain.calendar import BUSINESS_ZONE
from app.errors import Conflict, Invalid
from app.pipeline import verify

BATCH = 2000
# Devices may deliver 6 months late; what may still change is not dropped.
SETTLED_AFTER = timedelta(days=214)  # 7 months
_log = structlog.get_logger(process="worker")


def run(engine: Engine, now: datetime, *, is_thorough: bool = False) -> int:
    """Seal one batch of receipts and return how many; 0 when none waits or another sealer is at work.

    Thorough, as once a day: also those of a writer whose clock was more than an hour behind.
    """
    with engine.begin() as connection:
        if not seals.try_lock(connection):
            return 0
        receipts = seals.unsealed(connection, BATCH, is_thorough=is_thorough)
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


def drop_readings(engine: Engine, before_at: datetime, now: datetime) -> list[seals.Span]:
    """Drop the raw chunks that end by an instant, each under a tombstone in the chains it concerns.

    Figures stay: usage and energy are tables of their own. Everything is verified first, because a tombstone would
    cover what was altered: a breach raises Conflict. Invalid for what devices may still add to.
    """
    check_settled(before_at, now)
    _check_unaltered(engine)
    with engine.connect() as connection:
        chunks = seals.reading_chunks(connection, before_at)
    for from_at, to_at in chunks:
        with engine.begin() as connection:
            while not seals.try_lock(connection):
                connection.exec_driver_sql("SELECT pg_sleep(0.1)")
            _bury(connection, (from_at, to_at), now)
            seals.drop_chunk(connection, from_at, to_at)
    return chunks


def check_settled(before_at: datetime, now: datetime) -> None:
    """Raise Invalid where devices may still add to the readings before an instant."""
    if before_at > now - SETTLED_AFTER:
        latest = (now - SETTLED_AFTER).astimezone(BUSINESS_ZONE).date()
        raise Invalid(
            f"readings after {latest} may still change, devices deliver up to 6 months late: choose that day or before",
            detail_zh=f"{latest} 之后的读数仍可能补传更正：请选择该日或更早",
        )


def _check_unaltered(engine: Engine) -> None:
    with engine.connect() as connection:
        gateways = seals.gateways(connection, None)
    for row in gateways:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            breaches = verify.gateway(connection, row.id, row.code).breaches
        if breaches:
            raise Conflict(
                f"gateway {row.code} has {len(breaches)} breach(es), nothing was dropped: see `nenghao verify`. First:"
                f" {breaches[0].kind}: {breaches[0].where}",
                detail_zh=f"网关 {row.code} 的存证校验未通过，未清理任何读数：见 nenghao verify",
            )


def _bury(connection: Connection, chunk: seals.Span, now: datetime) -> None:
    links = []
    for gateway in seals.gateways(connection, None):
        points = list(seals.point_codes(connection, gateway.id))
        receipts = seals.receipts_within(connection, points, *chunk)
        if receipts:
            covers = {"from": chunk[0].isoformat(), "to": chunk[1].isoformat(), "receipts": receipts}
            number, previous = seals.heads(connection, [gateway.id]).get(gateway.id, (0, sealing.FIRST_LINK))
            digest = sealing.link(previous, "tombstone", covers)
            links.append(
                {**_link(gateway.id, number + 1, digest, {"id": None, "committed_at": now}, now), "kind": "tombstone"}
                | {"covers": covers}
            )
            _forget_copies(connection, receipts, chunk[1])
    seals.add_links(connection, links)


def _forget_copies(connection: Connection, receipts: list[int], to_at: datetime) -> None:
    """Drop the copies of receipts that have nothing after the chunk; the others' are needed to verify the rest."""
    copies = seals.copies(connection, receipts)
    over = [
        receipt
        for receipt, copy in copies.items()
        if all(receipt_rows.decode(row).at < to_at for row in receipt_rows.unpack(copy))
    ]
    seals.forget_copies(connection, over)


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
