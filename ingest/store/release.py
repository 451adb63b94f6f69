"""Release from quarantine: rows that an operator asked for are run through the ladder again."""

from datetime import UTC, datetime

from ingest.store.arrivals import Arrival, Outcome
from ingest.store.ladder import Store

ROWS_AT_ONCE = 200
# A row holds up to a whole message: live messages do not wait for more than about two such.
ITEMS_AT_ONCE = 10_000

_REQUESTED = """
    SELECT id, gateway_code, lane, raw FROM (
        SELECT id, gateway_code, lane, raw, sum(item_count) OVER (ORDER BY id) - item_count AS items_before
        FROM (SELECT * FROM quarantine WHERE release_requested_at IS NOT NULL AND released_at IS NULL
              ORDER BY id LIMIT %s) AS requested
    ) AS counted WHERE items_before < %s ORDER BY id
"""
_RELEASED = """
    UPDATE quarantine SET released_at = %s, release_receipt_id = %s, release_note = %s
    WHERE id = %s AND released_at IS NULL
"""
_STILL_BAD = (
    "UPDATE quarantine SET release_requested_at = NULL, release_note = %s WHERE id = %s AND released_at IS NULL"
)


def release_requested(store: Store, *, limit: int = ROWS_AT_ONCE) -> list[Outcome]:
    """Run requested rows through the ladder, one by one, and write down what became of them.

    A row that brings nothing in stays open with the reason in its note, and may be asked for again. Running a row
    twice (a crash in between, two processes) is harmless: its identity is (release, quarantine id).
    Raises StoreUnavailableError.
    """
    with store.translated() as connection:
        requested = connection.execute(_REQUESTED, [limit, ITEMS_AT_ONCE]).fetchall()
    if requested:
        store.forget_registry()  # the operator has just mended it
    return [_release(store, *row) for row in requested]


def _release(store: Store, quarantine_id: int, gateway_code: str, lane: int, raw: bytes) -> Outcome:
    now = datetime.now(UTC)
    outcome = store.commit([Arrival(gateway_code, lane, bytes(raw), now, quarantine_id=quarantine_id)])[0]
    ack = outcome.ack
    counts = (ack.accepted, ack.duplicate, ack.disputed) if ack else (0, 0, 0)
    rejected = ", ".join(sorted({reason for _, reason in ack.rejected})) if ack else ""
    with store.translated() as connection:
        if sum(counts):
            note = f"accepted {counts[0]}, duplicate {counts[1]}, disputed {counts[2]}"
            note += f"; quarantined anew: {rejected}" if rejected else ""
            connection.execute(_RELEASED, [now, outcome.receipt_id, note, quarantine_id])
        else:
            connection.execute(_STILL_BAD, [rejected or "nothing to store in it", quarantine_id])
    return outcome
