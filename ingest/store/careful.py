"""The careful transaction: some of the batch may be known already, or the database refuses one of its rows.

Known identities are answered from their receipts. Readings go through a staging table; what finds its instant taken
is classified by app.domain.reception and kept in `reading_override`. Rows that the database refuses are found by
halving, each half in a savepoint, and quarantined.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors

from app.domain.reception import CHANGES_VALUE, FIRST_EDIT_RANK, STORED, Entry, Reception, classify
from ingest import payload
from ingest.payload import Ack, Fault
from ingest.store import rows, writing
from ingest.store.arrivals import Prepared
from ingest.store.writing import Connection

# The database refuses the content of a row: a value it cannot hold, a constraint, a trigger's objection.
DATA_ERRORS = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException)

CREATE_STAGING = """
    CREATE TEMP TABLE IF NOT EXISTS arriving (
        point_id integer, ts timestamptz, value double precision, quality smallint, receipt_id bigint
    ) ON COMMIT DELETE ROWS
"""
_COPY_STAGING = "COPY arriving FROM STDIN (FORMAT binary)"
_INSERT_NEW = """
    INSERT INTO reading (point_id, ts, value, quality, receipt_id)
    SELECT point_id, ts, value, quality, receipt_id FROM arriving ORDER BY point_id, ts
    ON CONFLICT (point_id, ts) DO NOTHING
    RETURNING point_id, (extract(epoch FROM reading.ts) * 1000000)::bigint
"""
# The bounds let the planner leave out the chunks that cannot hold any of the instants.
_SELECT_READINGS = """
    SELECT r.point_id, (extract(epoch FROM r.ts) * 1000000)::bigint, r.value, r.quality, r.receipt_id
    FROM unnest(%s::integer[], %s::timestamptz[]) AS k (point_id, ts)
    JOIN reading r ON r.point_id = k.point_id AND r.ts = k.ts
    WHERE r.ts BETWEEN %s AND %s
"""
_LOCK_READINGS = _SELECT_READINGS + " ORDER BY 1, 2 FOR UPDATE OF r"
_SELECT_OVERRIDES = """
    SELECT o.point_id, (extract(epoch FROM o.ts) * 1000000)::bigint, o.rank, o.value, o.quality
    FROM unnest(%s::integer[], %s::timestamptz[]) AS k (point_id, ts)
    JOIN reading_override o ON o.point_id = k.point_id AND o.ts = k.ts
"""
_SELECT_RECEIPTS = """
    SELECT r.gateway_id, r.epoch, r.lane, r.seq, r.message_digest, r.id,
           r.accepted, r.duplicate, r.disputed, r.rejected, r.committed_at
    FROM unnest(%s::bigint[], %s::text[], %s::smallint[], %s::bigint[]) AS k (gateway_id, epoch, lane, seq)
    JOIN receipt r USING (gateway_id, epoch, lane, seq)
"""
_OPEN_FINDING = """
    INSERT INTO finding (point_id, reason, from_at, to_at, detail)
    SELECT %(point_id)s, 'disputed', %(ts)s, %(ts)s, jsonb_build_object('receipt_id', %(receipt_id)s::bigint)
    WHERE NOT EXISTS (SELECT 1 FROM finding WHERE point_id = %(point_id)s AND from_at = %(ts)s
                      AND reason = 'disputed' AND closed_at IS NULL)
"""
_CLOSE_FINDING = """
    UPDATE finding SET closed_at = %(at)s, closed_by = 'gateway', note = 'decided by a revision'
    WHERE point_id = %(point_id)s AND from_at = %(ts)s AND reason = 'disputed' AND closed_at IS NULL
"""

Key = tuple[int, int]  # point id, instant in microseconds since 1970
Row = tuple[bytes, Prepared, int]  # packed row, its message, its position there


def write_carefully(connection: Connection, batch: Sequence[Prepared], committed_at: datetime) -> bool:
    """Write a batch of which anything may be known; return whether anything was."""
    for prepared in batch:
        prepared.forget_result()
    with connection.transaction():
        _answer_known(connection, batch)
        fresh = [one for one in batch if one.receipt_id is not None and one.repeated is None]
        arriving = [(row, one, position) for one in fresh for position, row in enumerate(one.rows)]
        arriving.sort(key=lambda row: row[0][: rows.KEY_BYTES])  # stable: equal instants stay in order of arrival
        receptions = _settle(connection, arriving)
        _note(connection, arriving, receptions, committed_at)
        if any(one.arrival.quarantine_id is not None and not _is_placed(one) for one in batch):
            raise psycopg.Rollback  # a release (always alone) that brought nothing leaves its row as it was
        writing.write_beside(connection, batch, committed_at)
    return len(fresh) < len(batch) or any(one is not Reception.FIRST for one in receptions)


def _is_placed(prepared: Prepared) -> bool:
    return prepared.repeated is not None or prepared.accepted + prepared.duplicate + prepared.disputed > 0


def _answer_known(connection: Connection, batch: Iterable[Prepared]) -> None:
    """Give known identities their first ack again, and refuse those that come with other content."""
    claims = {one.identity: one for one in batch if one.receipt_id is not None}
    if not claims:
        return
    columns = [list(column) for column in zip(*claims, strict=True)]
    for row in connection.execute(_SELECT_RECEIPTS, columns):
        gateway_id, epoch, lane, seq, message_digest, receipt_id, *result = row
        prepared = claims[gateway_id, epoch, lane, seq]
        if bytes(message_digest) == prepared.digest:
            accepted, duplicate, disputed, rejected, committed_at = result
            faults = [(item["index"], item["reason"]) for item in rejected or []]
            prepared.repeated = Ack(epoch, lane, seq, accepted, duplicate, disputed, faults, committed_at)
            prepared.receipt_id = receipt_id
        else:
            prepared.refuse("seq_reused", f"epoch {epoch} seq {seq} was received before with other content")


def _settle(connection: Connection, arriving: Sequence[Row]) -> list[Reception | None]:
    """Store readings and return what each was to the known ones; None where the database refuses the row."""
    if not arriving:
        return []
    try:
        with connection.transaction():
            return list(_receive(connection, arriving))
    except DATA_ERRORS as error:
        if len(arriving) > 1:
            middle = len(arriving) // 2
            return _settle(connection, arriving[:middle]) + _settle(connection, arriving[middle:])
        _, prepared, position = arriving[0]
        prepared.storage_faults.append(_storage_fault(prepared, position, error))
        return [None]


def _storage_fault(prepared: Prepared, position: int, error: psycopg.Error) -> Fault:
    code, ts_us, *_, index = prepared.readings[position]
    return Fault(index, "storage_error", error.diag.message_primary or str(error), code, ts_us)


def _receive(connection: Connection, arriving: Sequence[Row]) -> list[Reception]:
    """Store readings whose instants may be taken; sorted by instant, in order of arrival within one."""
    firsts = {row[: rows.KEY_BYTES]: row for row, _, _ in reversed(arriving)}
    connection.execute("DELETE FROM arriving")
    writing.copy(connection, _COPY_STAGING, rows.copy_data(firsts.values()))
    inserted: set[Key] = set(connection.execute(_INSERT_NEW).fetchall())
    entries = [_entry(row, prepared.readings[position][4]) for row, prepared, position in arriving]
    taken = sorted({key for key, _ in entries if key not in inserted})
    known, originals = _load_known(connection, taken, _SELECT_READINGS)
    if len(originals) < len(taken):
        raise errors.SerializationFailure("a reading was there when it was inserted again, and gone when it was read")
    doubtful = sorted({key for key, entry in entries if key in known and entry not in known[key]})
    if doubtful:  # lock them, so that writers of one instant see each other's entries, and look again
        current, _ = _load_known(connection, doubtful, _LOCK_READINGS)
        known |= current
    times = Counter(key for key, _ in entries)
    edits = _load_overrides(connection, sorted(key for key in inserted if times[key] > 1))
    receptions: list[Reception] = []
    overrides: list[tuple[bytes, int]] = []
    for (row, _, _), (key, entry) in zip(arriving, entries, strict=True):
        entries_known = known.setdefault(key, set())
        reception = classify(entry, entries_known)
        receptions.append(reception)
        sent = [other for other in entries_known if other.rank < FIRST_EDIT_RANK]
        if reception is Reception.FIRST:
            originals[key] = row
            entries_known |= edits.get(key, set())  # a manual value that was there before it counts, whatever follows
        elif reception in STORED and len(sent) == 1:
            overrides.append((originals[key], sent[0].rank))  # the first one joins the rest
        if reception in STORED:
            entries_known.add(entry)
            if entry.rank or reception is not Reception.FIRST:
                overrides.append((row, entry.rank))
    writing.insert_overrides(connection, overrides)
    return receptions


def _entry(row: bytes, rank: int) -> tuple[Key, Entry]:
    point_id, ts_us, value, quality, _ = rows.unpack(row)
    return (point_id, ts_us), Entry(rank, value, quality)


def _load_known(
    connection: Connection, keys: Sequence[Key], readings_sql: str
) -> tuple[dict[Key, set[Entry]], dict[Key, bytes]]:
    """Return the entries of instants, and the packed row of each first arrival."""
    if not keys:
        return {}, {}
    points = [point_id for point_id, _ in keys]
    instants = [payload.instant_at(ts_us) for _, ts_us in keys]
    bounds = payload.instant_at(min(ts for _, ts in keys)), payload.instant_at(max(ts for _, ts in keys))
    known: dict[Key, set[Entry]] = {}
    originals: dict[Key, bytes] = {}
    for point_id, ts_us, value, quality, receipt_id in connection.execute(readings_sql, [points, instants, *bounds]):
        known[point_id, ts_us] = {Entry(0, value, quality)}
        originals[point_id, ts_us] = rows.pack(point_id, ts_us, value, quality, receipt_id)
    for key, entries in _load_overrides(connection, keys).items():
        # Where people alone entered something, the first arrival has no entry of its own yet; else it is among them.
        is_manual = all(entry.rank >= FIRST_EDIT_RANK for entry in entries)
        known[key] = entries | known.get(key, set()) if is_manual else entries
    return known, originals


def _load_overrides(connection: Connection, keys: Sequence[Key]) -> dict[Key, set[Entry]]:
    """Return the entries of those instants that have any in `reading_override`."""
    if not keys:
        return {}
    columns = [point_id for point_id, _ in keys], [payload.instant_at(ts_us) for _, ts_us in keys]
    overridden: dict[Key, set[Entry]] = {}
    for point_id, ts_us, *entry in connection.execute(_SELECT_OVERRIDES, columns):
        overridden.setdefault((point_id, ts_us), set()).add(Entry(*entry))
    return overridden


def _note(
    connection: Connection, arriving: Sequence[Row], receptions: Sequence[Reception | None], at: datetime
) -> None:
    """Write down per message what became of its readings, and open or close findings of disputes."""
    for prepared in {id(prepared): prepared for _, prepared, _ in arriving}.values():
        prepared.stored_rows, prepared.changed_us = [], []
    for (row, prepared, position), reception in zip(arriving, receptions, strict=True):
        if reception is None:
            continue
        point_id, ts_us, *_, receipt_id = rows.unpack(row)
        _count(prepared, row, prepared.readings[position][4], reception)
        parameters: dict[str, Any] = {
            "point_id": point_id,
            "ts": payload.instant_at(ts_us),
            "receipt_id": receipt_id,
            "at": at,
        }
        if reception is Reception.DISPUTED:
            connection.execute(_OPEN_FINDING, parameters)
        elif reception is Reception.REVISION:
            connection.execute(_CLOSE_FINDING, parameters)


def _count(prepared: Prepared, row: bytes, rank: int, reception: Reception) -> None:
    stored, changed = prepared.stored_rows, prepared.changed_us
    if stored is None or changed is None:
        raise AssertionError("a message is opened for counting before its rows are counted")
    if reception is Reception.DUPLICATE:
        prepared.duplicate += 1
    elif reception is Reception.DISPUTED:
        prepared.disputed += 1
    else:
        prepared.accepted += 1
    if reception is Reception.FIRST:
        stored.append(row)
    if reception in STORED and (rank or reception is not Reception.FIRST):
        stored.append(rows.pack_override(row, rank))
    if reception in CHANGES_VALUE:
        point_id, ts_us, *_ = rows.unpack(row)
        changed.append((point_id, ts_us))
