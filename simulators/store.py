"""The memory of gateways: messages not yet acknowledged, in one SQLite file that survives kill -9.

A reading is written here before it is sent, and its message is deleted on the application's ack alone.
"""

import fcntl
import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

LANES = ("live", "backfill")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    gateway TEXT NOT NULL, lane TEXT NOT NULL, seq INTEGER NOT NULL, payload BLOB NOT NULL,
    readings INTEGER NOT NULL, UNIQUE (gateway, lane, seq)
);
CREATE TABLE IF NOT EXISTS lane (
    gateway TEXT NOT NULL, lane TEXT NOT NULL, next_seq INTEGER NOT NULL,
    queued INTEGER NOT NULL DEFAULT 0, handled INTEGER NOT NULL DEFAULT 0, accepted INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0, disputed INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (gateway, lane)
);
CREATE TABLE IF NOT EXISTS rejection (
    gateway TEXT NOT NULL, reason TEXT NOT NULL, items INTEGER NOT NULL, PRIMARY KEY (gateway, reason)
);
"""


class StoreError(Exception):
    """The store's file cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message on the wire; `payload` is what was sent and will be resent, byte for byte."""

    seq: int
    payload: bytes
    readings: int


@dataclass(slots=True)
class Tally:
    """Readings of a gateway, a lane or a whole store; handled = answered by an ack, whatever the answer."""

    queued: int = 0
    handled: int = 0
    accepted: int = 0
    duplicate: int = 0
    disputed: int = 0
    rejected: int = 0


_TALLY = "coalesce(sum(queued),0), coalesce(sum(handled),0), coalesce(sum(accepted),0),"
_TALLY += " coalesce(sum(duplicate),0), coalesce(sum(disputed),0), coalesce(sum(rejected),0)"


class Store:
    """Store-and-forward queues of the gateways of one process, keyed by gateway and lane."""

    def __init__(self, path: Path, *, is_read_only: bool = False) -> None:
        """Open or create the file. `epoch` is drawn once per file: a new file can never collide with an old one.

        Read-only: for looking at a store that another process works with.
        """
        self.is_read_only = is_read_only
        self._last_seq: dict[tuple[str, str], int] = {}
        self._lock = None if is_read_only else _lock(path)
        try:
            self.connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={'ro' if is_read_only else 'rwc'}", uri=True
            )
            if not is_read_only:
                self.connection.execute("PRAGMA journal_mode = WAL")
                # A commit survives the death of the process without a sync; a power cut may cost the last ones.
                self.connection.execute("PRAGMA synchronous = NORMAL")
                self.connection.executescript(_SCHEMA)
                self.remember("epoch", secrets.token_hex(8))
            self.epoch = self.noted("epoch") or ""
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be used as a gateway's store ({error}); choose another place") from error

    def remember(self, name: str, value: str) -> str:
        """Keep `value` under `name` unless one is kept already; return what is kept."""
        with self.connection:
            self.connection.execute("INSERT OR IGNORE INTO identity VALUES (?, ?)", (name, value))
        return str(self.connection.execute("SELECT value FROM identity WHERE name = ?", (name,)).fetchone()[0])

    def note(self, name: str, value: str) -> None:
        """Keep `value` under `name`, in place of what was kept."""
        with self.connection:
            self.connection.execute("INSERT OR REPLACE INTO identity VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        """Return what is kept under `name`, or None."""
        row = self.connection.execute("SELECT value FROM identity WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def append(self, gateway: str, lane: str, bodies: Iterable[tuple[str, int]]) -> int:
        """Write messages in the open transaction; the caller commits before anything is sent.

        `bodies` yields (members after the seq, number of readings): `"readings": […]` or `"series": […]`, without
        braces. Returns the number of readings written.
        """
        seq = self.last_seq(gateway, lane) + 1
        readings = 0
        for members, count in bodies:
            payload = f'{{"epoch":"{self.epoch}","seq":{seq},{members}}}'.encode()
            self.connection.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", (gateway, lane, seq, payload, count))
            seq += 1
            readings += count
        self.connection.execute(
            "UPDATE lane SET next_seq = ?, queued = queued + ? WHERE gateway = ? AND lane = ?",
            (seq, readings, gateway, lane),
        )
        self._last_seq[gateway, lane] = seq - 1
        return readings

    def last_seq(self, gateway: str, lane: str) -> int:
        """Return the seq of the newest message ever written on a lane, 0 when there was none."""
        if (gateway, lane) not in self._last_seq:
            self.connection.execute(
                "INSERT OR IGNORE INTO lane (gateway, lane, next_seq) VALUES (?, ?, 1)", (gateway, lane)
            )
            row = self.connection.execute(
                "SELECT next_seq FROM lane WHERE gateway = ? AND lane = ?", (gateway, lane)
            ).fetchone()
            self._last_seq[gateway, lane] = int(row[0]) - 1
        return self._last_seq[gateway, lane]

    def commit(self) -> None:
        """Make what was appended and settled durable."""
        if self.connection.in_transaction:
            self.connection.commit()

    def after(self, gateway: str, lane: str, seq: int, limit: int) -> list[Message]:
        """Return up to `limit` waiting messages with a higher seq, in order."""
        rows = self.connection.execute(
            "SELECT seq, payload, readings FROM message WHERE gateway = ? AND lane = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (gateway, lane, seq, limit),
        )
        return [Message(*row) for row in rows]

    def one(self, gateway: str, lane: str, seq: int) -> Message | None:
        """Return one waiting message, or None when it was acknowledged or never written."""
        row = self.connection.execute(
            "SELECT seq, payload, readings FROM message WHERE gateway = ? AND lane = ? AND seq = ?",
            (gateway, lane, seq),
        ).fetchone()
        return None if row is None else Message(*row)

    def held(self, gateway: str, lane: str, from_seq: int, to_seq: int) -> list[int]:
        """Return the seqs of [from_seq, to_seq] that are still here, in order."""
        rows = self.connection.execute(
            "SELECT seq FROM message WHERE gateway = ? AND lane = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (gateway, lane, from_seq, to_seq),
        )
        return [int(row[0]) for row in rows]

    def settle(self, gateway: str, lane: str, seq: int, answer: Tally, reasons: dict[str, int]) -> int:
        """Delete an acknowledged message and count the answer; return its readings, 0 for one not here (any more)."""
        row = self.connection.execute(
            "DELETE FROM message WHERE gateway = ? AND lane = ? AND seq = ? RETURNING readings",
            (gateway, lane, seq),
        ).fetchone()
        if row is None:
            return 0
        self.connection.execute(
            "UPDATE lane SET handled = handled + ?, accepted = accepted + ?, duplicate = duplicate + ?,"
            " disputed = disputed + ?, rejected = rejected + ? WHERE gateway = ? AND lane = ?",
            (row[0], answer.accepted, answer.duplicate, answer.disputed, answer.rejected, gateway, lane),
        )
        for reason, items in reasons.items():
            self.connection.execute(
                "INSERT INTO rejection VALUES (?, ?, ?)"
                " ON CONFLICT (gateway, reason) DO UPDATE SET items = items + excluded.items",
                (gateway, reason, items),
            )
        return int(row[0])

    def waiting_readings(self, gateway: str, lane: str) -> int:
        """Return how many readings of a lane wait for their ack."""
        row = self.connection.execute(
            "SELECT coalesce(sum(readings), 0) FROM message WHERE gateway = ? AND lane = ?", (gateway, lane)
        ).fetchone()
        return int(row[0])

    def depth(self, gateway: str) -> int:
        """Return how many messages of a gateway wait for their ack."""
        row = self.connection.execute("SELECT count(*) FROM message WHERE gateway = ?", (gateway,)).fetchone()
        return int(row[0])

    def tally(self, gateway: str | None = None, lane: str | None = None) -> Tally:
        """Return the counts over the whole life of this file, of one gateway or lane if named."""
        row = self.connection.execute(
            f"SELECT {_TALLY} FROM lane WHERE coalesce(?, gateway) = gateway AND coalesce(?, lane) = lane",  # noqa: S608
            (gateway, lane),
        ).fetchone()
        return Tally(*row)

    def rejections(self) -> dict[str, int]:
        """Return the rejected items by reason."""
        rows = self.connection.execute("SELECT reason, sum(items) FROM rejection GROUP BY reason ORDER BY reason")
        return {str(reason): int(items) for reason, items in rows}

    def close(self) -> None:
        """Commit, close, and let the next process have the file."""
        self.commit()
        self.connection.close()
        if self._lock is not None:
            self._lock.close()


def _lock(path: Path) -> TextIO:
    """Hold the store for this process: a second sender of the same queues would answer for the other's acks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise StoreError(f"{path}: another simulator is using this store; stop it, or choose another place") from error
    return handle
