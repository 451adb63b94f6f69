"""Re-rolling registers into hours through the real stage, beside the bare aggregate of the same rows."""

import os
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
    ORDER BY p.id, t
"""
_BARE_TABLE = """
    CREATE TABLE bare_hour (LIKE usage_hour INCLUDING DEFAULTS, PRIMARY KEY (point_id, hour_at));
    SELECT create_hypertable('bare_hour', by_range('hour_at', INTERVAL '90 days'), create_default_indexes => false);
"""
_BARE = """
    INSERT INTO bare_hour SELECT point_id, date_trunc('hour', ts), (max(value) - min(value))::numeric(24, 6), 4, 4, 0
    FROM reading GROUP BY 1, 2
"""


def rolled(bench: Bench) -> Measurement:
    """Readings re-rolled per second by one worker: claims, judgements, findings, days, months and marks included.

    The yardstick is `INSERT … SELECT … GROUP BY` of the same hour rows into an empty copy of the same keyed table.
    """
    with bench.database() as url:
        engine = engine_module.create(url)
        _register(engine)
        _fill(url, 0, SMALL_DAYS)
        _roll(engine, 0, SMALL_DAYS)
        day_of_small_s = _roll(engine, SMALL_DAYS // 2, SMALL_DAYS // 2 + 1)
        _fill(url, SMALL_DAYS, DAYS)
        bare_s = _bare(url)
        _empty(url)
        first_s = _roll(engine, 0, DAYS)
        again_s = _roll(engine, 0, DAYS)
        day_of_all_s = _roll(engine, SMALL_DAYS // 2, SMALL_DAYS // 2 + 1)
        engine.dispose()
    readings = DAYS * PER_DAY
    conditions: dict[str, object] = {
        "readings": readings,
        "points": GATEWAYS * POINTS,
        "again_ratio": round(bare_s / again_s, 4),
        "one_stale_day_s": {f"{SMALL_DAYS * PER_DAY} rows": day_of_small_s, f"{readings} rows": day_of_all_s},
    }
    return Measurement(readings / first_s, "readings/s", "bare INSERT … GROUP BY", readings / bare_s, conditions)


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


def _roll(engine: Engine, first_day: int, end_day: int) -> float:
    """Mark days [first, end) of every gateway and work them off; return the seconds."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM stale")
        connection.exec_driver_sql(
            "INSERT INTO stale (stage, subject_id, from_at, to_at) SELECT 'rollup', id, %s, %s FROM gateway",
            (START + timedelta(days=first_day), START + timedelta(days=end_day)),
        )
    begun = time.perf_counter()
    while rollup.run(engine, NOW):
        pass
    return round(time.perf_counter() - begun, 2)


def _bare(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_BARE_TABLE)
        begun = time.perf_counter()
        connection.execute(_BARE)
        seconds = time.perf_counter() - begun
        connection.execute("DROP TABLE bare_hour")
    return seconds


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE usage_hour")
        connection.execute("TRUNCATE usage_day, usage_month, finding")
