"""Conditions of lines that correct their limits: one row per revision, nothing overwritten."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from app.db.figures.sums import exact
from app.db.scope import Scope

_COLUMNS = (
    "line_id bigint, input_key text, from_month date, revision integer, value numeric, evidence text, reported_by text"
)
_LOCK = 7_230_025


def lock(connection: Connection) -> None:
    """Wait until nobody else reports conditions; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def known_inputs(connection: Connection, line_ids: Sequence[int]) -> set[tuple[int, str]]:
    """Return (line, input key) of every condition that corrects the limits of a line's product."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT l.id, c.input_key FROM production_line l JOIN level_correction c USING (variant_key)"
            " WHERE l.id = ANY(:lines) AND c.superseded_at IS NULL"
        ),
        {"lines": list(line_ids)},
    )
    return {(line_id, key) for line_id, key in rows}


def current(connection: Connection, line_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the latest revision of every condition of these lines."""
    rows = connection.execute(
        text(
            "SELECT line_id, input_key, from_month, revision, value, evidence FROM correction_input_current"
            " WHERE line_id = ANY(:lines)"
        ),
        {"lines": list(line_ids)},
    ).mappings()
    return [dict(row) for row in rows]


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append revisions: line_id, input_key, from_month, revision, value, evidence, reported_by."""
    connection.execute(
        text(
            "INSERT INTO correction_input (line_id, input_key, from_month, revision, value, evidence, reported_by)"
            f" SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_COLUMNS})"
        ),
        {"rows": json.dumps(list(rows), ensure_ascii=False, default=str)},
    )


def list_inputs(
    connection: Connection, scope: Scope, *, limit: int, line_id: int | None = None
) -> list[dict[str, Any]]:
    """Return the latest revisions in scope, newest month first."""
    rows = connection.execute(
        text(
            "SELECT i.line_id, e.uscc, u.code AS process_unit, l.code, i.input_key, i.from_month, i.revision,"
            f" {exact('i.value')} AS value, i.evidence, i.reported_by, i.reported_at"
            " FROM correction_input_current i JOIN production_line l ON l.id = i.line_id"
            " JOIN process_unit u ON u.id = l.process_unit_id JOIN enterprise e ON e.id = u.enterprise_id"
            f" WHERE (CAST(:line AS bigint) IS NULL OR i.line_id = :line) AND {scope.enterprises_sql()}"
            " ORDER BY i.from_month DESC, i.line_id, i.input_key LIMIT :limit"
        ),
        {"line": line_id, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]
