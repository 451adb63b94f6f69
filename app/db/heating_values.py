"""Measured lower heating values: one row per lot and revision, nothing overwritten, and the means that account uses."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope
from app.domain.accounting import weighted_lhv_kj

# Revisions are counted up from what is there; one report at a time keeps the count right.
REPORT_LOCK = 7_230_023

_COLUMNS = (
    "process_unit_id bigint, carrier_key text, month date, lot text, revision integer, mass numeric, lhv_kj numeric,"
    " sampled_on date, evidence text, reason text, reported_by text"
)
# Of every carrier and month the lots of the nearest unit, from the unit itself upwards. A unit whose lots were all
# withdrawn has none.
_LOTS = """
WITH RECURSIVE above AS (
  SELECT id, parent_id, 0 AS distance FROM process_unit WHERE id = :unit
  UNION ALL SELECT u.id, u.parent_id, above.distance + 1 FROM process_unit u JOIN above ON u.id = above.parent_id
), near AS (
  SELECT m.*, min(above.distance) OVER (PARTITION BY m.carrier_key, m.month) AS nearest, above.distance
  FROM measured_lhv_current m JOIN above ON above.id = m.process_unit_id
  WHERE m.mass IS NOT NULL AND (CAST(:month AS date) IS NULL OR m.month = :month)
)
SELECT process_unit_id, carrier_key, month, lot, revision, mass, lhv_kj, sampled_on, evidence, reason, reported_by,
       reported_at
FROM near WHERE distance = nearest ORDER BY carrier_key, month, lot"""


def lock(connection: Connection) -> None:
    """Wait until no other report is being written; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": REPORT_LOCK})


def lots_at(connection: Connection, process_unit_id: int, month: date | None = None) -> list[dict[str, Any]]:
    """Return the lots that count at a process unit, of one month or of all."""
    rows = connection.execute(text(_LOTS), {"unit": process_unit_id, "month": month}).mappings()
    return [dict(row) for row in rows]


def means(connection: Connection, process_unit_id: int) -> dict[tuple[str, date], Fraction]:
    """Return (carrier, month) -> mass-weighted mean heating value in kJ per canonical unit, at a process unit."""
    lots: dict[tuple[str, date], list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for row in lots_at(connection, process_unit_id):
        lots[row["carrier_key"], row["month"]].append((row["mass"], row["lhv_kj"]))
    return {key: weighted_lhv_kj(found) for key, found in lots.items()}


def find_units(
    connection: Connection, scope: Scope, *, unit_ids: Sequence[int], usccs: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the process units in scope with one of these ids or of one of these enterprises."""
    rows = connection.execute(
        text(
            "SELECT u.id, e.uscc, u.code FROM process_unit u JOIN enterprise e ON e.id = u.enterprise_id"
            f" WHERE (u.id = ANY(:unit_ids) OR e.uscc = ANY(:usccs)) AND {scope.enterprises_sql()}"
        ),
        {"unit_ids": list(unit_ids), "usccs": list(usccs), **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def fuels(connection: Connection) -> dict[str, str]:
    """Return carrier -> canonical unit of the carriers whose coefficient is a heating value: kg or m3 of fuel."""
    rows = connection.execute(
        text(
            "SELECT c.carrier_key, c.unit FROM carrier c WHERE c.unit IN ('kg', 'm3') AND c.kind <> 'medium' AND EXISTS"
            " (SELECT 1 FROM standard_coal_factor f WHERE f.factor_key = c.equivalent_factor_key"
            "  AND f.basis = 'heat value' AND f.superseded_at IS NULL)"
        )
    )
    return {row.carrier_key: row.unit for row in rows}


def masses(connection: Connection) -> dict[str, tuple[str, Decimal]]:
    """Return unit -> (canonical unit, canonical units in one) of the units of amount."""
    rows = connection.execute(
        text("SELECT unit, canonical_unit, canonical_per_unit FROM unit_of_measure WHERE kind = 'amount'")
    )
    return {row.unit: (row.canonical_unit, row.canonical_per_unit) for row in rows}


def current(connection: Connection, unit_ids: Sequence[int], months: Sequence[date]) -> list[dict[str, Any]]:
    """Return the latest revision of every lot of these units and months, withdrawn ones too."""
    rows = connection.execute(
        text("SELECT * FROM measured_lhv_current WHERE process_unit_id = ANY(:units) AND month = ANY(:months)"),
        {"units": list(unit_ids), "months": list(months)},
    ).mappings()
    return [dict(row) for row in rows]


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append revisions of lots, by the columns of the table."""
    names = ", ".join(column.split()[0] for column in _COLUMNS.split(", "))
    connection.execute(
        text(
            f"INSERT INTO measured_lhv ({names})"
            f" SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_COLUMNS})"
        ),
        {"rows": json.dumps(list(rows), ensure_ascii=False, default=str)},
    )


def units_below(connection: Connection, unit_ids: Sequence[int]) -> dict[int, list[int]]:
    """Return each unit with itself and all units below it: where its lots may count."""
    rows = connection.execute(
        text(
            "WITH RECURSIVE below AS (SELECT id AS top, id FROM process_unit WHERE id = ANY(:units)"
            " UNION ALL SELECT below.top, u.id FROM process_unit u JOIN below ON u.parent_id = below.id)"
            " SELECT top, array_agg(id ORDER BY id) AS ids FROM below GROUP BY top"
        ),
        {"units": list(unit_ids)},
    )
    return {row.top: list(row.ids) for row in rows}


def list_lots(
    connection: Connection, scope: Scope, *, first: date, last: date, limit: int, process_unit_id: int | None = None
) -> list[dict[str, Any]]:
    """Return the latest revisions in scope of months in [first, last], newest month first."""
    rows = connection.execute(
        text(
            "SELECT m.process_unit_id, e.uscc, u.code AS process_unit, m.carrier_key, m.month, m.lot, m.revision,"
            " trim_scale(m.mass)::text AS mass, c.unit, trim_scale(m.lhv_kj)::text AS lhv_kj, m.sampled_on, m.evidence,"
            " m.reason, m.reported_by, m.reported_at"
            " FROM measured_lhv_current m JOIN process_unit u ON u.id = m.process_unit_id"
            " JOIN enterprise e ON e.id = u.enterprise_id JOIN carrier c USING (carrier_key)"
            " WHERE m.month BETWEEN :first AND :last"
            " AND (CAST(:unit AS bigint) IS NULL OR m.process_unit_id = :unit)"
            f" AND {scope.enterprises_sql()}"
            " ORDER BY m.month DESC, m.process_unit_id, m.carrier_key, m.lot LIMIT :limit"
        ),
        {"first": first, "last": last, "unit": process_unit_id, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]
