"""What is known of each gateway's connection: heard by its readings, said by its state messages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ingest.payload import StateReport
from ingest.store.writing import Connection

_HEARD = """
    INSERT INTO gateway_state (gateway_id, is_online, seen_at, last_reading_at, last_commit_at)
    SELECT gateway_id, true, seen_at, reading_at, commit_at
    FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
         AS heard (gateway_id, seen_at, reading_at, commit_at)
    ORDER BY gateway_id
    ON CONFLICT (gateway_id) DO UPDATE SET
        seen_at = greatest(gateway_state.seen_at, EXCLUDED.seen_at),
        last_reading_at = greatest(gateway_state.last_reading_at, EXCLUDED.last_reading_at),
        last_commit_at = greatest(gateway_state.last_commit_at, EXCLUDED.last_commit_at)
"""
_SAID = """
    INSERT INTO gateway_state (gateway_id, is_online, said_at, queue_depth, clock_skew_s, seen_at)
    VALUES (%(gateway_id)s, %(is_online)s, %(said_at)s, %(queue_depth)s, %(clock_skew_s)s, %(said_at)s)
    ON CONFLICT (gateway_id) DO UPDATE SET
        is_online = EXCLUDED.is_online, said_at = EXCLUDED.said_at,
        queue_depth = coalesce(EXCLUDED.queue_depth, gateway_state.queue_depth),
        clock_skew_s = coalesce(EXCLUDED.clock_skew_s, gateway_state.clock_skew_s),
        seen_at = CASE WHEN %(is_heard)s THEN greatest(gateway_state.seen_at, EXCLUDED.seen_at)
                  ELSE gateway_state.seen_at END
"""


@dataclass(slots=True)
class Heard:
    """The latest signs of life of a gateway: its clockless receipt, its newest reading, its last commit."""

    seen_at: datetime
    reading_at: datetime | None
    commit_at: datetime | None


@dataclass(frozen=True, slots=True)
class StateArrival:
    """A message of the state topic. A retained one tells how things stand; it is no sign of life now."""

    gateway_code: str
    report: StateReport
    received_at: datetime
    is_retained: bool


def write_heard(connection: Connection, heard: Mapping[int, Heard]) -> None:
    """Bring gateway_state up to date, by gateway id; one statement, in the order of ids."""
    if heard:
        rows = [(gateway_id, one.seen_at, one.reading_at, one.commit_at) for gateway_id, one in sorted(heard.items())]
        connection.execute(_HEARD, [list(column) for column in zip(*rows, strict=True)])


def write_said(connection: Connection, arrivals: Iterable[tuple[int, StateArrival]]) -> None:
    """Write what gateways (by id) say of themselves, or the broker of them (last will)."""
    with connection.transaction():
        for gateway_id, arrival in sorted(arrivals, key=lambda pair: pair[0]):
            report = arrival.report
            is_heard = report.is_online and not arrival.is_retained
            skew_s = (report.sent_at - arrival.received_at).total_seconds() if is_heard and report.sent_at else None
            # A last will carries the time of the connect; a retained heartbeat the time it was said.
            said_at = report.sent_at if arrival.is_retained and report.is_online else None
            connection.execute(
                _SAID,
                {
                    "gateway_id": gateway_id,
                    "is_online": report.is_online,
                    "said_at": said_at or arrival.received_at,
                    "queue_depth": report.queue_depth,
                    "clock_skew_s": skew_s,
                    "is_heard": is_heard,
                },
            )
