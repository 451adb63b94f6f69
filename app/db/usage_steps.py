"""SQL of hours out of readings: what is known of a block, its steps hour by hour, and what its hours come to.

Texts that follow one another in a statement of `app.db.usage`; what the statements do with it is said there.
"""

from app.domain.metering import DEFAULT_INTERVAL_S, PROOF


def _millionths(value: str) -> str:
    return f"round({value} * 1e6)"


def _is_counted(value: str) -> str:
    """SQL: whether a double is the one nearest to some count of millionths below 1e15."""
    return f"{value} >= 0 AND {value} < 1e9 AND {_millionths(value)} / 1e6 = {value}"


def _edge(value: str) -> str:
    """SQL of a register in canonical units, rounded to six decimals, in block b: `value::numeric * factor`, sooner.

    PostgreSQL makes a double a number by printing it with 15 digits. Where the double counts millionths, these digits
    say just that count, and an integer is a number at once.
    """
    return (
        f"round(CASE WHEN {_is_counted(value)} THEN {_millionths(value)}::bigint * b.factor_millionth"
        f" ELSE {value}::numeric * b.factor END, 6)"
    )


def _interpolated(at: str) -> str:
    """SQL of the register at an instant inside the first step: rounded once, half away from zero, to six decimals.

    numeric division would round before; `div` is exact. Values are not negative here.
    """
    part = f"(extract(epoch FROM {at} - t0) * 1000000)"
    whole = "(extract(epoch FROM t1 - t0) * 1000000)"
    level = f"factor * (v0::numeric * ({whole} - {part}) + v1::numeric * {part})"
    return f"div(2000000 * {level} + {whole}, 2 * {whole}) * 0.000001"


def _is_broken(v0: str, t0: str, v1: str, t1: str) -> str:
    """SQL: whether two neighbouring readings ask for the exact judgement, in block b.

    Readings at least an expected interval apart are held against the limit of one interval first: nearly all pass, and
    the length of their step need not be made a number.
    """
    rise, step = f"{v1} - {v0}", f"{t1} - {t0}"
    return (
        f"{v1} < {v0} OR (({rise} > b.rise OR {step} < b.step)"
        f" AND ({t1} <= {t0} OR {rise} > b.rise_per_s * date_part('epoch', {step})))"
    )


def _pairs(condition: str) -> str:
    """SQL: whether a condition holds between two neighbours of an hour's first four readings."""
    return " OR ".join(condition.format(i=i, j=i + 1) for i in (1, 2, 3))


# In arrays t and v of an hour.
_BROKEN_PAIR = _is_broken("v[{i}]", "t[{i}]", "v[{j}]", "t[{j}]")


# What is not `is_odd` here was shown clean: rising, in the load limit between its very neighbours, in one meter and
# one assignment, good, never overridden. See PROOF in app.domain.metering.rules.
BLOCKS = f"""
WITH block AS MATERIALIZED (
  SELECT b.no, b.point_id, b.from_at, b.to_at, w.low_at, w.high_at, f.factor,
         f.factor * 0.000001 AS factor_millionth, f.factor = trunc(f.factor) AS is_whole,
         -- A hair below the limit: binary arithmetic decides nothing, it only asks for the exact judgement.
         coalesce(1.249999 * i.rated_load / 3600 / f.factor, 'Infinity')::float8 AS rise_per_s,
         coalesce(1.249999 * i.rated_load / 3600 / f.factor * s.interval_s, 'Infinity')::float8 AS rise,
         i.rated_load IS NULL AS is_unrated, coalesce(hi.first_at = b.to_at, true) AS is_on_the_hour,
         (1e14 / f.factor)::float8 AS largest,
         s.interval_s, make_interval(secs => s.interval_s) AS step,
         make_interval(secs => 1.5 * s.interval_s) AS longest,
         floor(3600.0::float8 / s.interval_s + 0.5)::integer AS expected
  FROM unnest(CAST(:point_ids AS integer[]), CAST(:from_ats AS timestamptz[]), CAST(:to_ats AS timestamptz[]),
              CAST(:first_ats AS timestamptz[]), CAST(:last_ats AS timestamptz[]))
       WITH ORDINALITY AS b(point_id, from_at, to_at, first_at, last_at, no)
  JOIN point p ON p.id = b.point_id
  JOIN unit_of_measure u ON u.unit = p.unit
  CROSS JOIN LATERAL (
    SELECT min(x.ts) AS at, count(*) AS n FROM (
      SELECT r.ts FROM reading r WHERE r.point_id = b.point_id AND r.ts < b.from_at AND r.ts >= :horizon_from
      ORDER BY r.ts DESC LIMIT {PROOF}) x) lo
  CROSS JOIN LATERAL (
    SELECT min(x.ts) AS first_at, max(x.ts) AS at, count(*) AS n FROM (
      SELECT r.ts FROM reading r WHERE r.point_id = b.point_id AND r.ts >= b.to_at AND r.ts < :horizon_to
      ORDER BY r.ts LIMIT {PROOF}) x) hi
  CROSS JOIN LATERAL (
    SELECT coalesce(lo.at, b.from_at) AS low_at, coalesce(hi.at, b.to_at) AS high_at) w
  JOIN meter_installation i ON i.point_id = b.point_id
   AND i.from_at <= least(w.low_at, b.from_at) AND (i.to_at IS NULL OR i.to_at > w.high_at)
   AND (lo.n = {PROOF} OR (b.first_at >= w.low_at AND i.initial_register IS NULL))
   AND (hi.n = {PROOF} OR (b.last_at <= w.high_at AND i.final_register IS NULL))
  CROSS JOIN LATERAL (SELECT i.multiplier * u.canonical_per_unit AS factor) f
  CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) = 0 THEN {DEFAULT_INTERVAL_S} ELSE max(a.expected_interval_s) FILTER (
             WHERE a.from_at <= w.low_at AND (a.to_at IS NULL OR a.to_at > w.high_at)) END AS interval_s
    FROM point_assignment a WHERE a.point_id = b.point_id) s
  WHERE s.interval_s <= 3600 AND NOT EXISTS (
    SELECT FROM reading_override o
    WHERE o.point_id = b.point_id AND o.ts >= w.low_at AND o.ts <= w.high_at)
)"""

# Registers. A step belongs to the hour in which it ends. Readings are gathered per hour first, so that all that follows
# is done once an hour, not once a reading; and each hour's last register is made an exact number once: the quantity of
# an hour is the difference of two. One block at a time, in the order of the index: nothing is sorted. (Should the
# readings of an hour ever come in another order, their times do not rise, and the block is judged.) Every row carries
# what it needs of its block: the planner takes a block for one row and would join by going through all rows for each.
# Blocks whose readings stand on the hours are done then; in others, steps go across an hour's edge and are split.
# Four readings evenly an interval apart, nearly every hour, need few comparisons: `is_even`. OFFSET 0 keeps the
# arrays from being carried, and unpacked, past the window; each ORDER BY tells the next level that nothing need be
# sorted.
_STEPS = f"""
  (
    SELECT h.*, lag(t2) OVER w AS before_t, lag(v2) OVER w AS before_v, lag(edge) OVER w AS before_edge
    FROM (
      SELECT end_hour, n, t1, v1, t2, v2, {_edge("v2")} AS edge,
             is_bad OR CASE WHEN is_even THEN {_pairs("v[{j}] < v[{i}]")}
               OR v2 - v1 > b.rise AND ({_pairs("v[{j}] - v[{i}] > b.rise")})
             ELSE {_pairs(_BROKEN_PAIR)} OR CASE WHEN n > 4 THEN (
               SELECT bool_or({_BROKEN_PAIR.format(i="i - 1", j="i")}) FROM generate_series(5, n) i) END
             END AS is_odd,
             CASE WHEN NOT is_even AND (n > 4 OR {_pairs("t[{j}] - t[{i}] > b.longest")}) THEN (
               SELECT sum(t[i] - t[i - 1]) FILTER (WHERE t[i] - t[i - 1] > b.longest) FROM generate_series(2, n) i)
             END AS long_within
      FROM (
        SELECT *, t[1] AS t1, v[1] AS v1, t[n] AS t2, v[n] AS v2,
               n = 4 AND t[2] - t[1] = b.step AND t[3] - t[2] = b.step AND t[4] - t[3] = b.step AS is_even
        FROM (
          SELECT time_bucket('1 hour', ts - interval '1 microsecond') AS end_hour, count(*)::integer AS n,
                 array_agg(ts) AS t, array_agg(value) AS v, bool_or(quality <> 0) AS is_bad
          FROM reading r
          WHERE r.point_id = b.point_id AND r.ts >= b.low_at AND r.ts <= b.high_at
            AND r.ts >= :horizon_from AND r.ts < :horizon_to
          GROUP BY end_hour ORDER BY end_hour) grouped
        ORDER BY end_hour OFFSET 0) gathered
      ORDER BY end_hour OFFSET 0) h
    WINDOW w AS (ORDER BY end_hour)) e
  -- The very first reading of the block has no step before it.
  CROSS JOIN LATERAL (
    SELECT CASE WHEN before_t IS NOT NULL THEN before_t WHEN n > 1 THEN t1 END AS t0,
           coalesce(before_v, v1) AS v0, coalesce(before_edge, {_edge("v1")}) AS edge0) s
  CROSS JOIN LATERAL (
    SELECT CASE WHEN t1 - t0 > b.longest THEN t1 - t0 + coalesce(long_within, interval '0')
           ELSE long_within END AS long) l"""
_IS_ODD = f"""e.is_odd OR s.v0 < 0 OR e.v2 >= b.largest
           OR (b.is_unrated AND (s.v0 = 0 AND e.v2 > 0 OR e.v2 >= 990 AND e.v2 >= 9.9 * s.v0))
           OR (before_t IS NOT NULL AND ({_is_broken("before_v", "before_t", "e.v1", "e.t1")}))"""
REGISTER_HOURS = f"""
, hour AS MATERIALIZED (
  SELECT b.no, e.end_hour, e.end_hour >= b.from_at AND e.end_hour < b.to_at AS is_inside, s.t0, {_IS_ODD} AS is_odd,
         b.point_id, e.t2, e.edge, s.edge0, l.long, b.interval_s, b.expected,
         s.v0, e.t1, e.v1, b.from_at, b.to_at, b.factor, b.longest
  FROM block b CROSS JOIN LATERAL{_STEPS}
)"""

# Intervals that divide the hour and start on it: each is energy of one hour alone. One that starts elsewhere may mean
# the same interval as another, or be split.
INTERVAL_HOURS = f"""
, hour AS MATERIALIZED (
  SELECT b.no, x.end_hour, x.end_hour >= b.from_at AND x.end_hour < b.to_at AS is_inside, x.end_hour AS t0,
         x.is_odd OR 3600 % b.interval_s <> 0 AS is_odd,
         b.point_id, x.end_hour + x.n * b.step AS t2, x.edge, 0::numeric AS edge0, NULL::interval AS long,
         b.interval_s, b.expected,
         0::float8 AS v0, x.end_hour AS t1, 0::float8 AS v1, b.from_at, b.to_at, b.factor, b.longest
  FROM block b CROSS JOIN LATERAL (
    SELECT time_bucket('1 hour', ts) AS end_hour, count(*) AS n, sum({_edge("value")}) AS edge,
           bool_or(quality <> 0 OR value < 0 OR value > b.rise OR value >= b.largest
             OR ts <> time_bucket(b.step, ts)) AS is_odd
    FROM reading r
    WHERE r.point_id = b.point_id AND r.ts >= b.low_at AND r.ts <= b.high_at
      AND r.ts >= :horizon_from AND r.ts < :horizon_to
    GROUP BY end_hour ORDER BY end_hour) x
)"""

# An hour that one step after the other covers from edge to edge, as nearly all do, needs no count of windows.
_IS_FULL = "t0 = end_hour AND t2 = end_hour + interval '1 hour' AND long IS NULL"
# floor(x + 0.5) rounds half up as the pure rules do: microseconds over an interval are never near a half by chance.
_RECEIVED = (
    "CASE WHEN is_full THEN expected ELSE least("
    "expected, floor(date_part('epoch', covered - estimated) / interval_s + 0.5)::integer) END"
)
_ESTIMATED = (
    "CASE WHEN is_full THEN 0 ELSE least("
    "expected - received, floor(date_part('epoch', estimated) / interval_s + 0.5)::integer) END"
)

# Few hours are odd or split, so asking for those is cheaper than a verdict on each block. A block without any hour is
# not doubtful: then nothing is left of its readings, and its rows go.
SUMS = f"""
, doubtful AS MATERIALIZED (SELECT DISTINCT no FROM hour WHERE is_odd)
, split AS MATERIALIZED (SELECT DISTINCT no FROM hour WHERE t0 < end_hour)
, clean AS (
  SELECT h.*, t1 - t0 <= longest AS is_measured, coalesce(long, interval '0') AS long_or_none
  FROM hour h
  WHERE t0 IS NOT NULL AND no = ANY (ARRAY(SELECT no FROM split EXCEPT SELECT no FROM doubtful))
), piece AS (
  SELECT no, point_id, interval_s, expected, end_hour AS hour_at,
         edge - CASE WHEN t0 >= end_hour THEN edge0 ELSE {_interpolated("end_hour")} END AS quantity,
         t2 - greatest(t0, end_hour) AS covered,
         CASE WHEN t0 >= end_hour OR is_measured THEN long_or_none
              ELSE long_or_none - (end_hour - t0) END AS estimated
  FROM clean WHERE is_inside
  UNION ALL
  SELECT no, point_id, interval_s, expected, h.at,
         {_interpolated("h.at + interval '1 hour'")}
           - CASE WHEN h.at <= t0 THEN edge0 ELSE {_interpolated("h.at")} END,
         h.at + interval '1 hour' - greatest(h.at, t0),
         CASE WHEN is_measured THEN interval '0' ELSE h.at + interval '1 hour' - greatest(h.at, t0) END
  FROM clean CROSS JOIN LATERAL generate_series(
    greatest(time_bucket('1 hour', t0), from_at), least(end_hour, to_at) - interval '1 hour', interval '1 hour') h(at)
  WHERE t0 < end_hour
), summed AS (
  SELECT no, point_id, interval_s, expected, hour_at, sum(quantity) AS quantity, sum(covered) AS covered,
         sum(estimated) AS estimated, false AS is_full
  FROM piece GROUP BY no, point_id, interval_s, expected, hour_at
  UNION ALL
  SELECT no, point_id, interval_s, expected, end_hour, edge - edge0, t2 - t0, coalesce(long, interval '0'), {_IS_FULL}
  FROM hour
  WHERE t0 IS NOT NULL AND is_inside
    AND no <> ALL (ARRAY(SELECT no FROM doubtful UNION SELECT no FROM split))
), computed AS (
  SELECT no, point_id, hour_at, quantity, expected AS windows_expected, received AS windows_received,
         {_ESTIMATED} AS windows_estimated
  FROM summed CROSS JOIN LATERAL (SELECT {_RECEIVED} AS received) w
)"""

# Registers whose readings are an expected interval apart all through the block and its neighbours, on the hours, none
# missing: then nothing need be grouped, and the edges of an hour are two places in the array of the block. Where an
# array ends nothing compares. (Should the readings come in another order, their times are not those of the grid.) What
# is clean is as in _IS_ODD; among rising registers the first and the last tell of all. A factor that is a whole number
# leaves nothing to round. OFFSET 0 keeps the places from being worked out for each use.
_NEXT_FOUR = [(f"i + {n}", f"i + {n + 1}") for n in range(4)]
_LAST = "v[least(i + 4, n)]"
EVEN_HOURS = f"""
, grid AS MATERIALIZED (
  SELECT interval_s, array_agg(g.at ORDER BY g.at) AS at
  FROM (SELECT DISTINCT interval_s, step FROM block WHERE interval_s >= 60 AND 3600 % interval_s = 0) s
  CROSS JOIN generate_series(CAST(:grid_from AS timestamptz), :horizon_to, s.step) g(at)
  GROUP BY interval_s
), even AS MATERIALIZED (
  SELECT b.*, r.n, r.v, p.start
  FROM block b JOIN grid ON grid.interval_s = b.interval_s
  CROSS JOIN LATERAL (
    SELECT count(*)::integer AS n, array_agg(ts) AS t, array_agg(value) AS v, bool_or(quality <> 0) AS is_bad
    FROM (
      SELECT ts, value, quality FROM reading r
      WHERE r.point_id = b.point_id AND r.ts >= b.low_at AND r.ts <= b.high_at
        AND r.ts >= :horizon_from AND r.ts < :horizon_to ORDER BY ts) ordered) r
  -- The place of the first reading in the grid, and that of the block's beginning among the readings.
  CROSS JOIN LATERAL (
    SELECT 1 + (date_part('epoch', t[1] - grid.at[1]) / b.interval_s)::integer AS place,
           1 + (date_part('epoch', b.from_at - t[1]) / b.interval_s)::integer AS start) p
  WHERE b.is_on_the_hour AND start < n AND NOT is_bad AND t = grid.at[place : place + n - 1]
    AND v[1] >= 0 AND v[n] < b.largest AND (
      SELECT bool_or(
        {" OR ".join(f"v[{j}] < v[{i}]" for i, j in _NEXT_FOUR)}
        OR {_LAST} - v[i] > b.rise AND ({" OR ".join(f"v[{j}] - v[{i}] > b.rise" for i, j in _NEXT_FOUR)})
        OR b.is_unrated AND (v[i] = 0 AND {_LAST} > 0 OR {_LAST} >= 990 AND {_LAST} >= 9.9 * v[i]))
      FROM generate_series(1, n - 1, 4) i) IS NOT TRUE
), even_hour AS (
  SELECT point_id, hour_at, expected, received,
         CASE WHEN is_whole AND {_is_counted("v0")} AND {_is_counted("v1")}
           THEN ({_millionths("v1")}::bigint - {_millionths("v0")}::bigint) * factor_millionth
           ELSE {_edge("v1")} - {_edge("v0")} END AS quantity
  FROM (
    SELECT *, from_at + k * interval '1 hour' AS hour_at, till - since AS received, v[since] AS v0, v[till] AS v1
    FROM (
      SELECT e.*, k, greatest(start + k * expected, 1) AS since, least(start + (k + 1) * expected, n) AS till
      FROM even e CROSS JOIN LATERAL generate_series(
        greatest(1 - start, 0) / expected,
        least(date_part('epoch', to_at - from_at)::integer / 3600 - 1, (n - start - 1) / expected)) k
      OFFSET 0) places
    OFFSET 0) b
)"""
