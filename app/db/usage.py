"""Usage of points: the set-based road for provably clean stretches, and the writing of hours, days and months.

A block is a point and whole hours [from_at, to_at) whose usage is to be recomputed. `write_clean` does so in one
statement for all blocks that need no judgement, and names them; the others are judged by `app.domain.metering` and
written by `write_judged`. Both give the same rows: the pure rules are the measure, a test compares them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, text

from app.domain.metering import DEFAULT_INTERVAL_S, PROOF, UsageHour

# Neighbours of a block are looked for so far away; where they are further, the block is judged one by one.
HORIZON = timedelta(days=14)


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
    """Hours of a point that changed in one business day, from the first to the end of the last."""

    point_id: int
    day: date
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True)
class CleanResult:
    """The blocks that were computed set-based, by their place in the input, and the days with changed hours."""

    clean: frozenset[int]
    changed: tuple[ChangedDay, ...]


def _interpolated(at: str) -> str:
    """SQL of the register at an instant inside the first step: rounded once, half away from zero, to six decimals.

    numeric division would round before; `div` is exact. Values are not negative here.
    """
    part = f"(extract(epoch FROM {at} - t0) * 1000000)"
    whole = "(extract(epoch FROM t1 - t0) * 1000000)"
    level = f"factor * (v0::numeric * ({whole} - {part}) + v1::numeric * {part})"
    return f"div(2000000 * {level} + {whole}, 2 * {whole}) * 0.000001"


# What can stand in `doubt` was shown clean by this: rising, in the load limit between its very neighbours, in one
# meter and one assignment, good, never overridden. See PROOF in app.domain.metering.rules.
_BLOCKS = f"""
WITH block AS MATERIALIZED (
  SELECT b.no, b.point_id, b.from_at, b.to_at, w.low_at, w.high_at,
         i.multiplier * u.canonical_per_unit AS factor,
         -- A hair below the limit: binary arithmetic decides nothing, it only asks for the exact judgement.
         (1.249999 * i.rated_load / 3600 / (i.multiplier * u.canonical_per_unit))::float8 AS rise_per_s,
         (1e14 / (i.multiplier * u.canonical_per_unit))::float8 AS largest,
         s.interval_s, make_interval(secs => 1.5 * s.interval_s) AS longest,
         floor(3600.0::float8 / s.interval_s + 0.5)::integer AS expected
  FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]), CAST(:to_ats AS timestamptz[]),
              CAST(:first_ats AS timestamptz[]), CAST(:last_ats AS timestamptz[]))
       WITH ORDINALITY AS b(point_id, from_at, to_at, first_at, last_at, no)
  JOIN point p ON p.id = b.point_id AND p.signal = 'register'
  JOIN unit_of_measure u ON u.unit = p.unit
  CROSS JOIN LATERAL (
    SELECT min(x.ts) AS at, count(*) AS n FROM (
      SELECT r.ts FROM reading r WHERE r.point_id = b.point_id AND r.ts < b.from_at AND r.ts >= :horizon_from
      ORDER BY r.ts DESC LIMIT {PROOF}) x) lo
  CROSS JOIN LATERAL (
    SELECT max(x.ts) AS at, count(*) AS n FROM (
      SELECT r.ts FROM reading r WHERE r.point_id = b.point_id AND r.ts >= b.to_at AND r.ts < :horizon_to
      ORDER BY r.ts LIMIT {PROOF}) x) hi
  CROSS JOIN LATERAL (
    SELECT coalesce(lo.at, b.from_at) AS low_at, coalesce(hi.at, b.to_at) AS high_at) w
  JOIN meter_installation i ON i.point_id = b.point_id
   AND i.from_at <= least(w.low_at, b.from_at) AND (i.to_at IS NULL OR i.to_at > w.high_at)
   AND (lo.n = {PROOF} OR (b.first_at >= w.low_at AND i.initial_register IS NULL))
   AND (hi.n = {PROOF} OR (b.last_at <= w.high_at AND i.final_register IS NULL))
  CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) = 0 THEN {DEFAULT_INTERVAL_S} ELSE max(a.expected_interval_s) FILTER (
             WHERE a.from_at <= w.low_at AND (a.to_at IS NULL OR a.to_at > w.high_at)) END AS interval_s
    FROM point_assignment a WHERE a.point_id = b.point_id) s
  WHERE s.interval_s <= 3600 AND NOT EXISTS (
    SELECT FROM reading_override o
    WHERE o.point_id = b.point_id AND o.ts >= w.low_at AND o.ts <= w.high_at)
)"""

# Every row carries what it needs of its block: the planner takes a block for one row and would join by going through
# all rows for each block (measured: five sixths of the time of 200 blocks with 24,000 hours).
# A step belongs to the hour in which it ends. Within a clean hour registers rise, so its first and last values are
# its least and greatest, and its steps telescope: only the registers at the edges become exact numbers. One block at
# a time, in the order of the index: nothing is sorted. Blocks whose readings stand on the hours are done then; in
# others, steps go across an hour's edge and are split.
_HOURS = f"""
, judged AS MATERIALIZED (
  SELECT b.no, b.point_id, b.from_at, b.to_at, b.factor, b.longest, b.interval_s, b.expected, x.*
  FROM block b CROSS JOIN LATERAL (
    SELECT end_hour, t0, v0, t1, v1, t2, v2, long,
           CASE WHEN t0 >= end_hour
                THEN round(v2::numeric * b.factor, 6) - round(v0::numeric * b.factor, 6) END AS quantity,
           CASE WHEN t0 = end_hour AND t2 = end_hour + interval '1 hour' AND long IS NULL THEN b.expected END AS "full",
           coalesce(bool_or(doubt OR v0 < 0 OR v2 >= b.largest OR (b.rise_per_s IS NULL
             AND (v0 = 0 AND v2 > 0 OR v2 >= 990 AND v2 >= 9.9 * v0))) OVER (), false) AS is_doubtful,
           bool_or(t0 < end_hour) OVER () AS is_split
    FROM (
      SELECT time_bucket('1 hour', ts - interval '1 microsecond') AS end_hour,
             min(prev_ts) AS t0, min(prev_value) AS v0, min(ts) AS t1, min(value) AS v1,
             max(ts) AS t2, max(value) AS v2,
             sum(ts - prev_ts) FILTER (WHERE ts - prev_ts > b.longest) AS long,
             bool_or(value < prev_value OR quality <> 0
               OR value - prev_value > b.rise_per_s * date_part('epoch', ts - prev_ts)) AS doubt
      FROM (
        SELECT r.ts, r.value, r.quality, lag(r.ts) OVER w AS prev_ts, lag(r.value) OVER w AS prev_value
        FROM reading r
        WHERE r.point_id = b.point_id AND r.ts >= b.low_at AND r.ts <= b.high_at
          AND r.ts >= :horizon_from AND r.ts < :horizon_to
        WINDOW w AS (ORDER BY r.ts)) step
      GROUP BY end_hour) ending) x
), clean AS (
  SELECT j.*, t1 - t0 <= longest AS is_measured, coalesce(long, interval '0') AS long_or_none
  FROM judged j WHERE NOT is_doubtful AND is_split AND t0 IS NOT NULL
), piece AS (
  SELECT no, point_id, interval_s, expected, end_hour AS hour_at,
         round(v2::numeric * factor, 6)
           - CASE WHEN t0 >= end_hour THEN round(v0::numeric * factor, 6)
                  ELSE {_interpolated("end_hour")} END AS quantity,
         t2 - greatest(t0, end_hour) AS covered,
         CASE WHEN t0 >= end_hour OR is_measured THEN long_or_none
              ELSE long_or_none - (end_hour - t0) END AS estimated
  FROM clean WHERE end_hour >= from_at AND end_hour < to_at
  UNION ALL
  SELECT no, point_id, interval_s, expected, h.at,
         {_interpolated("h.at + interval '1 hour'")}
           - CASE WHEN h.at <= t0 THEN round(v0::numeric * factor, 6) ELSE {_interpolated("h.at")} END,
         h.at + interval '1 hour' - greatest(h.at, t0),
         CASE WHEN is_measured THEN interval '0' ELSE h.at + interval '1 hour' - greatest(h.at, t0) END
  FROM clean CROSS JOIN LATERAL generate_series(
    greatest(time_bucket('1 hour', t0), from_at), least(end_hour, to_at) - interval '1 hour', interval '1 hour') h(at)
  WHERE t0 < end_hour
), summed AS (
  SELECT no, point_id, interval_s, expected, hour_at, sum(quantity) AS quantity, sum(covered) AS covered,
         sum(estimated) AS estimated, NULL::integer AS "full"
  FROM piece GROUP BY no, point_id, interval_s, expected, hour_at
  UNION ALL
  SELECT no, point_id, interval_s, expected, end_hour, quantity, t2 - t0, coalesce(long, interval '0'), "full"
  FROM judged
  WHERE NOT is_doubtful AND NOT is_split AND quantity IS NOT NULL AND end_hour >= from_at AND end_hour < to_at
), computed AS MATERIALIZED (
  -- floor(x + 0.5) rounds half up as the pure rules do: microseconds over an interval are never near a half by chance.
  SELECT no, point_id, hour_at, quantity, expected AS windows_expected, w.received AS windows_received,
         CASE WHEN "full" IS NOT NULL THEN 0 ELSE least(expected - w.received,
           floor(date_part('epoch', estimated) / interval_s + 0.5)::integer) END AS windows_estimated
  FROM summed CROSS JOIN LATERAL (
    SELECT CASE WHEN "full" IS NOT NULL THEN "full" ELSE least(
      expected, floor(date_part('epoch', covered - estimated) / interval_s + 0.5)::integer) END AS received) w
)"""

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
  SELECT no, point_id, (hour_at AT TIME ZONE 'Asia/Shanghai')::date AS day, min(hour_at) AS from_at,
         max(hour_at) + interval '1 hour' AS to_at
  FROM difference GROUP BY 1, 2, 3
)
SELECT NULL::bigint AS no, c.point_id, c.day, c.from_at, c.to_at FROM changed c
UNION ALL SELECT no, NULL, NULL, NULL, NULL FROM done"""

_CLEAN = f"""{_BLOCKS}{_HOURS}
, done AS MATERIALIZED (
  SELECT no, point_id, from_at, to_at FROM judged WHERE NOT is_doubtful GROUP BY 1, 2, 3, 4
){_WRITE}"""

_JUDGED = f"""
WITH done AS (
  SELECT * FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]),
                       CAST(:to_ats AS timestamptz[]))
  WITH ORDINALITY AS b(point_id, from_at, to_at, no)
), computed AS (
  SELECT c.*, d.point_id FROM unnest(CAST(:nos AS bigint[]), CAST(:hour_ats AS timestamptz[]),
                       CAST(:quantities AS numeric[]), CAST(:expected AS integer[]),
                       CAST(:received AS integer[]), CAST(:estimated AS integer[]))
  AS c(no, hour_at, quantity, windows_expected, windows_received, windows_estimated) JOIN done d USING (no)
){_WRITE}"""


def plan_each_time(connection: Connection) -> None:
    """Plan this transaction's statements for the rows they meet; a plan made for an empty table can take hours."""
    connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    connection.execute(text("SET LOCAL work_mem = '64MB'"))


def write_clean(connection: Connection, blocks: Sequence[Block]) -> CleanResult:
    """Recompute the hours of all blocks that need no judgement, in one statement; the rest is left as it was."""
    parameters = _block_parameters(blocks)
    parameters["first_ats"] = [b.first_at for b in blocks]
    parameters["last_ats"] = [b.last_at for b in blocks]
    parameters["horizon_from"] = min(b.from_at for b in blocks) - HORIZON
    parameters["horizon_to"] = max(b.to_at for b in blocks) + HORIZON
    return _result(connection.execute(text(_CLEAN), parameters))


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
    return _result(connection.execute(text(_JUDGED), parameters)).changed


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
    for no, point_id, day, from_at, to_at in rows:
        if isinstance(no, int):
            clean.add(no - 1)
        else:
            changed.append(ChangedDay(point_id, day, from_at, to_at))  # type: ignore[arg-type]
    return CleanResult(frozenset(clean), tuple(changed))


# One row per point and period: (point_id, period, windows expected in the whole period).
_DAYS = """
WITH period AS (
  SELECT * FROM unnest(CAST(:point_ids AS integer[]), CAST(:periods AS date[]), CAST(:expected AS integer[]))
  AS p(point_id, day, expected)
), computed AS MATERIALIZED (
  SELECT h.point_id, (h.hour_at AT TIME ZONE 'Asia/Shanghai')::date AS day, sum(h.quantity) AS quantity,
         sum(h.windows_received) AS received, sum(h.windows_estimated) AS estimated
  FROM unnest(CAST(:span_point_ids AS integer[]), CAST(:span_from_ats AS timestamptz[]),
              CAST(:span_to_ats AS timestamptz[])) AS s(point_id, from_at, to_at)
  JOIN usage_hour h ON h.point_id = s.point_id AND h.hour_at >= s.from_at AND h.hour_at < s.to_at
   AND h.hour_at >= :first_at AND h.hour_at < :end_at
  GROUP BY 1, 2
)"""
_MONTHS = """
WITH period AS (
  SELECT * FROM unnest(CAST(:point_ids AS integer[]), CAST(:periods AS date[]), CAST(:expected AS integer[]))
  AS p(point_id, month, expected)
), computed AS MATERIALIZED (
  SELECT p.point_id, p.month, sum(d.quantity) AS quantity,
         sum(d.windows_received) AS received, sum(d.windows_estimated) AS estimated
  FROM period p JOIN usage_day d
    ON d.point_id = p.point_id AND d.day >= p.month AND d.day < (p.month + interval '1 month')::date
  GROUP BY 1, 2
)"""
_WRITE_PERIODS = """
, removed AS (
  DELETE FROM usage_{key} u USING period p
  WHERE u.point_id = p.point_id AND u.{key} = p.{key}
    AND NOT EXISTS (SELECT FROM computed c WHERE c.point_id = p.point_id AND c.{key} = p.{key})
)
INSERT INTO usage_{key} AS u (point_id, {key}, quantity, windows_expected, windows_received, windows_estimated)
SELECT p.point_id, p.{key}, c.quantity, p.expected, c.received, c.estimated
FROM period p JOIN computed c USING (point_id, {key}) LEFT JOIN usage_{key} old USING (point_id, {key})
WHERE (old.quantity, old.windows_expected, old.windows_received, old.windows_estimated) IS DISTINCT FROM
      (c.quantity, p.expected, c.received, c.estimated)
ON CONFLICT (point_id, {key}) DO UPDATE SET
  quantity = excluded.quantity, windows_expected = excluded.windows_expected,
  windows_received = excluded.windows_received, windows_estimated = excluded.windows_estimated
"""

Period = tuple[int, date, int]


def write_days(connection: Connection, days: Sequence[Period], spans: Sequence[tuple[int, datetime, datetime]]) -> None:
    """Recompute days (point_id, day, windows expected) from their hours; the spans (point_id, from, to) hold them."""
    if days:
        parameters = _period_parameters(days) | {
            "span_point_ids": [point_id for point_id, _, _ in spans],
            "span_from_ats": [from_at for _, from_at, _ in spans],
            "span_to_ats": [to_at for _, _, to_at in spans],
            "first_at": min(from_at for _, from_at, _ in spans),
            "end_at": max(to_at for _, _, to_at in spans),
        }
        connection.execute(text(_DAYS + _WRITE_PERIODS.format(key="day")), parameters)


def write_months(connection: Connection, months: Sequence[Period]) -> None:
    """Recompute months (point_id, first day, windows expected) from their days."""
    if months:
        connection.execute(text(_MONTHS + _WRITE_PERIODS.format(key="month")), _period_parameters(months))


def _period_parameters(periods: Sequence[Period]) -> dict[str, object]:
    return {
        "point_ids": [point_id for point_id, _, _ in periods],
        "periods": [period for _, period, _ in periods],
        "expected": [expected for _, _, expected in periods],
    }
