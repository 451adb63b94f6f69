"""Stage hand-over by marks. Writers append marks; a stage claims them and recomputes what they cover."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

# Advisory lock spaces, one per stage, so that the same id may be locked by two stages at once.
LOCK_SPACE = {
    "rollup": 7_230_011,
    "account": 7_230_012,
    "benchmark": 7_230_013,
    "alert": 7_230_014,
    "validate": 7_230_015,
}
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


def mark_published(
    connection: Connection, stage: str, rows: Sequence[tuple[int, datetime, datetime]], *, cause: str
) -> None:
    """Append marks (point_id, from_at, to_at) of points' gateways, only those that reach a day published by the run's
    present: days that are still coming in are marked by the clock when they are published.
    """
    if rows:
        connection.execute(
            text(
                "INSERT INTO stale (stage, subject_id, point_id, from_at, to_at, cause)"
                " SELECT :stage, p.gateway_id, p.id, m.from_at, m.to_at, :cause FROM unnest("
                " CAST(:points AS integer[]), CAST(:from_ats AS timestamptz[]), CAST(:to_ats AS timestamptz[]))"
                " AS m (point_id, from_at, to_at) JOIN point p ON p.id = m.point_id"
                " WHERE (date_trunc('day', m.from_at AT TIME ZONE 'Asia/Shanghai') + interval '36 hours')"
                " AT TIME ZONE 'Asia/Shanghai' <= revision_now()"
            ),
            {
                "stage": stage,
                "cause": cause,
                "points": [point_id for point_id, _, _ in rows],
                "from_ats": [from_at for _, from_at, _ in rows],
                "to_ats": [to_at for _, _, to_at in rows],
            },
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


def forget_failures() -> None:
    """Pass over no subject any more in this thread: another database has other subjects."""
    _memory.left_alone.clear()


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


def claim_many(connection: Connection, stage: str, most: int, longest: timedelta | None = None) -> list[Claim]:
    """Lock up to so many subjects of a stage, oldest marks first, and take their marks, as `claim` does for one.

    `longest` passes over subjects whose marks cover more in sum, if others are there: what is live is not held up by
    what is late. A caller whose batch fails asks for fewer, down to one: only then is the subject known that fails.
    """
    if most == 1:
        one = claim(connection, stage)
        return [one] if one else []
    _memory.claimed.pop(stage, None)
    locked = connection.execute(
        text(
            "SELECT subject_id FROM (SELECT subject_id FROM stale WHERE stage = :stage"
            " AND subject_id <> ALL(:left_alone) GROUP BY subject_id"
            " HAVING sum(to_at - from_at) <= coalesce(:longest, interval '1000 years') ORDER BY min(id) LIMIT :most) s"
            " WHERE pg_try_advisory_xact_lock(:space, hashint8(subject_id))"
        ),
        {
            "stage": stage,
            "left_alone": _left_alone(stage),
            "longest": longest,
            "most": most,
            "space": LOCK_SPACE[stage],
        },
    ).scalars()
    rows = connection.execute(
        text(
            "DELETE FROM stale WHERE id IN (SELECT id FROM stale WHERE stage = :stage AND subject_id = ANY(:subjects)"
            " ORDER BY subject_id, from_at LIMIT :limit) RETURNING subject_id, from_at, to_at, point_id, cause"
        ),
        {"stage": stage, "subjects": locked.all(), "limit": CLAIM_LIMIT * 4},
    )
    marks: dict[int, list[Mark]] = {}
    for subject_id, *mark_ in rows:
        marks.setdefault(subject_id, []).append(Mark(*mark_))
    return [Claim(subject_id, tuple(taken)) for subject_id, taken in sorted(marks.items())]


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
