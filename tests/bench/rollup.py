"""Re-rolling registers into hours through the real stage, beside the bare aggregate of the same rows."""

import os
import statistics
import time
from datetime import UTC, datetime, timedelta

import psycopg
from sqlalchemy import Engine

from app.db import engine as engine_module
from app.pipeline import rollup
from tests.bench.measurement import Bench, Measurement
from tests.integration import rollup_site as site

# BENCH_ROLLUP_READINGS=2000000 for a quick look, 60000000 for a large table; four readings an hour and point.
READINGS = int(os.environ.get("BENCH_ROLLUP_READINGS", "20000000"))
REPETITIONS = 3
GATEWAYS, POINTS = 20, 50
PER_DAY = GATEWAYS * POINTS * 96
DAYS = max(2, READINGS // PER_DAY)
SMALL_DAYS = min(DAYS, 20)
START = datetime(2025, 12, 31, 16, tzinfo=UTC)  # a business day begins
NOW = START + timedelta(days=DAYS + 10)
# A working plant's register: rises every quarter hour, by amounts that differ between points and hours.
_FILL = """
    INSERT INTO reading (point_id, ts, value, quality, receipt_id)
    SELECT p.id, t, 1000 + p.id + 5 * n + 0.25 * (n %% 3) + 0.125 * (n %% 7), 0, 1
    FROM generate_series(%s, %s, interval '15 minutes') WITH ORDINALITY AS s (t, i)
    CROSS JOIN LATERAL (SELECT (extract(epoch FROM t) / 900)::bigint - %s AS n) AS slot CROSS JOIN point p
    ORDER BY t, p.id
"""
_BARE_TABLE = """
    CREATE TABLE bare_hour (LIKE usage_hour INCLUDING DEFAULTS, PRIMARY KEY (point_id, hour_at));
    SELECT create_hypertable('bare_hour', by_range('hour_at', INTERVAL '90 days'), create_default_indexes => false);
"""
# The same hour rows, by the simplest statement that makes them: an hour's usage is its last register less that of the
# hour before. `_differing` proves that they are the same.
_BARE = """
    INSERT INTO bare_hour SELECT point_id, hour_at, (register - before)::numeric(24, 6), 4, readings, 0 FROM (
        SELECT point_id, hour_at, count(*) AS readings, max(value) AS register,
            lag(max(value)) OVER (PARTITION BY point_id ORDER BY hour_at) AS before
        FROM (SELECT *, time_bucket('1 hour', ts - interval '1 microsecond') AS hour_at FROM reading) r
        GROUP BY point_id, hour_at) h
    WHERE before IS NOT NULL
"""
_DIFFERING = """
    SELECT count(*) FROM (SELECT point_id, hour_at, quantity, windows_expected, windows_received, windows_estimated
        FROM bare_hour) b FULL JOIN usage_hour u USING (point_id, hour_at)
    WHERE (b.quantity, b.windows_expected, b.windows_received, b.windows_estimated) IS DISTINCT FROM
          (u.quantity, u.windows_expected, u.windows_received, u.windows_estimated)
"""


def rolled(bench: Bench) -> Measurement:
    """Readings re-rolled per second by one worker: claims, judgements, findings, days, months and marks included.

    The yardstick is `INSERT … SELECT … GROUP BY` of the same hour rows into an empty copy of the same keyed table, with
    the memory the stage gives itself; that the rows are the same is checked. Both in turn, medians. Value and ratio are
    of the first fill, which writes every row; `again_ratio` is of a second run that finds every row as it is. A stale
    day costs what it costs, however many rows the table has: re-rolled at both sizes.
    """
    stale_day_s: dict[str, object] = {}
    bare_s, first_s, again_s = [], [], []
    with bench.database() as url:
        engine = engine_module.create(url)
        _register(engine)
        _fill(url, 0, SMALL_DAYS)
        _roll(engine, 0, SMALL_DAYS)
        stale_day_s[f"{SMALL_DAYS * PER_DAY} rows"] = _stale_day(engine)
        _fill(url, SMALL_DAYS, DAYS)
        for _ in range(REPETITIONS):
            _empty(url)
            first_s.append(_roll(engine, 0, DAYS))
            again_s.append(_roll(engine, 0, DAYS))
            bare_s.append(_bare(url))
        stale_day_s[f"{DAYS * PER_DAY} rows"] = _stale_day(engine)
        engine.dispose()
    readings, bare = DAYS * PER_DAY, statistics.median(bare_s)
    conditions: dict[str, object] = {
        "readings": readings,
        "points": GATEWAYS * POINTS,
        "seconds": {"bare": bare_s, "first": first_s, "again": again_s},
        "again_ratio": round(bare / statistics.median(again_s), 4),
        "stale_day_s": stale_day_s,
    }
    rate = readings / statistics.median(first_s)
    return Measurement(rate, "readings/s", "bare INSERT … GROUP BY", readings / bare, conditions)


def _stale_day(engine: Engine) -> dict[str, float]:
    """Re-roll a day in the middle, of one gateway and of all; the seconds, medians."""
    day = SMALL_DAYS // 2
    runs = {"one gateway": 1, "all gateways": GATEWAYS}
    return {
        name: statistics.median(_roll(engine, day, day + 1, gateways) for _ in range(REPETITIONS + 2))
        for name, gateways in runs.items()
    }


def _register(engine: Engine) -> None:
    with engine.begin() as connection:
        for number in range(1, GATEWAYS + 1):
            plant = site.add_site(connection, number)
            for point in range(POINTS):
                site.add_point(connection, plant, f"E{point:03d}", installations=({"rated_load": 1000},))


def _fill(url: str, first_day: int, end_day: int) -> None:
    """Insert the readings of days [first, end), a day at a time as they would come; then as autovacuum leaves it."""
    epoch = int(START.timestamp()) // 900
    with psycopg.connect(url, autocommit=True) as connection:
        for day in range(first_day, end_day):
            from_at = START + timedelta(days=day)
            connection.execute(_FILL, [from_at, from_at + timedelta(hours=23, minutes=45), epoch])
        connection.execute("VACUUM ANALYZE reading")


def _roll(engine: Engine, first_day: int, end_day: int, gateways: int = GATEWAYS) -> float:
    """Mark days [first, end) of so many gateways and work them off; return the seconds."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM stale")
        connection.exec_driver_sql(
            "INSERT INTO stale (stage, subject_id, from_at, to_at)"
            " SELECT 'rollup', id, %s, %s FROM gateway ORDER BY id LIMIT %s",
            (START + timedelta(days=first_day), START + timedelta(days=end_day), gateways),
        )
    begun = time.perf_counter()
    while rollup.run(engine, NOW):
        pass
    return round(time.perf_counter() - begun, 3)


def _bare(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET work_mem = '64MB'")
        connection.execute(_BARE_TABLE)
        begun = time.perf_counter()
        connection.execute(_BARE)
        seconds = time.perf_counter() - begun
        row = connection.execute(_DIFFERING).fetchone()
        connection.execute("DROP TABLE bare_hour")
    if row != (0,):
        raise RuntimeError(f"the yardstick makes other hours than the stage: {row} differ")
    return round(seconds, 3)


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE usage_hour")
        connection.execute("TRUNCATE usage_day, usage_month, finding")
