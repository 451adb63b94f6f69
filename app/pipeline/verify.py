"""Verify the evidence: recompute every chain and every receipt's readings, and name what was altered or removed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from app.db import seals
from app.domain import sealing

LANES = ("live", "backfill", "http")
NAMED_READINGS = 10
_NO_READINGS = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Breach:
    """Something that is not as it was sealed: what it is, and where, in words."""

    gateway_code: str
    kind: str  # chain_broken, receipt_missing, receipt_altered, readings_altered, readings_removed, readings_added, …
    where: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one gateway."""

    gateway_code: str
    links: int
    receipts: int
    unsealed: int
    oldest_unsealed_at: datetime | None
    breaches: tuple[Breach, ...]


def gateway(connection: Connection, gateway_id: int, code: str) -> Verdict:
    """Verify one gateway in one snapshot; the caller opens it REPEATABLE READ."""
    points = seals.points_of(connection, gateway_id)
    stored = seals.stored_digests(connection, points)
    links = seals.chain(connection, gateway_id)
    buried = {receipt for one in links if one["covers"] for receipt in one["covers"]["receipts"]}
    breaches = [
        *_broken_links(code, links),
        *_wrong_readings(connection, code, points, links, stored, buried),
        *_unknown_receipts(connection, code, gateway_id, stored),
        *(
            Breach(code, "first_entry_removed", f"point {row.code} at {row.ts.isoformat()}")
            for row in seals.instants_without_their_first(connection, points)
        ),
    ]
    unsealed, oldest_at = seals.unsealed_count(connection, gateway_id)
    receipts = sum(one["kind"] == "receipt" for one in links)
    return Verdict(code, len(links), receipts, unsealed, oldest_at, tuple(breaches))


def _content(one: dict[str, Any]) -> dict[str, Any]:
    """What a link covers, as it stands now."""
    if one["kind"] == "tombstone":
        return dict(one["covers"])
    names = ("chain_no", "kind", "receipt_id", "covers", "digest", "sealed_committed_at")
    return {name: value for name, value in one.items() if name not in names}


def _broken_links(code: str, links: list[dict[str, Any]]) -> Iterator[Breach]:
    """Follow the chain. Each link is checked against the stored one before it, so one breach is named once."""
    previous, number = sealing.FIRST_LINK, 0
    for one in links:
        if one["chain_no"] != number + 1:
            yield Breach(code, "link_missing", f"links {number + 1} to {one['chain_no'] - 1} are gone")
        elif one["kind"] == "receipt" and one["id"] is None:
            committed = one["sealed_committed_at"].isoformat()
            yield Breach(code, "receipt_missing", f"receipt {one['receipt_id']}, committed at {committed}")
        elif sealing.link(previous, one["kind"], _content(one)) != bytes(one["digest"]):
            yield Breach(code, "receipt_altered", _named(one) if one["id"] else f"link {one['chain_no']}")
        previous, number = bytes(one["digest"]), one["chain_no"]


def _wrong_readings(
    connection: Connection,
    code: str,
    points: list[int],
    links: list[dict[str, Any]],
    stored: dict[int, tuple[bytes, int]],
    buried: set[int],
) -> Iterator[Breach]:
    for one in links:
        if one["id"] is None or one["id"] in buried:
            continue
        digest, count = stored.get(one["id"], (_NO_READINGS, 0))
        if digest != bytes(one["rows_digest"]):
            kind = "readings_removed" if count < one["accepted"] else "readings_altered"
            there = ", ".join(
                f"{row.code} {row.ts.isoformat()} = {row.value!r}"
                for row in seals.readings_of(connection, points, one["id"], NAMED_READINGS)
            )
            where = f"{_named(one)}: {one['accepted']} accepted, {count} stored now"
            yield Breach(code, kind, f"{where}; stored now: {there or 'nothing'}")


def _unknown_receipts(
    connection: Connection, code: str, gateway_id: int, stored: dict[int, tuple[bytes, int]]
) -> Iterator[Breach]:
    known = seals.receipt_ids(connection, gateway_id)
    for receipt_id in sorted(set(stored) - known):
        yield Breach(
            code, "readings_added", f"{stored[receipt_id][1]} readings under receipt {receipt_id}, not its own"
        )


def _named(one: dict[str, Any]) -> str:
    lane = LANES[one["lane"]] if 0 <= one["lane"] < len(LANES) else one["lane"]
    return f"receipt {one['id']} (epoch {one['epoch']}, {lane}, seq {one['seq']}, {one['committed_at'].isoformat()})"
