"""Verify the evidence: recompute every chain and every receipt's readings, and name what was altered or removed.

A chain without a secret shows that something was altered only as long as its later links stand: whoever may write to
the database could compute them anew. So the newest links are written to the log daily, and `heads` of such a log are
checked here.
"""

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from app.db import seals
from app.domain import receipt_rows, sealing
from app.domain.calendar import local
from app.domain.reception import LANES, QUALITIES

NAMED_READINGS = 20  # of one receipt; how many more there are is said
LAST_NUMBER = 2**62
_NO_READINGS = hashlib.sha256(b"").digest()
# A line of the log, as text or as JSON (see seal.log_heads).
_HEAD = re.compile(r'"?\b(gateway_id|chain_no|digest)"?\s*[=:]\s*"?([0-9a-f]+)')


@dataclass(frozen=True, slots=True)
class Breach:
    """Something that is not as it was sealed: what it is, and where, in words.

    Kinds: reading_altered, reading_removed, reading_added; readings_differ where a receipt's copy does not tell more;
    first_entry_removed; receipt_altered, receipt_missing, link_missing, head_differs.
    """

    gateway_code: str
    kind: str
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


@dataclass(frozen=True, slots=True)
class Head:
    """A link as the log has it."""

    gateway_id: int
    chain_no: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What is looked at: a gateway, and what retention has dropped of it."""

    connection: Connection
    gateway_id: int
    code: str
    points: Mapping[int, str]
    dropped: tuple[seals.Span, ...]
    buried: frozenset[int]  # receipts of which something was dropped
    kept_copies: Mapping[int, bytes]  # of those, where not everything was dropped


def heads_in(log: Iterable[str]) -> list[Head]:
    """Return the chain heads that a worker wrote to its log; other lines are passed over."""
    found = []
    for line in log:
        facts = dict(_HEAD.findall(line)) if "chain head" in line else {}
        if len(facts) == 3 and len(facts["digest"]) == 64:
            found.append(Head(int(facts["gateway_id"]), int(facts["chain_no"]), bytes.fromhex(facts["digest"])))
    return found


def gateway(
    connection: Connection,
    gateway_id: int,
    code: str,
    *,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    heads: Iterable[Head] = (),
) -> Verdict:
    """Verify one gateway in one snapshot; the caller opens it REPEATABLE READ.

    With `from_at` or `to_at`, only the receipts committed in [from_at, to_at), joined to the link before them.
    """
    evidence = _open(connection, gateway_id, code)
    is_whole = from_at is None and to_at is None
    first, last = (1, LAST_NUMBER) if is_whole else seals.numbers_within(connection, gateway_id, from_at, to_at)
    links = seals.chain(connection, gateway_id, first, last)
    sought = None if is_whole else [one["id"] for one in links if one["id"] is not None]
    stored = seals.stored_digests(connection, list(evidence.points), evidence.dropped, sought)
    breaches = [
        *_broken_links(evidence, links, first),
        *_wrong_heads(evidence, heads),
        *_wrong_readings(evidence, links, stored),
        *(_unknown_readings(evidence, stored) if is_whole else ()),
    ]
    unsealed, oldest_at = seals.unsealed_count(connection, gateway_id)
    receipts = sum(one["kind"] == "receipt" for one in links)
    return Verdict(code, len(links), receipts, unsealed, oldest_at, tuple(breaches))


def _open(connection: Connection, gateway_id: int, code: str) -> _Evidence:
    tombstones = seals.tombstones(connection, gateway_id)
    buried = frozenset(receipt for one in tombstones for receipt in one["receipts"])
    return _Evidence(
        connection,
        gateway_id,
        code,
        seals.point_codes(connection, gateway_id),
        tuple((datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"])) for one in tombstones),
        buried,
        seals.copies(connection, sorted(buried)) if buried else {},
    )


def _content(one: dict[str, Any]) -> dict[str, Any]:
    """What a link covers, as it stands now."""
    if one["kind"] == "tombstone":
        return dict(one["covers"])
    names = ("chain_no", "kind", "receipt_id", "covers", "digest", "sealed_committed_at")
    return {name: value for name, value in one.items() if name not in names}


def _broken_links(evidence: _Evidence, links: list[dict[str, Any]], first: int) -> Iterator[Breach]:
    """Follow the chain. Each link is checked against the stored one before it, so one breach is named once."""
    code, number = evidence.code, first - 1
    previous = seals.link_digest(evidence.connection, evidence.gateway_id, number) if number else sealing.FIRST_LINK
    if previous is None:
        yield Breach(code, "link_missing", f"link {number} is gone")
    for one in links:
        if one["chain_no"] != number + 1:
            yield Breach(code, "link_missing", f"links {number + 1} to {one['chain_no'] - 1} are gone")
        elif one["kind"] == "receipt" and one["id"] is None:
            yield Breach(
                code,
                "receipt_missing",
                f"receipt {one['receipt_id']}, committed at {local(one['sealed_committed_at'])}",
            )
        elif previous is not None and sealing.link(previous, one["kind"], _content(one)) != bytes(one["digest"]):
            yield Breach(code, "receipt_altered", _named(one) if one["id"] else f"tombstone, link {one['chain_no']}")
        previous, number = bytes(one["digest"]), one["chain_no"]


def _wrong_heads(evidence: _Evidence, heads: Iterable[Head]) -> Iterator[Breach]:
    for head in heads:
        if head.gateway_id != evidence.gateway_id:
            continue
        now = seals.link_digest(evidence.connection, head.gateway_id, head.chain_no)
        if now != head.digest:
            found = "is gone" if now is None else f"is {now.hex()}"
            where = f"link {head.chain_no} was {head.digest.hex()} when it was logged, and {found} now"
            yield Breach(evidence.code, "head_differs", where)


def _wrong_readings(
    evidence: _Evidence, links: list[dict[str, Any]], stored: dict[int, tuple[bytes, int]]
) -> Iterator[Breach]:
    for one in links:
        if one["id"] is None:
            continue
        digest, _ = stored.get(one["id"], (_NO_READINGS, 0))
        if one["id"] not in evidence.buried:
            if digest != bytes(one["rows_digest"]):
                yield from _differences(evidence, one)
        elif digest != receipt_rows.digest(_sealed_rows(evidence, one) or ()):
            yield from _differences(evidence, one)


def _sealed_rows(evidence: _Evidence, one: dict[str, Any]) -> list[bytes] | None:
    """Return the readings as they were sealed, without those dropped since; None where no true copy of them is kept."""
    is_buried = one["id"] in evidence.buried
    copies = evidence.kept_copies if is_buried else seals.copies(evidence.connection, [one["id"]])
    copy = copies.get(one["id"])
    if copy is None:
        # Ingest writes no copy where it stored nothing; retention drops the copy with the last of the readings.
        return [] if is_buried or bytes(one["rows_digest"]) == _NO_READINGS else None
    try:
        rows = receipt_rows.unpack(copy)
        if receipt_rows.digest(rows) != bytes(one["rows_digest"]):
            return None
        return [row for row in rows if not _is_dropped(evidence, receipt_rows.decode(row).at)]
    except (ValueError, struct.error):
        return None


def _is_dropped(evidence: _Evidence, at: datetime) -> bool:
    return any(from_at <= at < to_at for from_at, to_at in evidence.dropped)


def _differences(evidence: _Evidence, one: dict[str, Any]) -> Iterator[Breach]:
    """Name each reading of a receipt that is not as it was sealed."""
    there = seals.stored_rows(evidence.connection, list(evidence.points), evidence.dropped, one["id"])
    sealed = _sealed_rows(evidence, one)
    if sealed is None:
        named = ", ".join(_told(evidence, row) for row in there[:NAMED_READINGS])
        where = f"{_named(one)}: its copy was altered too; {one['accepted']} accepted, {len(there)} stored now: {named}"
        yield Breach(evidence.code, "readings_differ", where)
        return
    removed, extra = set(sealed) - set(there), set(there) - set(sealed)
    added = {_key(row): row for row in sorted(extra) if _first_arrival(row) not in sealed}
    found = []
    for row in sorted(removed):
        instead = added.pop(_key(row), None)
        said = _told(evidence, row)
        if instead is None:
            found.append(("reading_removed", f"{said} was sealed and is gone"))
        else:
            found.append(("reading_altered", f"{said} was sealed, stored is {_value(receipt_rows.decode(instead))}"))
    found += [("reading_added", f"{_told(evidence, row)} is stored and was not sealed") for row in added.values()]
    for kind, where in found[:NAMED_READINGS]:
        yield Breach(evidence.code, kind, f"{where}; {_named(one)}")
    if len(found) > NAMED_READINGS:
        yield Breach(evidence.code, "readings_differ", f"{len(found) - NAMED_READINGS} more of {_named(one)}")


def _unknown_readings(evidence: _Evidence, stored: dict[int, tuple[bytes, int]]) -> Iterator[Breach]:
    """Name readings under receipts that the gateway has not, and instants that lost their first entry."""
    known = seals.receipt_ids(evidence.connection, evidence.gateway_id)
    points = list(evidence.points)
    for receipt_id in sorted(set(stored) - known):
        rows = seals.stored_rows(evidence.connection, points, evidence.dropped, receipt_id)[:NAMED_READINGS]
        named = ", ".join(_told(evidence, row) for row in rows)
        where = f"{stored[receipt_id][1]} readings under receipt {receipt_id}, which this gateway has not: {named}"
        yield Breach(evidence.code, "reading_added", where)
    for row in seals.instants_without_their_first(evidence.connection, points):
        yield Breach(evidence.code, "first_entry_removed", f"{row.code} at {local(row.ts)}")


def _key(row: bytes) -> bytes:
    """What a reading or entry is, apart from its value: table, point, instant, rank."""
    return row[: receipt_rows.KEY_BYTES] + row[receipt_rows.ROW.size :]


def _first_arrival(row: bytes) -> bytes | None:
    """The reading of which an entry is the copy, made when a second entry came (see ingest.store.rows)."""
    is_copy = len(row) == receipt_rows.ENTRY.size and receipt_rows.decode(row).rank == 0
    return b"\x00\x05" + row[2 : receipt_rows.ROW.size] if is_copy else None


def _told(evidence: _Evidence, row: bytes) -> str:
    reading = receipt_rows.decode(row)
    point = evidence.points.get(reading.point_id, f"point {reading.point_id}")
    rank = "" if reading.rank is None else f" rev {reading.rank}"
    return f"{point} at {local(reading.at)}{rank} = {_value(reading)}"


def _value(reading: receipt_rows.StoredReading) -> str:
    quality = QUALITIES[reading.quality] if 0 <= reading.quality < len(QUALITIES) else reading.quality
    return f"{reading.value!r} ({quality})"


def _named(one: dict[str, Any]) -> str:
    lane = LANES[one["lane"]] if 0 <= one["lane"] < len(LANES) else one["lane"]
    return f"receipt {one['id']} (epoch {one['epoch']}, {lane}, seq {one['seq']}, {local(one['committed_at'])})"
