"""Reported outputs (production, output value, IT electricity): one row per revision, nothing overwritten."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from app.db.scope import Scope
from app.domain.capacity import Capacity, Unit

# Revisions are counted up from what is there; one report at a time keeps the count right.
REPORT_LOCK = 7_230_022

_COLUMNS = (
    "line_id bigint, kind text, grain text, period date, revision integer, value numeric, unit text,"
    " reported_by text, reason text"
)


def lock(connection: Connection) -> None:
    """Wait until no other report is being written; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": REPORT_LOCK})


def find_lines(
    connection: Connection, scope: Scope, *, line_ids: Sequence[int], usccs: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the lines in scope with one of these ids or of one of these enterprises, each with its output's unit."""
    rows = connection.execute(
        text(
            "SELECT l.id, e.uscc, u.code AS process_unit, l.code, l.from_on, l.to_on,"
            " v.output_kind, v.output_unit, l.capacity, l.capacity_unit AS registered_unit,"
            " coalesce(l.capacity_unit, (SELECT o.unit FROM output_current o"
            "  WHERE o.line_id = l.id AND o.kind = 'capacity' LIMIT 1)) AS capacity_unit"
            " FROM production_line l JOIN process_unit u ON u.id = l.process_unit_id"
            " JOIN enterprise e ON e.id = u.enterprise_id JOIN catalogue_variant v ON v.variant_key = l.variant_key"
            f" WHERE (l.id = ANY(:line_ids) OR e.uscc = ANY(:usccs)) AND {scope.enterprises_sql()}"
        ),
        {"line_ids": list(line_ids), "usccs": list(usccs), **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def units(connection: Connection) -> dict[str, Unit]:
    """Return every unit of measure, rates among them."""
    rows = connection.execute(
        text("SELECT unit, canonical_unit, canonical_per_unit, kind = 'rate' AS is_rate FROM unit_of_measure")
    )
    return {row.unit: Unit(row.canonical_unit, row.canonical_per_unit, row.is_rate) for row in rows}


def capacities(connection: Connection, line_ids: Sequence[int]) -> dict[int, dict[date, Capacity]]:
    """Return by line the reported capacities as they stand, by the day from which each holds."""
    rows = connection.execute(
        text(
            "SELECT line_id, period, value, unit FROM output_current WHERE line_id = ANY(:line_ids)"
            " AND kind = 'capacity' ORDER BY line_id, period, value"
        ),
        {"line_ids": list(line_ids)},
    )
    found: dict[int, dict[date, Capacity]] = {}
    for line_id, period, value, unit in rows:
        found.setdefault(line_id, {})[period] = Capacity(value, unit)
    return found


def current(connection: Connection, line_ids: Sequence[int], first: date, last: date) -> list[dict[str, Any]]:
    """Return the latest revision of every output of these lines whose period starts in [first, last]."""
    rows = connection.execute(
        text(
            "SELECT line_id, kind, grain, period, revision, value, unit FROM output_current"
            " WHERE line_id = ANY(:line_ids) AND period BETWEEN :first AND :last"
        ),
        {"line_ids": list(line_ids), "first": first, "last": last},
    ).mappings()
    return [dict(row) for row in rows]


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append revisions: line_id, kind, grain, period, revision, value, unit, reported_by, reason."""
    connection.execute(
        text(
            "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by, reason)"
            f" SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_COLUMNS})"
        ),
        {"rows": json.dumps(list(rows), ensure_ascii=False, default=str)},
    )


def list_outputs(
    connection: Connection,
    scope: Scope,
    *,
    first: date,
    last: date,
    limit: int,
    line_id: int | None = None,
    kind: str | None = None,
) -> list[dict[str, Any]]:
    """Return the latest revisions in scope whose period starts in [first, last], newest period first."""
    rows = connection.execute(
        text(
            "SELECT o.line_id, e.uscc, u.code AS process_unit, l.code, o.kind, o.grain, o.period,"
            " o.revision, o.value::text AS value, o.unit, o.reported_by, o.reported_at, o.reason"
            " FROM output_current o JOIN production_line l ON l.id = o.line_id"
            " JOIN process_unit u ON u.id = l.process_unit_id JOIN enterprise e ON e.id = u.enterprise_id"
            " WHERE o.period BETWEEN :first AND :last AND (CAST(:line_id AS bigint) IS NULL OR o.line_id = :line_id)"
            f" AND (CAST(:kind AS text) IS NULL OR o.kind = :kind) AND {scope.enterprises_sql()}"
            " ORDER BY o.period DESC, o.line_id, o.kind, o.grain LIMIT :limit"
        ),
        {"first": first, "last": last, "line_id": line_id, "kind": kind, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]
