"""Quarantine: what was refused, with its reason and its raw form, in few rows however many items a message holds.

One row holds the items of one message that were refused for one reason and name one point. Only the first
`POINTS_NAMED` points of a reason have their own row; those of further points share one. So a message makes at most a
few dozen rows for each of the few reasons, and holds an item once, whoever sends it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from ingest import payload
from ingest.payload import Fault
from ingest.store.arrivals import Prepared
from ingest.store.preparation import zone_of

POINTS_NAMED = 20
# A number may take more bytes when it is written again (1E9 becomes 1000000000.0). What no longer fits into a message,
# and could not be released therefore, is parted; so many parts are enough for any point code that can be registered,
# and what names a longer one is never released.
MOST_PARTS = 8
CODE_LENGTH = 64
_COPY = """
    COPY quarantine (gateway_code, gateway_id, lane, epoch, seq, item_index, item_count, point_code, ts, reason, detail,
                     raw, receipt_id, received_at) FROM STDIN
"""


@dataclass(frozen=True, slots=True)
class _Part:
    """Faults that share a row, in order of index, and what is said of them."""

    faults: Sequence[Fault]
    raw: bytes
    point_code: str | None
    detail: str


def write(connection: psycopg.Connection[Any], batch: Sequence[Prepared]) -> None:
    """Write the faults of these messages."""
    quarantined = [(prepared, part) for prepared in batch for part in _parts(prepared)]
    if not quarantined:
        return
    with connection.cursor() as cursor, cursor.copy(_COPY) as stream:
        for prepared, part in quarantined:
            stream.write_row(_row(prepared, part))


def clean(text: str | None, limit: int = 200) -> str | None:
    """Return a text that PostgreSQL can hold: no NUL, no lone surrogate, not too long."""
    if text is None:
        return None
    return text[:limit].replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _row(prepared: Prepared, part: _Part) -> tuple[object, ...]:
    arrival, gateway, first = prepared.arrival, prepared.gateway, part.faults[0]
    instants = [fault.ts_us for fault in part.faults if fault.ts_us is not None]
    return (
        clean(arrival.gateway_code, 80),
        gateway.gateway_id if gateway else None,
        arrival.lane,
        prepared.epoch,
        prepared.seq,
        first.index,
        len(part.faults),
        clean(part.point_code, CODE_LENGTH),
        payload.instant_at(min(instants)) if instants else None,
        first.reason,
        clean(part.detail, 500),
        part.raw or arrival.raw,
        prepared.receipt_id,
        arrival.received_at,
    )


def _parts(prepared: Prepared) -> Iterator[_Part]:
    faults = prepared.all_faults()
    for fault in faults:
        if fault.index is None:
            yield _Part([fault], prepared.arrival.raw, fault.point_code, fault.detail)
    groups = _groups([fault for fault in faults if fault.index is not None])
    for group, raw in zip(groups, _excerpts(prepared, groups), strict=True):
        if len(raw) <= payload.MAX_BYTES or len(group) == 1 or len(group[0].point_code or "") > CODE_LENGTH:
            yield _part(group, raw)
            continue
        count = min(MOST_PARTS, len(group), 2 * len(raw) // payload.MAX_BYTES)
        pieces = [group[len(group) * n // count : len(group) * (n + 1) // count] for n in range(count)]
        yield from map(_part, pieces, _excerpts(prepared, pieces))


def _groups(faults: Sequence[Fault]) -> list[list[Fault]]:
    """Return the faults by reason and point, those beyond the first points of a reason together."""
    groups: dict[tuple[str, object], list[Fault]] = {}
    named: dict[str, set[str | None]] = {}
    for fault in faults:
        codes = named.setdefault(fault.reason, set())
        if len(codes) < POINTS_NAMED:
            codes.add(fault.point_code)
        key = (fault.reason, fault.point_code if fault.point_code in codes else _groups)  # a key that is no code
        groups.setdefault(key, []).append(fault)
    return list(groups.values())


def _part(faults: Sequence[Fault], raw: bytes) -> _Part:
    codes = list(dict.fromkeys(fault.point_code for fault in faults))
    details = list(dict.fromkeys(fault.detail for fault in faults))
    said = details[0] if len(details) == 1 else f"{details[0]}; and {len(details) - 1} more of the kind"
    return _Part(faults, raw, codes[0] if len(codes) == 1 else None, said)


def _excerpts(prepared: Prepared, groups: Sequence[Sequence[Fault]]) -> list[bytes]:
    if not groups:
        return []
    indexes = [[fault.index for fault in group if fault.index is not None] for group in groups]
    return payload.excerpts(prepared.arrival.raw, indexes, zone_of(prepared.gateway))
