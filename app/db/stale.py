"""Stage hand-over by marks. Writers append marks; a stage claims them and recomputes what they cover."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

# Advisory lock spaces, one per stage, so that the same id may be locked by two stages at once.
LOCK_SPACE = {"rollup": 7_230_011, "account": 7_230_012, "benchmark": 7_230_013, "alert": 7_230_014}
# A claim takes at most so many marks: bounds the work of one transaction.
CLAIM_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch [from_at, to_at) of a subject whose derived figures are stale; point_id None means all points."""

    from_at: datetime
    to_at: datetime
    point_id: int | None
    cause: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A locked subject and the marks that were taken from it in this transaction."""

    subject_id: int
    marks: tuple[Mark, ...]

    @property
    def cause(self) -> str:
        """What made the marks: each cause once, for the revisions of the run."""
        return " + ".join(sorted({mark.cause for mark in self.marks}))


def mark(
    connection: Connection,
    stage: str,
    subject_id: int,
    from_at: datetime,
    to_at: datetime,
    *,
    point_id: int | None = None,
    cause: str,
) -> None:
    """Append one mark for a stage; the caller's transaction holds the change that made the figures stale."""
    mark_many(connection, stage, [(subject_id, point_id, from_at, to_at)], cause=cause)


def mark_many(
    connection: Connection,
    stage: str,
    rows: Sequence[tuple[int, int | None, datetime, datetime]],
    *,
    cause: str,
) -> None:
    """Append marks (subject_id, point_id, from_at, to_at) for a stage."""
    if rows:
        connection.execute(
            text(
                "INSERT INTO stale (stage, subject_id, point_id, from_at, to_at, cause)"
                " VALUES (:stage, :subject_id, :point_id, :from_at, :to_at, :cause)"
            ),
            [
                {"stage": stage, "subject_id": s, "point_id": p, "from_at": f, "to_at": t, "cause": cause}
                for s, p, f, t in rows
            ],
        )


class _Memory(threading.local):
    """What one working thread remembers: the subject it claimed last, and the subjects that failed it."""

    def __init__(self) -> None:
        self.claimed: dict[str, int] = {}
        self.left_alone: dict[tuple[str, int], float] = {}  # until this monotonic instant


_memory = _Memory()


def last_claimed(stage: str) -> int | None:
    """Return the subject of this thread's last claim of a stage, or None when it found nothing to claim."""
    return _memory.claimed.get(stage)


def forget_claim(stage: str) -> None:
    """Forget this thread's last claim of a stage, so that a failure before the next one blames no subject."""
    _memory.claimed.pop(stage, None)


def leave_alone(stage: str, subject_id: int, seconds: float) -> None:
    """Pass over a subject in this thread's claims for a while: one that fails must not starve the others."""
    _memory.left_alone[stage, subject_id] = time.monotonic() + seconds


def _left_alone(stage: str) -> list[int]:
    over = [key for key, until in _memory.left_alone.items() if until <= time.monotonic()]
    for key in over:
        del _memory.left_alone[key]
    return [subject_id for name, subject_id in _memory.left_alone if name == stage]


def claim(connection: Connection, stage: str) -> Claim | None:
    """Lock one subject of a stage and take its marks, or return None when nothing is free.

    First the subject's lock, then in a later statement (READ COMMITTED: a later snapshot) exactly the marks that are
    returned are deleted; the caller reads its input after that. Claiming and reading in one snapshot, or without the
    lock, loses updates.
    """
    _memory.claimed.pop(stage, None)
    subjects = connection.execute(
        text(
            "SELECT subject_id FROM stale WHERE stage = :stage AND subject_id <> ALL(:left_alone)"
            " GROUP BY subject_id ORDER BY min(id) LIMIT 200"
        ),
        {"stage": stage, "left_alone": _left_alone(stage)},
    ).scalars()
    for subject_id in subjects.all():
        if not connection.execute(
            text("SELECT pg_try_advisory_xact_lock(:space, hashint8(:subject))"),
            {"space": LOCK_SPACE[stage], "subject": subject_id},
        ).scalar_one():
            continue
        marks = _take(connection, stage, subject_id)
        if marks:
            _memory.claimed[stage] = subject_id
            return Claim(subject_id, marks)
    return None


def _take(connection: Connection, stage: str, subject_id: int) -> tuple[Mark, ...]:
    rows = connection.execute(
        text(
            "DELETE FROM stale WHERE id IN (SELECT id FROM stale WHERE stage = :stage AND subject_id = :subject"
            " ORDER BY from_at LIMIT :limit) RETURNING from_at, to_at, point_id, cause"
        ),
        {"stage": stage, "subject": subject_id, "limit": CLAIM_LIMIT},
    )
    return tuple(Mark(*row) for row in rows)


def oldest_age_s(connection: Connection) -> dict[str, float]:
    """Return the age in seconds of each stage's oldest mark, for the backlog metric."""
    rows = connection.execute(
        text("SELECT stage, extract(epoch FROM now() - min(marked_at))::float8 AS age_s FROM stale GROUP BY stage")
    )
    return {row.stage: row.age_s for row in rows}
