"""What was sent and what was answered: tables in the gateways' store, written in the store's own transactions."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from simulators.gateway import Ack
from simulators.sampling import Body
from simulators.store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS written (
    gateway TEXT NOT NULL, lane TEXT NOT NULL, seq INTEGER NOT NULL, members TEXT NOT NULL,
    UNIQUE (gateway, lane, seq)
);
CREATE TABLE IF NOT EXISTS answered (
    gateway TEXT NOT NULL, lane TEXT NOT NULL, seq INTEGER NOT NULL, rejected TEXT NOT NULL,
    UNIQUE (gateway, lane, seq)
);
CREATE TABLE IF NOT EXISTS timeline (gateway TEXT PRIMARY KEY, through_s INTEGER NOT NULL, ticks INTEGER NOT NULL);
"""
_SETTLED = """
    SELECT gateway, members, coalesce(rejected, '') FROM written LEFT JOIN answered USING (gateway, lane, seq)
"""
Key = tuple[str, str, int]  # gateway, point, instant in seconds since 1970


class Ledger:
    """The memory of a stream beyond its queues."""

    def __init__(self, store: Store) -> None:
        self.store = store
        if not store.is_read_only:
            store.connection.executescript(_SCHEMA)

    def progress(self, gateway: str, start_s: int) -> tuple[int, int]:
        """Return the instant up to which a gateway has written its timeline, and how many ticks it has lived."""
        row = self.store.connection.execute(
            "SELECT through_s, ticks FROM timeline WHERE gateway = ?", (gateway,)
        ).fetchone()
        return (start_s, 0) if row is None else (int(row[0]), int(row[1]))

    def write(self, gateway: str, messages: list[tuple[str, Body]], through_s: int, ticks: int) -> None:
        """Write (lane, body) of a tick, and how far the gateway has come, in one transaction."""
        connection = self.store.connection
        with connection:
            for lane, body in messages:
                self.store.append(gateway, lane, [(body.members, body.readings)])
                seq = self.store.last_seq(gateway, lane)
                connection.execute("INSERT INTO written VALUES (?, ?, ?, ?)", (gateway, lane, seq, body.members))
            connection.execute("INSERT OR REPLACE INTO timeline VALUES (?, ?, ?)", (gateway, through_s, ticks))

    def note(self, ack: Ack) -> None:
        """Note an answer in the open transaction, the one that deletes the message from the queue."""
        row = (ack.gateway, ack.lane, ack.seq, json.dumps(ack.rejected))
        self.store.connection.execute("INSERT OR REPLACE INTO answered VALUES (?, ?, ?, ?)", row)

    def counted(self) -> dict[Key, float]:
        """Return every reading that was acknowledged as accepted or duplicate, once; its value as sent."""
        readings: dict[Key, float] = {}
        for gateway, members, rejected in self.store.connection.execute(_SETTLED):
            if not rejected:
                continue
            refused = {index for index, _reason in json.loads(rejected)}
            if None in refused:
                continue
            for index, (point, at_s, value) in enumerate(_readings(members)):
                if index not in refused:
                    readings[gateway, point, at_s] = value
        return readings

    def reasons(self) -> Counter[str]:
        """Return the rejected items by reason."""
        rows = self.store.connection.execute("SELECT rejected FROM answered WHERE rejected <> '[]'")
        return Counter(reason for (rejected,) in rows for _index, reason in json.loads(rejected))


def _readings(members: str) -> Iterator[tuple[str, int, float]]:
    """Yield (point, instant, value) of a message in the order of their index."""
    document = json.loads("{" + members + "}")
    for item in document.get("readings", []):
        yield item["point"], int(datetime.fromisoformat(item["ts"]).timestamp()), item["value"]
    for series in document.get("series", []):
        start_s = int(datetime.fromisoformat(series["start"]).timestamp())
        for position, value in enumerate(series["values"]):
            yield series["point"], start_s + position * series["step_s"], value
