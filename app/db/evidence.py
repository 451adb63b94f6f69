"""What a figure rests on, row by row: readings with their receipts, meters, factors, outputs, findings."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope
from app.errors import NotFound

Rows = list[dict[str, Any]]


def _rows(connection: Connection, statement: str, **values: object) -> Rows:
    return [dict(row) for row in connection.execute(text(statement), values).mappings()]


def point(connection: Connection, scope: Scope, point_id: int) -> dict[str, Any]:
    """Return who a point is; outside the scope NotFound, like one that is not there."""
    found = _rows(
        connection,
        "SELECT p.id AS point_id, g.code AS gateway_code, p.code, p.name_zh, p.name_en, p.signal, p.unit AS wire_unit,"
        " p.carrier_key, coalesce(c.unit, m.canonical_unit) AS unit, e.id AS enterprise_id, e.name_zh AS"
        " enterprise_name_zh, e.name_en AS enterprise_name_en FROM point p JOIN gateway g ON g.id = p.gateway_id"
        " JOIN enterprise e ON e.id = g.enterprise_id JOIN unit_of_measure m ON m.unit = p.unit"
        f" LEFT JOIN carrier c ON c.carrier_key = p.carrier_key WHERE p.id = :id AND {scope.enterprises_sql()}",
        id=point_id,
        **scope.parameters(),
    )
    if not found:
        raise NotFound(f"there is no point {point_id}", detail_zh=f"没有测点 {point_id}")
    return found[0]


def owner(connection: Connection, scope: Scope, table: str, subject_id: int) -> dict[str, Any]:
    """Return id, code, names and enterprise of a process unit or production line in scope, else NotFound."""
    unit = "s.id" if table == "process_unit" else "s.process_unit_id"
    found = _rows(
        connection,
        f"SELECT s.id, s.code, s.name_zh, s.name_en, e.id AS enterprise_id, e.name_zh AS enterprise_name_zh,"
        f" e.name_en AS enterprise_name_en FROM {table} s JOIN process_unit u ON u.id = {unit}"
        f" JOIN enterprise e ON e.id = u.enterprise_id WHERE s.id = :id AND {scope.enterprises_sql()}",
        id=subject_id,
        **scope.parameters(),
    )
    if not found:
        raise NotFound(f"there is no {table.replace('_', ' ')} {subject_id}", detail_zh=f"没有 {subject_id}")
    return found[0]


def readings(connection: Connection, point_id: int, from_at: datetime, to_at: datetime, limit: int) -> Rows:
    """Return the entries of every instant of [from, to], the counting value beside them, and their receipts."""
    return _rows(
        connection,
        "WITH entry AS (SELECT r.ts, r.value, r.quality, r.receipt_id, 0 AS rank, 'gateway' AS origin, NULL AS actor,"
        "  NULL AS reason FROM reading r WHERE r.point_id = :p AND r.ts BETWEEN :f AND :t AND NOT EXISTS (SELECT 1"
        "  FROM reading_override o WHERE o.point_id = r.point_id AND o.ts = r.ts)"
        "  UNION ALL SELECT o.ts, o.value, o.quality, o.receipt_id, o.rank, o.origin, o.actor, o.reason"
        "  FROM reading_override o WHERE o.point_id = :p AND o.ts BETWEEN :f AND :t)"
        " SELECT e.ts, CAST(e.value AS numeric)::text AS value, e.quality, e.rank, e.origin, e.actor, e.reason,"
        "  e.receipt_id, c.epoch, c.lane, c.seq, c.committed_at, v.is_disputed,"
        "  (NOT v.is_disputed AND e.value IS NOT DISTINCT FROM v.value) AS counts FROM entry e"
        "  LEFT JOIN receipt c ON c.id = e.receipt_id LEFT JOIN LATERAL (SELECT f.value, f.is_disputed"
        "  FROM reading_effective f WHERE f.point_id = :p AND f.ts = e.ts) v ON true"
        " ORDER BY e.ts, e.rank LIMIT :limit",
        p=point_id,
        f=from_at,
        t=to_at,
        limit=limit,
    )


def installations(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return the meters in place during [from, to), with multiplier, digits and registers at the exchange."""
    return _rows(
        connection,
        "SELECT serial, from_at, to_at, multiplier::text, digits, rated_load::text, initial_register::text,"
        " final_register::text FROM meter_installation WHERE point_id = :p AND from_at < :t"
        " AND coalesce(to_at, 'infinity') > :f ORDER BY from_at",
        p=point_id,
        f=from_at,
        t=to_at,
    )


def findings(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return the findings that start in [from, to)."""
    return _rows(
        connection,
        "SELECT id, reason, from_at, to_at, detail, closed_at, closed_by, note FROM finding"
        " WHERE point_id = :p AND from_at >= :f AND from_at < :t ORDER BY from_at",
        p=point_id,
        f=from_at,
        t=to_at,
    )


def contributions(
    connection: Connection, unit_id: int, carrier: str, flow: str, from_at: datetime, to_at: datetime
) -> Rows:
    """Return what each point in the boundary of a unit gave in [from, to), hour by hour of its assignment."""
    return _rows(
        connection,
        "SELECT p.id AS point_id, g.code AS gateway_code, p.code, h.hour_at, h.quantity FROM point_assignment a"
        " JOIN point p ON p.id = a.point_id AND p.carrier_key = :carrier JOIN gateway g ON g.id = p.gateway_id"
        " JOIN usage_hour h ON h.point_id = p.id AND h.hour_at >= greatest(a.from_at, :f)"
        "  AND h.hour_at < least(coalesce(a.to_at, 'infinity'), :t) AND h.quantity IS NOT NULL"
        " WHERE a.process_unit_id = :unit AND a.flow = :flow AND a.in_boundary ORDER BY 1, 4",
        unit=unit_id,
        carrier=carrier,
        flow=flow,
        f=from_at,
        t=to_at,
    )


def factors(connection: Connection, carrier: str) -> Rows:
    """Return the rows that may convert a carrier, with edition, validity, source and confidence."""
    return _rows(
        connection,
        "SELECT f.factor_key, f.factor_set, f.kgce_per_unit::text, f.unit, f.basis, f.edition, f.valid_from,"
        " f.valid_to, f.confidence, f.source FROM carrier c JOIN standard_coal_factor f"
        " ON f.factor_key IN (c.equivalent_factor_key, c.equal_factor_key) WHERE c.carrier_key = :carrier"
        " ORDER BY f.factor_key, f.valid_from NULLS FIRST",
        carrier=carrier,
    )


def energy_rows(connection: Connection, units: Sequence[int], month: date) -> Rows:
    """Return the month's energy of process units, by carrier and flow."""
    return _rows(
        connection,
        "SELECT x.process_unit_id, u.code AS process_unit, x.carrier_key, x.flow, x.quantity::text,"
        " x.equivalent_kgce::text, x.equal_kgce::text, x.co2_kg::text, x.factor_set FROM energy_month x"
        " JOIN process_unit u ON u.id = x.process_unit_id WHERE x.process_unit_id = ANY(:units) AND x.month = :month"
        " ORDER BY 2, 3, 4",
        units=list(units),
        month=month,
    )


def output_rows(connection: Connection, line_id: int, first: date, end: date) -> Rows:
    """Return every output of a line in [first, end), corrected ones with their revisions."""
    return _rows(
        connection,
        "SELECT kind, grain, period, revision, value::text, unit, reported_by, reported_at, reason FROM output"
        " WHERE line_id = :line AND period >= :first AND period < :end ORDER BY kind, grain, period, revision",
        line=line_id,
        first=first,
        end=end,
    )


def stored_row(connection: Connection, table: str, keys: dict[str, object]) -> dict[str, Any] | None:
    """Return a derived row as text fields, or None where there is none."""
    condition = " AND ".join(f"t.{name} = :{name}" for name in keys)
    found = _rows(connection, f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE {condition}", **keys)
    return found[0] if found else None


def level(connection: Connection, level_id: int | None) -> dict[str, Any] | None:
    """Return the level that judged a ratio, with its citation."""
    found = _rows(
        connection,
        "SELECT id, variant_key, benchmark::text, baseline::text, edition, valid_from, valid_to, confidence, source,"
        " referenced_standard FROM efficiency_level WHERE id = :id",
        id=level_id,
    )
    return found[0] if found else None
