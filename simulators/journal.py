"""How far each gateway of a fleet has come: kept in the store's file, written together with the messages."""

from dataclasses import dataclass

from simulators.sampling import Body, SentValues
from simulators.store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hole (
    gateway TEXT NOT NULL, from_s INTEGER NOT NULL, to_s INTEGER NOT NULL, CHECK (to_s >= from_s)
);
CREATE TABLE IF NOT EXISTS live (gateway TEXT PRIMARY KEY, through_s INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sent (
    gateway TEXT NOT NULL, point TEXT NOT NULL, readings INTEGER NOT NULL, first_s INTEGER NOT NULL,
    first INTEGER NOT NULL, last_s INTEGER NOT NULL, last INTEGER NOT NULL, total TEXT NOT NULL,
    PRIMARY KEY (gateway, point)
);
"""


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch of the past that a gateway has yet to send: quarter-hour edges in (from_s, to_s]."""

    rowid: int
    gateway: str
    from_s: int
    to_s: int


class Journal:
    """Progress of the gateways that share a store. A reading is either in a hole, or written, never both."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.connection = store.connection
        if not store.is_read_only:
            self.connection.executescript(_SCHEMA)

    def begin(self, gateway: str, history_from_s: int, tick_s: int) -> None:
        """Open the hole between what was written last (or just before the history's first instant) and `tick_s`."""
        with self.connection:
            through_s = self.live_through_s(gateway)
            from_s = history_from_s - 1 if through_s is None else through_s
            if tick_s > from_s:
                self.connection.execute("INSERT INTO hole VALUES (?, ?, ?)", (gateway, from_s, tick_s))
                self.connection.execute("INSERT OR REPLACE INTO live VALUES (?, ?)", (gateway, tick_s))

    def live_through_s(self, gateway: str) -> int | None:
        """Return the instant up to which a gateway's time is accounted for, written or in a hole."""
        row = self.connection.execute("SELECT through_s FROM live WHERE gateway = ?", (gateway,)).fetchone()
        return None if row is None else int(row[0])

    def holes(self, gateway: str | None = None) -> list[Hole]:
        """Return the holes, oldest first."""
        rows = self.connection.execute(
            "SELECT rowid, gateway, from_s, to_s FROM hole WHERE coalesce(?, gateway) = gateway ORDER BY from_s",
            (gateway,),
        )
        return [Hole(*row) for row in rows]

    def write_window(self, hole: Hole, to_s: int, body: Body) -> None:
        """Write the part of a hole up to `to_s` into the backfill lane; what remains is the hole."""
        with self.connection:
            if body.readings:
                self.store.append(hole.gateway, "backfill", [(body.members, body.readings)])
                self._count(hole.gateway, body.sent)
            if to_s >= hole.to_s:
                self.connection.execute("DELETE FROM hole WHERE rowid = ?", (hole.rowid,))
            else:
                self.connection.execute("UPDATE hole SET from_s = ? WHERE rowid = ?", (to_s, hole.rowid))

    def write_live(self, gateway: str, bodies: list[Body], through_s: int, copies: int = 1) -> None:
        """Write live messages in the order given; the gateway's time is accounted for up to `through_s`."""
        with self.connection:
            messages = [(body.members, body.readings) for body in bodies if body.readings for _ in range(copies)]
            self.store.append(gateway, "live", messages)
            for body in sorted(bodies, key=lambda one: one.sent[-1].last_s if one.sent else 0):
                self._count(gateway, body.sent)
            self.connection.execute("INSERT OR REPLACE INTO live VALUES (?, ?)", (gateway, through_s))

    def _count(self, gateway: str, sent: list[SentValues]) -> None:
        for one in sent:
            row = self.connection.execute(
                "SELECT readings, first_s, first, last_s, last, total FROM sent WHERE gateway = ? AND point = ?",
                (gateway, one.point),
            ).fetchone()
            readings, first_s, first, last_s, last, total = row or (0, one.first_s, one.first, one.last_s, one.last, 0)
            if one.first_s < first_s:
                first_s, first = one.first_s, one.first
            if one.last_s >= last_s:
                last_s, last = one.last_s, one.last
            self.connection.execute(
                "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (gateway, one.point, readings + one.count, first_s, first, last_s, last, str(int(total) + one.total)),
            )

    def sent(self, gateway: str) -> list[SentValues]:
        """Return what was written, point by point; a message written twice counts once."""
        rows = self.connection.execute(
            "SELECT point, readings, first_s, first, last_s, last, total FROM sent WHERE gateway = ? ORDER BY point",
            (gateway,),
        )
        return [
            SentValues(point, count, first_s, first, last_s, last, int(total))
            for point, count, first_s, first, last_s, last, total in rows
        ]
