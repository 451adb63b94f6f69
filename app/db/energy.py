"""Energy of process units: usage of their points times the coefficients, per carrier and flow, set by set."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.domain import calendar
from app.domain.accounting import Carrier, CoalFactor, Conversion, EmissionFactor


@dataclass(frozen=True, slots=True)
class ConversionSpan:
    """The coefficients of a carrier over [from_at, to_at)."""

    carrier_key: str
    from_at: datetime
    to_at: datetime
    conversion: Conversion


_CARRIERS = (
    "SELECT carrier_key, unit, equivalent_factor_key, equal_factor_key, emission_type, emission_key FROM carrier"
)


def carriers(connection: Connection) -> list[Carrier]:
    """Return every carrier."""
    return [Carrier(*row) for row in connection.execute(text(f"{_CARRIERS} ORDER BY carrier_key"))]


def carriers_of(connection: Connection, process_unit_id: int) -> list[Carrier]:
    """Return the carriers of the points that ever counted to a process unit."""
    rows = connection.execute(
        text(
            f"{_CARRIERS} WHERE carrier_key IN (SELECT p.carrier_key FROM point_assignment a"
            " JOIN point p ON p.id = a.point_id WHERE a.process_unit_id = :unit AND a.in_boundary) ORDER BY carrier_key"
        ),
        {"unit": process_unit_id},
    )
    return [Carrier(*row) for row in rows]


def coal_factors(connection: Connection, carriers: Sequence[Carrier]) -> list[CoalFactor]:
    """Return the standard coal rows of the carriers, of all dates."""
    keys = {c.equivalent_factor_key for c in carriers} | {c.equal_factor_key for c in carriers if c.equal_factor_key}
    rows = connection.execute(
        text(
            "SELECT factor_key, factor_set, unit, kgce_per_unit, basis, confidence = 'recalled', valid_from, valid_to"
            " FROM standard_coal_factor WHERE superseded_at IS NULL AND factor_key = ANY(:keys)"
        ),
        {"keys": sorted(keys)},
    )
    return [CoalFactor(*row) for row in rows]


def emission_factors(connection: Connection, carriers: Sequence[Carrier]) -> list[EmissionFactor]:
    """Return the CO2 rows of the carriers, of all sets and years."""
    keys = sorted({c.emission_key for c in carriers if c.emission_key})
    rows = connection.execute(
        text(
            "SELECT factor_type, factor_key, factor_set, year, factor_value, factor_unit, confidence = 'recalled',"
            " lhv, lhv_unit, carbon_content_tc_per_gj, oxidation_rate_pct FROM emission_factor"
            " WHERE superseded_at IS NULL AND factor_key = ANY(:keys)"
        ),
        {"keys": keys},
    )
    return [EmissionFactor(*row) for row in rows]


def units_of_measure(connection: Connection) -> dict[str, tuple[str, Any]]:
    """Return unit -> (canonical unit, canonical units in one)."""
    rows = connection.execute(text("SELECT unit, canonical_unit, canonical_per_unit FROM unit_of_measure"))
    return {unit: (canonical, per_unit) for unit, canonical, per_unit in rows}


def lines_fed_by(connection: Connection, process_unit_id: int) -> list[int]:
    """Return the ids of the lines whose process unit is the unit or one above it."""
    return list(
        connection.execute(
            text(
                "WITH RECURSIVE above AS (SELECT id, parent_id FROM process_unit WHERE id = :unit"
                " UNION ALL SELECT u.id, u.parent_id FROM process_unit u JOIN above ON u.id = above.parent_id)"
                " SELECT l.id FROM production_line l JOIN above ON l.process_unit_id = above.id ORDER BY l.id"
            ),
            {"unit": process_unit_id},
        ).scalars()
    )


# An hour belongs to the earliest assignment that reaches into it: a point that starts, or moves to another unit, in
# the middle of an hour is counted once and wholly.
_FRESH_HOURS = """
WITH stretch AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:stretch_from AS timestamptz[]), CAST(:stretch_to AS timestamptz[])) AS s(from_at, to_at)
), factor AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:carriers AS text[]), CAST(:factor_from AS timestamptz[]),
        CAST(:factor_to AS timestamptz[]), CAST(:equivalents AS numeric[]), CAST(:equals AS numeric[]),
        CAST(:factor_sets AS text[]), CAST(:co2s AS numeric[]), CAST(:emission_sets AS text[]),
        CAST(:provisionals AS boolean[]), CAST(:recalleds AS boolean[]))
        AS f(carrier_key, from_at, to_at, equivalent, equal, factor_set, co2, emission_set, is_provisional, is_recalled)
), amount AS (
    SELECT p.carrier_key, a.flow, u.hour_at, coalesce(sum(u.quantity), 0) AS quantity,
        sum(u.windows_expected) AS expected, sum(u.windows_received) AS received, sum(u.windows_estimated) AS estimated
    FROM stretch s
    JOIN point_assignment a ON a.process_unit_id = :unit AND a.in_boundary
        AND a.from_at < s.to_at AND (a.to_at IS NULL OR a.to_at > s.from_at)
    JOIN point p ON p.id = a.point_id AND p.carrier_key IS NOT NULL
    JOIN usage_hour u ON u.point_id = p.id AND u.hour_at >= s.from_at AND u.hour_at < s.to_at
        AND u.hour_at > a.from_at - interval '1 hour' AND (a.to_at IS NULL OR u.hour_at < a.to_at)
        AND u.hour_at >= :first_at AND u.hour_at < :last_at
    WHERE NOT EXISTS (SELECT 1 FROM point_assignment b WHERE b.point_id = a.point_id AND b.from_at < a.from_at
        AND (b.to_at IS NULL OR b.to_at > u.hour_at))
    GROUP BY p.carrier_key, a.flow, u.hour_at
), fresh AS MATERIALIZED (
    SELECT m.*, m.quantity * f.equivalent AS equivalent_kgce, m.quantity * f.equal AS equal_kgce,
        -- Feedstock is not burned: it has no CO2 of combustion.
        CASE WHEN m.flow <> 'feedstock' THEN m.quantity * f.co2 END AS co2_kg,
        f.factor_set, CASE WHEN m.flow <> 'feedstock' THEN f.emission_set END AS emission_set,
        f.is_provisional AND m.flow <> 'feedstock' AS is_co2_provisional, f.is_recalled AS has_recalled_factor
    FROM amount m JOIN factor f ON f.carrier_key = m.carrier_key AND m.hour_at >= f.from_at AND m.hour_at < f.to_at
)"""

_COLUMNS = (
    "quantity, equivalent_kgce, equal_kgce, co2_kg, factor_set, emission_set, is_co2_provisional,"
    " has_recalled_factor, windows_expected, windows_received, windows_estimated"
)


def _replace(table: str, period: str, key: str) -> str:
    """Return the statement's end: what no longer exists is deleted, what changed is written, the rest left alone."""
    kept = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS.split(", "))
    old = ", ".join(f"e.{column}" for column in _COLUMNS.split(", "))
    new = ", ".join(f"excluded.{column}" for column in _COLUMNS.split(", "))
    return f"""
, removed AS (
    DELETE FROM {table} e WHERE e.process_unit_id = :unit AND {period} AND NOT EXISTS (SELECT 1 FROM fresh f
        WHERE f.carrier_key = e.carrier_key AND f.flow = e.flow AND f.{key} = e.{key}) RETURNING 1
), written AS (
    INSERT INTO {table} AS e (process_unit_id, carrier_key, flow, {key}, {_COLUMNS})
    SELECT :unit, carrier_key, flow, {key}, quantity, equivalent_kgce, equal_kgce, co2_kg, factor_set, emission_set,
        is_co2_provisional, has_recalled_factor, expected, received, estimated FROM fresh
    ORDER BY {key}, carrier_key, flow
    ON CONFLICT (process_unit_id, {key}, carrier_key, flow) DO UPDATE SET {kept}
    WHERE ({old}) IS DISTINCT FROM ({new}) RETURNING 1
)
SELECT (SELECT count(*) FROM removed) + (SELECT count(*) FROM written)"""


_HOURS = _FRESH_HOURS + _replace(
    "energy_hour",
    "e.hour_at >= :first_at AND e.hour_at < :last_at"
    " AND EXISTS (SELECT 1 FROM stretch s WHERE e.hour_at >= s.from_at AND e.hour_at < s.to_at)",
    "hour_at",
)


def recompute_hours(
    connection: Connection,
    process_unit_id: int,
    stretches: Sequence[tuple[datetime, datetime]],
    spans: Sequence[ConversionSpan],
) -> int:
    """Bring energy_hour of a unit up to its usage over disjoint whole-hour stretches; return rows changed."""
    conversions = [span.conversion for span in spans]
    return int(
        connection.execute(
            text(_HOURS),
            {
                "unit": process_unit_id,
                "first_at": min(from_at for from_at, _ in stretches),
                "last_at": max(to_at for _, to_at in stretches),
                "stretch_from": [from_at for from_at, _ in stretches],
                "stretch_to": [to_at for _, to_at in stretches],
                "carriers": [span.carrier_key for span in spans],
                "factor_from": [span.from_at for span in spans],
                "factor_to": [span.to_at for span in spans],
                "equivalents": [c.equivalent for c in conversions],
                "equals": [c.equal for c in conversions],
                "factor_sets": [c.factor_set for c in conversions],
                "co2s": [c.co2_kg for c in conversions],
                "emission_sets": [c.emission_set for c in conversions],
                "provisionals": [c.is_co2_provisional for c in conversions],
                "recalleds": [c.has_recalled_factor for c in conversions],
            },
        ).scalar_one()
    )


# A sum is known only where every part is known; two factor sets in one sum are named, never hidden. Windows expected
# count the whole period in service, silent hours too, rounded once for each point: a meter exchanged inside an interval
# owes no window more. Received and estimated are sums.
_SUMS = """
WITH period AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:starts AS date[]), CAST(:from_at AS timestamptz[]), CAST(:to_at AS timestamptz[]))
        AS p({key}, from_at, to_at)
), owed AS (
    SELECT q.{key}, p.carrier_key, a.flow, round(sum(extract(epoch FROM
        least(coalesce(a.to_at, 'infinity'), coalesce(i.to_at, 'infinity'), q.to_at)
        - greatest(a.from_at, i.from_at, q.from_at)) / a.expected_interval_s)) AS windows
    FROM period q
    JOIN point_assignment a ON a.process_unit_id = :unit AND a.in_boundary
        AND a.from_at < q.to_at AND (a.to_at IS NULL OR a.to_at > q.from_at)
    JOIN point p ON p.id = a.point_id
    JOIN meter_installation i ON i.point_id = a.point_id AND i.from_at < q.to_at
        AND (i.to_at IS NULL OR i.to_at > q.from_at) AND (i.to_at IS NULL OR i.to_at > a.from_at)
        AND (a.to_at IS NULL OR a.to_at > i.from_at)
    GROUP BY q.{key}, a.point_id, p.carrier_key, a.flow
), service AS (
    SELECT {key}, carrier_key, flow, sum(windows) AS expected FROM owed GROUP BY {key}, carrier_key, flow
), part AS (
    SELECT q.{key}, e.carrier_key, e.flow, sum(e.quantity) AS quantity,
        CASE WHEN count(e.equivalent_kgce) = count(*) THEN sum(e.equivalent_kgce) END AS equivalent_kgce,
        CASE WHEN count(e.equal_kgce) = count(*) THEN sum(e.equal_kgce) END AS equal_kgce,
        CASE WHEN count(e.co2_kg) = count(*) THEN sum(e.co2_kg) END AS co2_kg,
        string_agg(DISTINCT e.factor_set, ' + ' ORDER BY e.factor_set) AS factor_set,
        string_agg(DISTINCT e.emission_set, ' + ' ORDER BY e.emission_set) AS emission_set,
        bool_or(e.is_co2_provisional) AS is_co2_provisional, bool_or(e.has_recalled_factor) AS has_recalled_factor,
        sum(e.windows_received) AS received, sum(e.windows_estimated) AS estimated
    FROM period q JOIN {source} e ON e.process_unit_id = :unit AND {inside}
    GROUP BY q.{key}, e.carrier_key, e.flow
), fresh AS MATERIALIZED (
    SELECT part.*, coalesce(service.expected, 0) AS expected FROM part
    LEFT JOIN service USING ({key}, carrier_key, flow)
)"""

_DAYS = _SUMS.format(
    key="day",
    source="energy_hour",
    inside="e.hour_at >= q.from_at AND e.hour_at < q.to_at AND e.hour_at >= :first_at AND e.hour_at < :last_at",
) + _replace("energy_day", "e.day IN (SELECT day FROM period)", "day")

_MONTHS = _SUMS.format(
    key="month",
    source="energy_day",
    inside="e.day >= q.month AND e.day < (q.month + interval '1 month')::date",
) + _replace("energy_month", "e.month IN (SELECT month FROM period)", "month")


def recompute_days(connection: Connection, process_unit_id: int, days: Sequence[date]) -> int:
    """Bring energy_day of a unit up to the sums of its hours; return rows changed."""
    bounds = [calendar.day_bounds(day) for day in days]
    return _recompute_sums(connection, _DAYS, process_unit_id, days, bounds)


def recompute_months(connection: Connection, process_unit_id: int, months: Sequence[date]) -> int:
    """Bring energy_month of a unit up to the sums of its days; return rows changed."""
    bounds = [calendar.month_bounds(month) for month in months]
    return _recompute_sums(connection, _MONTHS, process_unit_id, months, bounds)


def _recompute_sums(
    connection: Connection,
    statement: str,
    process_unit_id: int,
    starts: Sequence[date],
    bounds: Sequence[tuple[datetime, datetime]],
) -> int:
    return int(
        connection.execute(
            text(statement),
            {
                "unit": process_unit_id,
                "starts": list(starts),
                "from_at": [from_at for from_at, _ in bounds],
                "to_at": [to_at for _, to_at in bounds],
                "first_at": min(from_at for from_at, _ in bounds),
                "last_at": max(to_at for _, to_at in bounds),
            },
        ).scalar_one()
    )
