"""What people enter beside the meters: figures of regions and enterprises, targets, budgets. One row per revision."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from app.db.figures.sums import exact
from app.db.scope import Scope
from app.errors import Unavailable

# Revisions are counted up from what is there; one report at a time keeps the count right.
REPORT_LOCK = 7_230_028


@dataclass(frozen=True, slots=True)
class Columns:
    """What identifies a row of a table and what a revision may change, the figure first."""

    key: tuple[str, ...]
    values: tuple[str, ...]


TABLES = {
    "entered_figure": Columns(
        ("district_code", "enterprise_id", "kind", "year"), ("value", "unit", "price_base_year", "source")
    ),
    "intensity_target": Columns(
        ("district_code", "target_key", "base_year", "target_year"), ("reduction_pct", "source", "confidence")
    ),
    "energy_budget": Columns(("enterprise_id", "year"), ("budget_tce", "method", "conversion", "basis", "source")),
}


def lock(connection: Connection) -> None:
    """Wait until no other report is being written; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": REPORT_LOCK})


def enterprise_ids(connection: Connection, scope: Scope, usccs: Sequence[str]) -> dict[str, int]:
    """Return credit code -> id of the enterprises in scope."""
    rows = connection.execute(
        text(f"SELECT e.uscc, e.id FROM enterprise e WHERE e.uscc = ANY(:usccs) AND {scope.enterprises_sql()}"),
        {"usccs": list(usccs), **scope.parameters()},
    )
    return {row.uscc: row.id for row in rows}


def regions(connection: Connection, scope: Scope) -> dict[str, dict[str, Any]]:
    """Return the districts in scope by code, and the city itself for who sees all of it; an enterprise sees none."""
    rows = connection.execute(
        text(
            "SELECT d.code, d.name_zh, d.name_en, d.level, d.group_name FROM district d"
            " WHERE d.level IN ('municipality', 'district') AND CAST(:scope_enterprise AS bigint) IS NULL"
            " AND (CAST(:scope_district AS text) IS NULL OR d.code = :scope_district) ORDER BY d.code"
        ),
        scope.parameters(),
    ).mappings()
    return {row["code"]: dict(row) for row in rows}


def key_of(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a row."""
    return tuple(row[name] for name in TABLES[table].key)


def current(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Any]:
    """Return the latest revision of each row that is there, by its key."""
    same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM r.{name}" for name in TABLES[table].key)
    found = connection.execute(
        text(
            f"SELECT DISTINCT t.* FROM {table}_current t"
            f" JOIN jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb)) r ON {same}"
        ),
        {"rows": _json(rows)},
    ).mappings()
    return {key_of(table, row): row for row in map(dict, found)}


def insert(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append revisions; each row has the table's key and values, `revision` and `recorded_by`."""
    columns = ", ".join((*TABLES[table].key, *TABLES[table].values, "revision", "recorded_by"))
    connection.execute(
        text(
            f"INSERT INTO {table} ({columns})"
            f" SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb))"
        ),
        {"rows": _json(rows)},
    )


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([dict(row) for row in rows], ensure_ascii=False, default=str)


def figures(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    year: int | None = None,
    kind: str | None = None,
    is_with_history: bool = False,
) -> list[dict[str, Any]]:
    """Return entered figures in scope, newest year first: the latest revision of each, or every one.

    Figures of regions go to whoever sees the region; an enterprise sees its own alone.
    """
    table = "entered_figure" if is_with_history else "entered_figure_current"
    rows = connection.execute(
        text(
            f"SELECT f.district_code, e.uscc, f.kind, f.year, {exact('f.value')} AS value, f.unit, f.price_base_year,"
            f" f.source, f.revision, f.recorded_by, f.recorded_at FROM {table} f"
            " LEFT JOIN enterprise e ON e.id = f.enterprise_id"
            " WHERE (CAST(:year AS smallint) IS NULL OR f.year = :year)"
            " AND (CAST(:kind AS text) IS NULL OR f.kind = :kind) AND CASE WHEN f.enterprise_id IS NULL"
            " THEN CAST(:scope_enterprise AS bigint) IS NULL"
            "  AND (CAST(:scope_district AS text) IS NULL OR f.district_code = :scope_district)"
            f" ELSE {scope.enterprises_sql()} END"
            " ORDER BY f.year DESC, f.kind, f.district_code NULLS LAST, e.uscc, f.revision DESC LIMIT :limit"
        ),
        {"year": year, "kind": kind, "limit": limit, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def regional_figures(connection: Connection, years: Sequence[int]) -> list[dict[str, Any]]:
    """Return the latest revision of every figure of a region in these years, values as numbers."""
    rows = connection.execute(
        text(
            "SELECT district_code, kind, year, value, unit, price_base_year, source, revision, recorded_at"
            " FROM entered_figure_current WHERE district_code IS NOT NULL AND year = ANY(:years)"
        ),
        {"years": list(years)},
    ).mappings()
    return [dict(row) for row in rows]


def targets(connection: Connection, scope: Scope, target_key: str | None = None) -> list[dict[str, Any]]:
    """Return the latest revision of each region's target, regions in scope only."""
    rows = connection.execute(
        text(
            "SELECT t.district_code, t.target_key, t.base_year, t.target_year, t.reduction_pct, t.revision, t.source,"
            " t.confidence, t.recorded_by, t.recorded_at FROM intensity_target_current t"
            " WHERE CAST(:scope_enterprise AS bigint) IS NULL"
            " AND (CAST(:scope_district AS text) IS NULL OR t.district_code = :scope_district)"
            " AND (CAST(:key AS text) IS NULL OR t.target_key = :key)"
            " ORDER BY t.target_key, t.district_code, t.base_year, t.target_year"
        ),
        {"key": target_key, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def policy_target(connection: Connection, target_key: str) -> dict[str, Any]:
    """Return a row of the plan: its value, years, source and confidence; Unavailable where it was never loaded."""
    row = connection.execute(
        text(
            "SELECT target_key, name_zh, name_en, value, unit, base_year, target_year, source, confidence"
            " FROM policy_target WHERE target_key = :key"
        ),
        {"key": target_key},
    ).mappings()
    found = row.one_or_none()
    if found is None:
        raise Unavailable(
            f"target {target_key} of the plan is not there: run `nenghao reference load`",
            detail_zh=f"缺少规划目标 {target_key}：请运行 nenghao reference load",
        )
    return dict(found)


def budgets(
    connection: Connection, scope: Scope, *, year: int, enterprise_id: int | None = None, is_with_history: bool = False
) -> list[dict[str, Any]]:
    """Return the energy budgets of a year in scope: the latest revision of each, or every one."""
    table = "energy_budget" if is_with_history else "energy_budget_current"
    rows = connection.execute(
        text(
            "SELECT b.enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en, b.year,"
            " b.revision, b.method, b.conversion, b.budget_tce, b.basis, b.source, b.recorded_by, b.recorded_at"
            f" FROM {table} b JOIN enterprise e ON e.id = b.enterprise_id WHERE b.year = :year"
            f" AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise) AND {scope.enterprises_sql()}"
            " ORDER BY e.id, b.revision DESC"
        ),
        {"year": year, "enterprise": enterprise_id, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]
