"""The ladder: the steps by which a batch gets into the database, from the fastest to the most careful.

1. Optimistic: one transaction of COPYs, on the bet that nothing in the batch is known.
2. Careful: a repeat, a revision or a dispute is in it, or a row that the database refuses (which is quarantined).
3. One message at a time, if even that fails for a reason of content; the message at fault is quarantined.
Deadlocks and serialisation failures are tried again. Anything else means that the database cannot store now:
StoreUnavailableError, nothing is stored, and the caller gives the same batch again later.
"""

import random
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import errors

from ingest import payload
from ingest.store.arrivals import Arrival, Outcome, Prepared, StoreUnavailableError
from ingest.store.careful import CREATE_STAGING, DATA_ERRORS, write_carefully
from ingest.store.preparation import MENDED_BY_REGISTRY, prepare
from ingest.store.registry import BELIEVED_S, Registry
from ingest.store.states import Heard, StateArrival, write_heard, write_said
from ingest.store.writing import Connection, write_optimistically

ATTEMPTS = 6
RECEIPT_IDS_AT_ONCE = 1000
HEARD_EVERY_S = 1.0
_GATEWAY_CODE = re.compile(r"[a-z0-9][a-z0-9-]{2,62}", re.ASCII)
_COLLISIONS = (errors.DeadlockDetected, errors.SerializationFailure)
_NEXT_RECEIPT_IDS = "SELECT nextval(pg_get_serial_sequence('receipt', 'id')) FROM generate_series(1, %s)"


class Store:
    """One connection to the database, and what is remembered between batches. Not for several threads at once."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: Connection | None = None
        self._registry = Registry()
        self._receipt_ids: list[int] = []
        self._expects_repeats = False
        self._heard: dict[int, Heard] = {}
        self._heard_written_s = time.monotonic()

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget_registry(self) -> None:
        """Read the registry anew when it is needed next."""
        self._registry.forget()

    def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Store a batch in one transaction and return the outcomes in the same order, once it is on disk.

        Raises StoreUnavailableError when the database does not take it; then nothing of it is stored.
        """
        try:
            batch = self._prepare(arrivals)
            committed_at = self._write([one for one in batch if one.same_as is None])
            self._note_heard(batch, committed_at)
        except psycopg.Error as error:
            self.close()  # start from a clean connection
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error
        return [one.outcome(committed_at) for one in batch]

    def write_heard(self, *, at_once: bool = False) -> None:
        """Write signs of life that are due (once a second, unless at once). Raises StoreUnavailableError."""
        if self._heard and (at_once or time.monotonic() - self._heard_written_s >= HEARD_EVERY_S):
            with self.translated() as connection:
                write_heard(connection, self._heard)
            self._heard, self._heard_written_s = {}, time.monotonic()

    def write_states(self, arrivals: Iterable[StateArrival]) -> int:
        """Write state messages; those of unregistered gateways are left out. Returns how many were written.

        Raises StoreUnavailableError.
        """
        arrivals = list(arrivals)
        with self.translated() as connection:
            self._load_registry(connection, {one.gateway_code for one in arrivals}, BELIEVED_S)
            known = [(gateway.gateway_id, one) for one in arrivals if (gateway := self._registry.get(one.gateway_code))]
            write_said(connection, known)
        return len(known)

    def connection(self) -> Connection:
        """Return the open connection, opening it if need be; psycopg.Error where that fails."""
        if self._connection is None or self._connection.closed:
            self._connection = _connect(self._database_url)
            self._receipt_ids.clear()
        return self._connection

    def translated(self) -> "_Translated":
        """Return a context that gives the connection and raises StoreUnavailableError for the database's errors."""
        return _Translated(self)

    # -- preparation ------------------------------------------------------------------------------------------

    def _prepare(self, arrivals: Sequence[Arrival]) -> list[Prepared]:
        connection = self.connection()
        self._load_registry(connection, {arrival.gateway_code for arrival in arrivals}, BELIEVED_S)
        self._reserve_receipt_ids(connection, len(arrivals))
        batch = [self._prepare_one(arrival, self._receipt_ids.pop()) for arrival in arrivals]
        unfit = {
            one.arrival.gateway_code
            for one in batch
            if any(fault.reason in MENDED_BY_REGISTRY for fault in one.faults)
            and self._registry.may_reread(one.arrival.gateway_code)
        }
        if unfit:
            self._load_registry(connection, unfit, 0.0)
            self._reserve_receipt_ids(connection, len(arrivals))
            batch = [
                self._prepare_one(one.arrival, self._receipt_ids.pop()) if one.arrival.gateway_code in unfit else one
                for one in batch
            ]
        _find_repeats_within(batch)
        return batch

    def _prepare_one(self, arrival: Arrival, receipt_id: int) -> Prepared:
        return prepare(arrival, self._registry.get(arrival.gateway_code), receipt_id)

    def _load_registry(self, connection: Connection, codes: Iterable[str], believed_s: float) -> None:
        valid = [code for code in codes if _GATEWAY_CODE.fullmatch(code)]
        self._registry.load(connection, valid, newer_than_s=time.monotonic() - believed_s)

    def _reserve_receipt_ids(self, connection: Connection, count: int) -> None:
        if len(self._receipt_ids) < count:
            rows = connection.execute(_NEXT_RECEIPT_IDS, [max(count, RECEIPT_IDS_AT_ONCE)]).fetchall()
            self._receipt_ids = [row[0] for row in reversed(rows)] + self._receipt_ids

    # -- writing ----------------------------------------------------------------------------------------------

    def _write(self, batch: Sequence[Prepared]) -> datetime:
        is_careful = self._expects_repeats or any(
            one.arrival.is_redelivered or one.arrival.quarantine_id is not None for one in batch
        )
        for attempt in range(ATTEMPTS):
            committed_at = datetime.now(UTC)
            try:
                if is_careful:
                    self._expects_repeats = write_carefully(self.connection(), batch, committed_at)
                else:
                    write_optimistically(self.connection(), batch, committed_at)
            except _COLLISIONS:
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - only so that two do not meet again
            except errors.UniqueViolation:
                is_careful = True  # or, if it was: another process stored the same message meanwhile
            except DATA_ERRORS:
                if is_careful:
                    return self._write_each(batch)
                is_careful = True
            else:
                return committed_at
        raise errors.SerializationFailure(f"{ATTEMPTS} attempts met other writers")

    def _write_each(self, batch: Sequence[Prepared]) -> datetime:
        """Write message by message; one that cannot be stored for a reason of its content is quarantined whole."""
        committed_at = datetime.now(UTC)
        for prepared in batch:
            try:
                try:
                    write_carefully(self.connection(), [prepared], committed_at)
                except errors.UniqueViolation:  # another process stored it meanwhile: now it is known
                    write_carefully(self.connection(), [prepared], committed_at)
            except DATA_ERRORS as error:
                prepared.refuse("storage_error", error.diag.message_primary or str(error))
                write_carefully(self.connection(), [prepared], committed_at)
        return committed_at

    def _note_heard(self, batch: Sequence[Prepared], committed_at: datetime) -> None:
        for prepared in batch:
            if prepared.gateway is None or prepared.arrival.quarantine_id is not None:
                continue
            seen_at = prepared.arrival.received_at
            heard = self._heard.setdefault(prepared.gateway.gateway_id, Heard(seen_at, None, None))
            heard.seen_at = max(heard.seen_at, seen_at)
            if prepared.readings:
                newest = payload.instant_at(max(reading[1] for reading in prepared.readings))
                heard.reading_at = max(filter(None, (heard.reading_at, newest)), default=None)
                heard.commit_at = committed_at


class _Translated:
    """A block in which the database's errors become StoreUnavailableError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> Connection:
        try:
            return self._store.connection()
        except psycopg.Error as error:
            raise StoreUnavailableError(str(error)) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.Error):
            self._store.close()
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error


# Whatever the server, the database or the role is set to: no other form of times, no doubles cut to 15 digits, and a
# new snapshot for each statement, which the ladder needs to see what others have inserted.
_SESSION = (
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1"
    " -c default_transaction_isolation=read\\ committed -c lock_timeout=10s -c statement_timeout=60s"
)


def _connect(database_url: str) -> Connection:
    connection: psycopg.Connection[Any] = psycopg.connect(
        database_url,
        autocommit=True,
        connect_timeout=5,
        tcp_user_timeout=30_000,
        application_name="nenghao-ingest",
        options=_SESSION,
    )
    connection.execute(CREATE_STAGING)
    return connection


def _find_repeats_within(batch: Sequence[Prepared]) -> None:
    """The same message twice in one batch: the second gets the first one's ack, or is refused if it differs."""
    first_of: dict[tuple[int, str, int, int], Prepared] = {}
    for prepared in batch:
        if prepared.receipt_id is None:
            continue
        first = first_of.setdefault(prepared.identity, prepared)
        if first is not prepared and first.digest == prepared.digest:
            prepared.same_as = first
        elif first is not prepared:
            prepared.refuse("seq_reused", f"epoch {prepared.epoch} seq {prepared.seq} came twice with other content")
