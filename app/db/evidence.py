"""What a figure rests on, row by row: readings with their receipts, meters, factors, outputs, findings."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.ratio_inputs import METERED_DAYS
from app.db.scope import Scope
from app.domain.accounting import CoalFactor, EmissionFactor
from app.errors import NotFound

Rows = list[dict[str, Any]]


def _rows(connection: Connection, statement: str, **values: object) -> Rows:
    return [dict(row) for row in connection.execute(text(statement), values).mappings()]


_ENTERPRISE = "e.id AS enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en"


def point(connection: Connection, scope: Scope, point_id: int) -> dict[str, Any]:
    """Return who a point is; outside the scope NotFound, like one that is not there."""
    found = _rows(
        connection,
        "SELECT p.id AS point_id, g.code AS gateway_code, p.code, p.name_zh, p.name_en, p.signal, p.unit AS wire_unit,"
        f" m.canonical_per_unit, p.carrier_key, coalesce(c.unit, m.canonical_unit) AS unit, {_ENTERPRISE}"
        " FROM point p JOIN gateway g ON g.id = p.gateway_id"
        " JOIN enterprise e ON e.id = g.enterprise_id JOIN unit_of_measure m ON m.unit = p.unit"
        f" LEFT JOIN carrier c ON c.carrier_key = p.carrier_key WHERE p.id = :id AND {scope.enterprises_sql()}",
        id=point_id,
        **scope.parameters(),
    )
    if not found:
        raise NotFound(f"there is no point {point_id} in your scope", detail_zh=f"您的范围内没有测点 {point_id}")
    return found[0]


def owner(connection: Connection, scope: Scope, table: str, subject_id: int) -> dict[str, Any]:
    """Return id, code, names and enterprise of a process unit or production line in scope, else NotFound."""
    unit = "s.id" if table == "process_unit" else "s.process_unit_id"
    found = _rows(
        connection,
        f"SELECT s.id, s.code, s.name_zh, s.name_en, {_ENTERPRISE} FROM {table} s JOIN process_unit u ON u.id = {unit}"
        f" JOIN enterprise e ON e.id = u.enterprise_id WHERE s.id = :id AND {scope.enterprises_sql()}",
        id=subject_id,
        **scope.parameters(),
    )
    if not found:
        named = table.replace("_", " ")
        raise NotFound(f"there is no {named} {subject_id} in your scope", detail_zh=f"您的范围内没有 {subject_id}")
    return found[0]


# Every entry of an instant, the one that counts marked: of an instant with overrides these hold all entries, but for
# the first arrival where people alone entered something before it came.
_READINGS = """
WITH entry AS (
  SELECT r.ts, r.value, r.quality, r.receipt_id, 0 AS rank, 'gateway' AS origin, NULL AS actor, NULL AS reason,
         NULL AS evidence, NULL::timestamptz AS recorded_at
  FROM reading r WHERE r.point_id = :p AND r.ts BETWEEN :f AND :t
    AND NOT EXISTS (SELECT 1 FROM reading_override o
                    WHERE o.point_id = r.point_id AND o.ts = r.ts AND o.origin = 'gateway')
  UNION ALL
  SELECT o.ts, o.value, o.quality, o.receipt_id, o.rank, o.origin, o.actor, o.reason, o.evidence, o.recorded_at
  FROM reading_override o WHERE o.point_id = :p AND o.ts BETWEEN :f AND :t
)
SELECT e.ts, CAST(e.value AS numeric) AS value, e.quality, e.rank, e.origin, e.actor, e.reason, e.evidence,
       e.recorded_at, max(e.rank) OVER same = e.rank AND count(*) OVER top = 1 AS counts,
       e.receipt_id, g.code AS gateway_code, c.epoch, c.lane, c.seq, c.sent_at, c.received_at, c.committed_at
FROM entry e LEFT JOIN receipt c ON c.id = e.receipt_id LEFT JOIN gateway g ON g.id = c.gateway_id
WINDOW same AS (PARTITION BY e.ts), top AS (PARTITION BY e.ts, e.rank)
ORDER BY e.ts, e.rank, e.receipt_id LIMIT :limit"""


def readings(connection: Connection, point_id: int, from_at: datetime, to_at: datetime, limit: int) -> Rows:
    """Return the entries of every instant of [from, to] with their receipts, and whether each is the one that counts.

    Two entries at the highest rank are a dispute: neither counts.
    """
    return _rows(connection, _READINGS, p=point_id, f=from_at, t=to_at, limit=limit)


def installations(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return the meters in place during [from, to), with multiplier, digits and registers at the exchange."""
    return _rows(
        connection,
        "SELECT id, serial, from_at, to_at, multiplier, digits, rated_load, initial_register, final_register,"
        " verified_until FROM meter_installation WHERE point_id = :p AND from_at < :t"
        " AND coalesce(to_at, 'infinity') > :f ORDER BY from_at",
        p=point_id,
        f=from_at,
        t=to_at,
    )


def assignments(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return where a point counted during [from, to)."""
    return _rows(
        connection,
        "SELECT a.from_at, a.to_at, a.process_unit_id, u.code AS process_unit, a.flow, a.in_boundary,"
        " a.expected_interval_s FROM point_assignment a JOIN process_unit u ON u.id = a.process_unit_id"
        " WHERE a.point_id = :p AND a.from_at < :t AND coalesce(a.to_at, 'infinity') > :f ORDER BY a.from_at",
        p=point_id,
        f=from_at,
        t=to_at,
    )


def assignments_at(connection: Connection, process_unit_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return all assignments in [from, to) of the points that counted to a unit in it: an hour has one owner."""
    return _rows(
        connection,
        "SELECT a.point_id, g.code AS gateway_code, p.code, p.carrier_key, a.from_at, a.to_at, a.process_unit_id,"
        " a.flow, a.in_boundary FROM point_assignment a JOIN point p ON p.id = a.point_id"
        " JOIN gateway g ON g.id = p.gateway_id"
        " WHERE p.carrier_key IS NOT NULL AND a.from_at < :t AND coalesce(a.to_at, 'infinity') > :f"
        " AND EXISTS (SELECT 1 FROM point_assignment m WHERE m.point_id = a.point_id AND m.process_unit_id = :unit"
        "  AND m.in_boundary AND m.from_at < :t AND coalesce(m.to_at, 'infinity') > :f)"
        " ORDER BY a.point_id, a.from_at",
        unit=process_unit_id,
        f=from_at,
        t=to_at,
    )


# An event made the rows that begin or end at its instant; a correction altered the meter that was in place then.
_EVENTS = """
SELECT v.id, v.kind, v.at, v.stated, v.actor, v.reason, v.evidence, v.recorded_at FROM point_event v
WHERE v.point_id = :p AND EXISTS (
  SELECT FROM (SELECT from_at, to_at, 'meter' AS what FROM meter_installation WHERE point_id = v.point_id
    UNION ALL SELECT from_at, to_at, 'assignment' FROM point_assignment WHERE point_id = v.point_id) d
  WHERE d.from_at < :t AND coalesce(d.to_at, 'infinity') > :f AND d.what = CASE v.kind WHEN 'move' THEN 'assignment'
    ELSE 'meter' END AND v.at >= d.from_at AND v.at <= coalesce(d.to_at, 'infinity')
    AND (v.kind = 'meter_correction' AND v.at < coalesce(d.to_at, 'infinity') OR v.at IN (d.from_at, d.to_at)))
ORDER BY v.at, v.id"""


def events(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return the events that made or altered the meters and assignments of [from, to), as they were entered."""
    return _rows(connection, _EVENTS, p=point_id, f=from_at, t=to_at)


def findings(connection: Connection, point_id: int, from_at: datetime, to_at: datetime) -> Rows:
    """Return the findings that reach into [from, to)."""
    return _rows(
        connection,
        "SELECT id, reason, from_at, to_at, detail, closed_at, closed_by, note FROM finding"
        " WHERE point_id = :p AND from_at < :t AND to_at >= :f ORDER BY from_at, id",
        p=point_id,
        f=from_at,
        t=to_at,
    )


def coal_factor(connection: Connection, chosen: CoalFactor | None) -> dict[str, Any] | None:
    """Return a row of the standard coal table with its citation."""
    found = _rows(
        connection,
        "SELECT factor_key, factor_set, kgce_per_unit, unit, lhv, lhv_unit, basis, edition, valid_from, valid_to,"
        " confidence, source FROM standard_coal_factor WHERE factor_key = :key AND factor_set = :set"
        " AND valid_from IS NOT DISTINCT FROM :since",
        key=chosen.factor_key if chosen else "",
        set=chosen.factor_set if chosen else "",
        since=chosen.valid_from if chosen else None,
    )
    return found[0] if found else None


def emission_factor(connection: Connection, chosen: EmissionFactor | None) -> dict[str, Any] | None:
    """Return a row of the CO2 table with its citation."""
    found = _rows(
        connection,
        "SELECT factor_key, factor_set, year, factor_value, factor_unit, lhv, lhv_unit, carbon_content_tc_per_gj,"
        " oxidation_rate_pct, edition, confidence, source FROM emission_factor WHERE factor_type = :type"
        " AND factor_key = :key AND factor_set = :set AND year IS NOT DISTINCT FROM :year",
        type=chosen.factor_type if chosen else "",
        key=chosen.factor_key if chosen else "",
        set=chosen.factor_set if chosen else "",
        year=chosen.year if chosen else None,
    )
    return found[0] if found else None


def energy_rows(connection: Connection, units: Sequence[int], grain: str, starts: Sequence[date]) -> Rows:
    """Return the energy of process units in months or days, each row by unit, carrier and flow."""
    return _rows(
        connection,
        f"SELECT x.process_unit_id, u.code AS process_unit, x.{grain} AS start, x.carrier_key, x.flow, x.quantity,"
        " c.unit, x.equivalent_kgce, x.equal_kgce, x.factor_set"
        f" FROM energy_{grain} x JOIN process_unit u ON u.id = x.process_unit_id"
        f" JOIN carrier c USING (carrier_key) WHERE x.process_unit_id = ANY(:units) AND x.{grain} = ANY(:starts)"
        " ORDER BY 3, 2, 4, 5",
        units=list(units),
        starts=list(starts),
    )


def output_rows(connection: Connection, line_id: int, kind: str, first: date, end: date) -> Rows:
    """Return every output of a line and kind in [first, end), corrected ones with their revisions."""
    return _rows(
        connection,
        "SELECT grain, period, revision, value, unit, reported_by, reported_at, reason FROM output"
        " WHERE line_id = :line AND kind = :kind AND grain IN ('day', 'month') AND period >= :first AND period < :end"
        " ORDER BY grain, period, revision",
        line=line_id,
        kind=kind,
        first=first,
        end=end,
    )


def metered_outputs(connection: Connection, line_id: int, kind: str, first: date, end: date) -> Rows:
    """Return the days in [first, end) of the meters that count what a line makes."""
    return _rows(
        connection,
        "SELECT u.point_id, g.code AS gateway_code, p.code, 'day' AS grain, u.day AS start, u.quantity,"
        f" coalesce(c.unit, m.canonical_unit) AS unit, u.windows_expected, u.windows_received {METERED_DAYS}"
        " ORDER BY u.day, u.point_id",
        lines=[line_id],
        kinds=[kind],
        first=first,
        last=end,
    )


def conditions(connection: Connection, line_id: int, month: date) -> Rows:
    """Return the conditions of a line that hold in a month and correct its level, each in its latest revision."""
    return _rows(
        connection,
        "SELECT DISTINCT ON (input_key) input_key, from_month, revision, value, evidence, reported_by, reported_at"
        " FROM correction_input_current WHERE line_id = :line AND value IS NOT NULL AND from_month <= :month"
        " ORDER BY input_key, from_month DESC",
        line=line_id,
        month=month,
    )


def stored_row(connection: Connection, table: str, keys: dict[str, object]) -> dict[str, Any] | None:
    """Return a row of a derived table, or None where there is none."""
    condition = " AND ".join(f"{name} = :{name}" for name in keys)
    found = _rows(connection, f"SELECT * FROM {table} WHERE {condition}", **keys)
    return found[0] if found else None


def level(connection: Connection, level_id: int | None) -> dict[str, Any] | None:
    """Return the level that judged a ratio, with its citation."""
    found = _rows(
        connection,
        "SELECT id, variant_key, benchmark, baseline, edition, valid_from, valid_to, confidence, source,"
        " referenced_standard FROM efficiency_level WHERE id = :id",
        id=level_id,
    )
    return found[0] if found else None


def indicator(connection: Connection, variant_key: str) -> dict[str, Any]:
    """Return how a catalogue variant makes its figure, with its citation."""
    return _rows(
        connection,
        "SELECT variant_key, product_zh, product_en, indicator_zh, unit, direction, carriers, conversion, feedstock,"
        " base_per_indicator_unit, output_kind, output_unit, confidence, source, note FROM catalogue_variant"
        " WHERE variant_key = :key",
        key=variant_key,
    )[0]
