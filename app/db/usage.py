"""Usage of points by the hour: the set-based road for provably clean stretches, and the writing of hours.

A block is a point and whole hours [from_at, to_at) whose usage is to be recomputed. `write_clean` does so set-based
for all blocks that need no judgement, and names them: in one statement, and in another where no hour is written yet.
The others are judged by `app.domain.metering` and written by `write_judged`. Both give the same rows: the pure rules
are the measure, a test compares them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from app.db.usage_steps import (
    BLOCKS,
    EVEN_HOURS,
    INTERVAL_HOURS,
    REGISTER_HOURS,
    SUMS,
)
from app.domain.calendar import hour_floor
from app.domain.metering import Signal, UsageHour

# Neighbours of a block are looked for so far away; where they are further, the block is judged one by one. Each chunk
# that may hold them costs planning time in every statement.
HORIZON = timedelta(days=2)
# Blocks at least so long are asked whether they have any hour yet; a day that came late is not worth the question.
FRESH = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Block:
    """Whole hours [from_at, to_at) of a point; first_at and last_at are its first and last reading of all."""

    point_id: int
    from_at: datetime
    to_at: datetime
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChangedDay:
    """Hours of a point that changed in one day, from the first to the end of the last; or a block that is all new."""

    point_id: int
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True)
class CleanResult:
    """The blocks that were computed set-based, by their place in the input, and the days with changed hours."""

    clean: frozenset[int]
    changed: tuple[ChangedDay, ...]


# Rows that come out as they are stay untouched: a changed row is a changed figure. The full join is a hash join
# whatever the planner knows of tables that were empty a moment ago. Nobody else writes these rows: the gateway is
# locked by its claim, so new rows need no conflict clause.
_WRITE = """
, old AS MATERIALIZED (
  SELECT d.no, u.point_id, u.hour_at, u.quantity, u.windows_expected, u.windows_received, u.windows_estimated
  FROM done d JOIN usage_hour u ON u.point_id = d.point_id AND u.hour_at >= d.from_at AND u.hour_at < d.to_at
   AND u.hour_at >= :first_hour AND u.hour_at < :end_hour
), difference AS MATERIALIZED (
  SELECT no, hour_at, coalesce(c.point_id, o.point_id) AS point_id,
         c.quantity, c.windows_expected, c.windows_received, c.windows_estimated,
         o.quantity IS NULL AS is_new, c.quantity IS NULL AS is_gone
  FROM computed c FULL JOIN old o USING (no, hour_at)
  WHERE (o.quantity, o.windows_expected, o.windows_received, o.windows_estimated) IS DISTINCT FROM
        (c.quantity, c.windows_expected, c.windows_received, c.windows_estimated)
), inserted AS (
  INSERT INTO usage_hour (point_id, hour_at, quantity, windows_expected, windows_received, windows_estimated)
  SELECT f.point_id, f.hour_at, f.quantity, f.windows_expected, f.windows_received, f.windows_estimated
  FROM difference f WHERE f.is_new
), updated AS (
  UPDATE usage_hour u SET (quantity, windows_expected, windows_received, windows_estimated) =
         ROW (f.quantity, f.windows_expected, f.windows_received, f.windows_estimated)
  FROM difference f
  WHERE NOT f.is_new AND NOT f.is_gone AND u.point_id = f.point_id AND u.hour_at = f.hour_at
    AND u.hour_at >= :first_hour AND u.hour_at < :end_hour
), removed AS (
  DELETE FROM usage_hour u USING difference f
  WHERE f.is_gone AND u.point_id = f.point_id AND u.hour_at = f.hour_at
    AND u.hour_at >= :first_hour AND u.hour_at < :end_hour
), changed AS (
  SELECT no, point_id, min(hour_at) AS from_at, max(hour_at) + interval '1 hour' AS to_at
  FROM difference GROUP BY no, point_id, time_bucket('1 day', hour_at)
)
SELECT NULL::bigint AS no, c.point_id, c.from_at, c.to_at FROM changed c
UNION ALL SELECT no, NULL, NULL, NULL FROM done"""

_DONE = """
, done AS MATERIALIZED (
  SELECT b.no, b.point_id, b.from_at, b.to_at FROM block b WHERE b.no <> ALL (ARRAY(SELECT no FROM doubtful))
)"""
_CLEAN = {
    Signal.REGISTER: text(f"{BLOCKS}{REGISTER_HOURS}{SUMS}{_DONE}{_WRITE}"),
    Signal.INTERVAL: text(f"{BLOCKS}{INTERVAL_HOURS}{SUMS}{_DONE}{_WRITE}"),
}

# The first time that hours are written, there is nothing to compare them with, and nearly always every reading stands
# where it is expected, none missing. See EVEN_HOURS. What is otherwise is left to the statement above, at the price of
# having been read twice.
_FRESH = text(f"""{BLOCKS}{EVEN_HOURS}, inserted AS (
  INSERT INTO usage_hour (point_id, hour_at, quantity, windows_expected, windows_received, windows_estimated)
  SELECT point_id, hour_at, quantity, expected, received, 0 FROM even_hour
)
SELECT no FROM even
""")
_FILLED = text("""
SELECT b.no FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]),
                        CAST(:to_ats AS timestamptz[])) WITH ORDINALITY AS b(point_id, from_at, to_at, no)
CROSS JOIN LATERAL (
  SELECT FROM usage_hour u WHERE u.point_id = b.point_id AND u.hour_at >= b.from_at AND u.hour_at < b.to_at
    AND u.hour_at >= :first_hour AND u.hour_at < :end_hour LIMIT 1) one
""")

_JUDGED = text(f"""
WITH done AS (
  SELECT * FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]),
                       CAST(:to_ats AS timestamptz[]))
  WITH ORDINALITY AS b(point_id, from_at, to_at, no)
), computed AS (
  SELECT c.*, d.point_id FROM unnest(CAST(:nos AS bigint[]), CAST(:hour_ats AS timestamptz[]),
                       CAST(:quantities AS numeric[]), CAST(:expected AS integer[]),
                       CAST(:received AS integer[]), CAST(:estimated AS integer[]))
  AS c(no, hour_at, quantity, windows_expected, windows_received, windows_estimated) JOIN done d USING (no)
){_WRITE}""")


def plan_each_time(connection: Connection) -> None:
    """Plan this transaction's statements for the rows they meet; a plan made for an empty table can take hours."""
    connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    connection.execute(text("SET LOCAL work_mem = '64MB'"))


def write_clean(connection: Connection, signal: Signal, blocks: Sequence[Block]) -> CleanResult:
    """Recompute the hours of all blocks that need no judgement, set-based; the rest is left as it was.

    `signal` is that of all the points. Gauges always need a judgement.
    """
    if signal not in _CLEAN:
        return CleanResult(frozenset(), ())
    fresh = _write_fresh(connection, blocks) if signal is Signal.REGISTER else frozenset()
    left = [no for no in range(len(blocks)) if no not in fresh]
    clean, changed = set(fresh), [ChangedDay(b.point_id, b.from_at, b.to_at) for b in map(blocks.__getitem__, fresh)]
    if left:
        result = _result(connection.execute(_CLEAN[signal], _context_parameters([blocks[no] for no in left])))
        clean |= {left[no] for no in result.clean}
        changed += result.changed
    return CleanResult(frozenset(clean), tuple(changed))


def _write_fresh(connection: Connection, blocks: Sequence[Block]) -> frozenset[int]:
    """Write the hours of long blocks that have none, where that needs no judgement; return which, by their place."""
    long = [no for no, block in enumerate(blocks) if block.to_at - block.from_at >= FRESH]
    filled = _filled(connection, [blocks[no] for no in long])
    empty = [no for index, no in enumerate(long) if index not in filled]
    if not empty:
        return frozenset()
    rows = connection.execute(_FRESH, _context_parameters([blocks[no] for no in empty]))
    return frozenset(empty[no - 1] for (no,) in rows)


def _filled(connection: Connection, blocks: Sequence[Block]) -> set[int]:
    """Return the blocks in which any hour is written, by their place."""
    return {no - 1 for (no,) in connection.execute(_FILLED, _block_parameters(blocks))} if blocks else set()


def write_judged(
    connection: Connection, blocks: Sequence[Block], hours: Sequence[Sequence[UsageHour]]
) -> tuple[ChangedDay, ...]:
    """Replace the hours of blocks by those that the pure rules gave, block by block."""
    parameters = _block_parameters(blocks)
    rows = [(no, hour) for no, found in enumerate(hours, 1) for hour in found]
    parameters |= {
        "nos": [no for no, _ in rows],
        "hour_ats": [h.hour_at for _, h in rows],
        "quantities": [h.quantity for _, h in rows],
        "expected": [h.windows_expected for _, h in rows],
        "received": [h.windows_received for _, h in rows],
        "estimated": [h.windows_estimated for _, h in rows],
    }
    return _result(connection.execute(_JUDGED, parameters)).changed


def _context_parameters(blocks: Sequence[Block]) -> dict[str, object]:
    return _block_parameters(blocks) | {
        "first_ats": [b.first_at for b in blocks],
        "last_ats": [b.last_at for b in blocks],
        "horizon_from": min(b.from_at for b in blocks) - HORIZON,
        "horizon_to": max(b.to_at for b in blocks) + HORIZON,
        "grid_from": hour_floor(min(b.from_at for b in blocks) - HORIZON),
    }


def _block_parameters(blocks: Sequence[Block]) -> dict[str, object]:
    return {
        "point_ids": [b.point_id for b in blocks],
        "from_ats": [b.from_at for b in blocks],
        "to_ats": [b.to_at for b in blocks],
        "first_hour": min(b.from_at for b in blocks),
        "end_hour": max(b.to_at for b in blocks),
    }


def _result(rows: Iterable[Sequence[object]]) -> CleanResult:
    clean: set[int] = set()
    changed: list[ChangedDay] = []
    for no, point_id, from_at, to_at in rows:
        if isinstance(no, int):
            clean.add(no - 1)
        else:
            changed.append(ChangedDay(point_id, from_at, to_at))  # type: ignore[arg-type]
    return CleanResult(frozenset(clean), tuple(changed))
