"""Recomputing the ratios of a city through the real stage, beside the bare SQL that only reads the same inputs."""

import time
from datetime import UTC, date, datetime

import psycopg
from sqlalchemy import Engine

from app import worker
from app.db import engine as engine_module
from app.intake import reference_load
from app.pipeline import benchmark
from tests.bench.measurement import Bench, Measurement

ENTERPRISES, MONTHS = 1000, 12
YEAR = 2026
NOW = datetime(YEAR + 1, 1, 20, tzinfo=UTC)
CLINKER = "ndrc723-15-cement-clinker"
# A works with four meters on the kiln (power, coal, water in, steam out), hourly.
_CITY = """
    INSERT INTO enterprise (uscc, name_zh) SELECT '9112000' || lpad(n::text, 11, '0'), 'E' || n
        FROM generate_series(1, %(n)s) n;
    INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)
        SELECT id, '2020-01-01', '120110', '3011' FROM enterprise;
    INSERT INTO process_unit (enterprise_id, scope, code, name_zh) SELECT id, 1, 'plant', 'plant' FROM enterprise;
    INSERT INTO process_unit (enterprise_id, parent_id, scope, code, name_zh)
        SELECT enterprise_id, id, 2, 'kiln', 'kiln' FROM process_unit WHERE scope = 1;
    INSERT INTO production_line (process_unit_id, code, name_zh, variant_key, from_on)
        SELECT id, 'kiln-1', 'kiln 1', %(variant)s, '2020-01-01' FROM process_unit WHERE scope = 2;
    INSERT INTO gateway (code, enterprise_id) SELECT 'gw-' || lpad(id::text, 6, '0'), id FROM enterprise;
    INSERT INTO point (gateway_id, code, carrier_key, signal, unit)
        SELECT g.id, k.key, k.key, 'register', k.unit FROM gateway g CROSS JOIN (VALUES ('electricity', 'kWh'),
        ('raw_coal', 'kg'), ('fresh_water', 't water'), ('steam', 'kg')) k (key, unit);
    INSERT INTO meter_installation (point_id, from_at, serial) SELECT id, '2020-01-01', 'S1' FROM point;
    INSERT INTO point_assignment (point_id, from_at, process_unit_id, flow, expected_interval_s)
        SELECT p.id, '2020-01-01', u.id, CASE p.code WHEN 'steam' THEN 'out' ELSE 'in' END, 3600
        FROM point p JOIN gateway g ON g.id = p.gateway_id JOIN process_unit u USING (enterprise_id) WHERE u.scope = 2;
    INSERT INTO energy_month (process_unit_id, carrier_key, flow, month, quantity, equivalent_kgce, equal_kgce, co2_kg,
            factor_set, windows_expected, windows_received, windows_estimated)
        SELECT a.process_unit_id, p.carrier_key, a.flow, m, q, q * 0.7143, q * 0.7143, q * 2.1, 'GB/T 2589-2020', h,
            h - 3, 3
        FROM point p JOIN point_assignment a ON a.point_id = p.id
        CROSS JOIN (SELECT d::date AS m, (extract(epoch FROM d + interval '1 month' - d) / 3600)::int AS h
            FROM generate_series(%(first)s::timestamp, %(last)s::timestamp, interval '1 month') d) months
        CROSS JOIN LATERAL (SELECT 100000.125 + p.id * 7.003 + extract(month FROM m) * 11 AS q) amount;
"""
_OUTPUTS = """
    INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)
    SELECT l.id, 'production', %(grain)s, d, 1, 60.5 + l.id * 0.25, 't', 'bench' FROM production_line l
    CROSS JOIN generate_series(%(first)s::timestamp, %(last)s::timestamp + interval '30 days',
        ('1 ' || %(grain)s)::interval) d
"""
# The rows that a ratio is made of, and nothing else: energy of the subtree, output, meters in service, levels.
_INPUTS = (
    """
    WITH RECURSIVE below AS (SELECT l.id AS line_id, l.process_unit_id AS id FROM production_line l
        UNION ALL SELECT b.line_id, u.id FROM below b JOIN process_unit u ON u.parent_id = b.id)
    SELECT b.line_id, e.month, e.carrier_key, e.flow, e.quantity, e.equivalent_kgce, e.equal_kgce, e.factor_set,
        e.has_recalled_factor, e.windows_received, e.windows_estimated
    FROM below b JOIN energy_month e ON e.process_unit_id = b.id WHERE e.month BETWEEN %(first)s AND %(last)s
    """,
    """
    SELECT line_id, kind, grain, period, value, unit FROM output_current
    WHERE period BETWEEN %(first)s AND %(last)s::date + 30
    """,
    """
    SELECT a.process_unit_id, p.carrier_key, a.flow, a.from_at, a.to_at, i.from_at, i.to_at, a.expected_interval_s
    FROM point_assignment a JOIN point p ON p.id = a.point_id JOIN meter_installation i ON i.point_id = a.point_id
    """,
    "SELECT l.*, v.* FROM production_line l JOIN catalogue_variant v USING (variant_key)",
    "SELECT * FROM efficiency_level",
    "SELECT * FROM quota_limit",
)
_SPAN = {"first": date(YEAR, 1, 1), "last": date(YEAR, MONTHS, 1)}


def ratios(bench: Bench) -> Measurement:
    """Monthly ratios recomputed per second by one worker that finds them as they were, quarters and years along.

    Output is reported by the day, as enterprises do; `monthly_reports` says the same of one report a month. The
    yardstick reads the rows that ratios are made of, and computes and compares nothing.
    """
    worker.collect_rarely()  # as the worker does
    monthly, daily = _measured(bench, "month"), _measured(bench, "day")
    figures = ENTERPRISES * MONTHS
    conditions: dict[str, object] = {
        "enterprises": ENTERPRISES,
        "months": MONTHS,
        "seconds": daily["again_s"],
        "first_time_s": daily["first_s"],
        "monthly_reports": {"seconds": monthly["again_s"], "ratio": round(monthly["bare_s"] / monthly["again_s"], 4)},
    }
    yardstick = figures / daily["bare_s"]
    return Measurement(figures / daily["again_s"], "ratios/s", "bare SELECT of the inputs", yardstick, conditions)


def _measured(bench: Bench, grain: str) -> dict[str, float]:
    """Seconds of the first computation, of a second one that must change nothing, and of the yardstick."""
    with bench.database() as url:
        engine = engine_module.create(url)
        with engine.begin() as connection:
            reference_load.load(connection, NOW)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in filter(str.strip, _CITY.split(";")):
                connection.execute(statement, {"n": ENTERPRISES, "variant": CLINKER, **_SPAN})
            connection.execute(_OUTPUTS, {"grain": grain, **_SPAN})
            connection.execute("VACUUM ANALYZE output, energy_month, point, point_assignment, meter_installation")
        first_s = _recompute(engine)
        before = _figures(url)
        again_s = min(_recompute(engine) for _ in range(3))
        if _figures(url) != before or before[0] != ENTERPRISES * MONTHS:
            raise RuntimeError(f"recomputing changed figures, or left some out: {before} → {_figures(url)}")
        bare_s = min(_bare(url) for _ in range(3))
        engine.dispose()
    return {"first_s": first_s, "again_s": again_s, "bare_s": bare_s}


def _recompute(engine: Engine) -> float:
    """Mark the year of every line and work it off; return the seconds."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM stale")
        connection.exec_driver_sql(
            "INSERT INTO stale (stage, subject_id, from_at, to_at) SELECT 'benchmark', id, %s, %s FROM production_line",
            (datetime(YEAR - 1, 12, 31, 16, tzinfo=UTC), datetime(YEAR, 12, 31, 16, tzinfo=UTC)),
        )
    begun = time.perf_counter()
    while benchmark.run(engine, NOW):
        pass
    return round(time.perf_counter() - begun, 3)


def _figures(url: str) -> tuple[object, ...]:
    """How many monthly figures there are, and a digest of everything in the table."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FILTER (WHERE grain = 'month'), md5(string_agg(r::text, '|' ORDER BY line_id, variant_key,"
            " grain, period)) FROM ratio r"
        ).fetchone()
    return row or (0, None)


def _bare(url: str) -> float:
    with psycopg.connect(url) as connection:
        begun = time.perf_counter()
        for statement in _INPUTS:
            connection.execute(statement, _SPAN).fetchall()
        return time.perf_counter() - begun
