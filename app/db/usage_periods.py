"""Usage of points by days and months, out of the hours: a day is the sum of its hours, a month of its days."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Connection, text

from app.domain.calendar import day_start

# A run is a point and days (or a month) that expect the same number of windows each. Asia/Shanghai has been 8 hours
# ahead all year since 1992; asking the zone for each hour would take a third of the time of the days.
_RUNS = """
WITH run AS (
  SELECT * FROM unnest(CAST(:point_ids AS integer[]), CAST(:first_days AS date[]), CAST(:end_days AS date[]),
                       CAST(:expected AS integer[]))
  AS r(point_id, first_day, end_day, expected)
)"""
_DAYS = """
, span AS (
  SELECT *, (first_day - interval '8 hours') AT TIME ZONE 'UTC' AS from_at,
            (end_day - interval '8 hours') AT TIME ZONE 'UTC' AS to_at FROM run
), computed AS MATERIALIZED (
  SELECT s.point_id, (d.bucket AT TIME ZONE 'UTC')::date AS day, s.expected, d.quantity, d.received, d.estimated
  FROM span s CROSS JOIN LATERAL (
    SELECT time_bucket('1 day', h.hour_at + interval '8 hours') AS bucket, sum(h.quantity) AS quantity,
           sum(h.windows_received) AS received, sum(h.windows_estimated) AS estimated
    FROM usage_hour h
    WHERE h.point_id = s.point_id AND h.hour_at >= s.from_at AND h.hour_at < s.to_at
      AND h.hour_at >= :first_at AND h.hour_at < :end_at
    GROUP BY bucket ORDER BY bucket) d
)"""
_MONTHS = """
, computed AS MATERIALIZED (
  SELECT r.point_id, r.first_day AS month, r.expected, sum(d.quantity) AS quantity,
         sum(d.windows_received) AS received, sum(d.windows_estimated) AS estimated
  FROM run r JOIN usage_day d ON d.point_id = r.point_id AND d.day >= r.first_day AND d.day < r.end_day
  GROUP BY r.point_id, r.first_day, r.expected
)"""
_WRITE_PERIODS = """
, removed AS (
  DELETE FROM usage_{key} u USING run r
  WHERE u.point_id = r.point_id AND u.{key} >= r.first_day AND u.{key} < r.end_day
    AND NOT EXISTS (SELECT FROM computed c WHERE c.point_id = u.point_id AND c.{key} = u.{key})
)
INSERT INTO usage_{key} AS u (point_id, {key}, quantity, windows_expected, windows_received, windows_estimated)
SELECT c.point_id, c.{key}, c.quantity, c.expected, c.received, c.estimated
FROM computed c LEFT JOIN usage_{key} old ON old.point_id = c.point_id AND old.{key} = c.{key}
WHERE (old.quantity, old.windows_expected, old.windows_received, old.windows_estimated) IS DISTINCT FROM
      (c.quantity, c.expected, c.received, c.estimated)
ON CONFLICT (point_id, {key}) DO UPDATE SET
  quantity = excluded.quantity, windows_expected = excluded.windows_expected,
  windows_received = excluded.windows_received, windows_estimated = excluded.windows_estimated
"""

_WRITE_DAYS = text(_RUNS + _DAYS + _WRITE_PERIODS.format(key="day"))
_WRITE_MONTHS = text(_RUNS + _MONTHS + _WRITE_PERIODS.format(key="month"))

# A point, its days [first, end) and the windows that are expected in each of them; or a month as its days, and in it.
Run = tuple[int, date, date, int]


def write_days(connection: Connection, runs: Sequence[Run]) -> None:
    """Recompute the days of runs from their hours."""
    if runs:
        parameters = _run_parameters(runs) | {
            "first_at": day_start(min(first for _, first, _, _ in runs)),
            "end_at": day_start(max(end for _, _, end, _ in runs)),
        }
        connection.execute(_WRITE_DAYS, parameters)


def write_months(connection: Connection, months: Sequence[Run]) -> None:
    """Recompute months from their days."""
    if months:
        connection.execute(_WRITE_MONTHS, _run_parameters(months))


def _run_parameters(runs: Sequence[Run]) -> dict[str, object]:
    return {
        "point_ids": [point_id for point_id, _, _, _ in runs],
        "first_days": [first for _, first, _, _ in runs],
        "end_days": [end for _, _, end, _ in runs],
        "expected": [expected for _, _, _, expected in runs],
    }
