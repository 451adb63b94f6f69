"""Reference tables in the database: loaded idempotently, and what a changed figure makes stale."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db import stale
from app.domain.calendar import month_bounds

# What identifies a row of each table. Dated tables keep several rows of one key, so their key holds the date. Levels,
# limits and corrections have editions: app.db.levels.
KEYS: dict[str, tuple[str, ...]] = {
    "district": ("code",),
    "industry": ("code",),
    "unit_of_measure": ("unit",),
    "carrier": ("carrier_key",),
    "standard_coal_factor": ("factor_key", "factor_set", "valid_from"),
    "emission_factor": ("factor_type", "factor_key", "factor_set", "year"),
    "catalogue_variant": ("variant_key",),
    "policy_target": ("target_key",),
    "key_unit_tier": ("tier",),
    "carrier_class": ("carrier_key",),
    "calendar_day": ("day",),
    "warning_rule_set": ("key",),
    "rule": ("key",),
}
# An operator may have changed these; a reload does not undo it. A day that the calendar has stays as it is.
LEFT_TO_OPERATOR = {
    "rule": {"severity", "params", "is_enabled"},
    "calendar_day": {
        *("is_workday", "name_zh", "source", "edition", "confidence", "valid_from", "valid_to", "note"),
    },
}


@dataclass(frozen=True, slots=True)
class TableReport:
    """How many rows of one table a load inserted, updated and found unchanged."""

    table: str
    inserted: int
    updated: int
    unchanged: int


def upsert(connection: Connection, table: str, rows: Iterable[Any]) -> TableReport:
    """Bring the rows (dataclass instances) of one reference table in; rows that are not given stay."""
    counts = {"inserted": 0, "updated": 0, "unchanged": 0}
    statement = None
    for row in rows:
        values = asdict(row)
        if statement is None:
            statement = text(_statement(table, values))
        outcome = connection.execute(statement, _parameters(values)).scalar_one_or_none()
        counts[{True: "inserted", False: "updated", None: "unchanged"}[outcome]] += 1
    return TableReport(table, **counts)


def _statement(table: str, values: Mapping[str, Any]) -> str:
    """Return the upsert of a row; it answers true for an insert, false for an update, nothing when unchanged."""
    columns = list(values)
    compared = [c for c in columns if c not in {*KEYS[table], *LEFT_TO_OPERATOR.get(table, ())}]
    bound = [f"CAST(:{c} AS jsonb)" if isinstance(values[c], dict) else f":{c}" for c in columns]
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(bound)})"
    if not compared:
        return f"{insert} ON CONFLICT ({', '.join(KEYS[table])}) DO NOTHING RETURNING true"
    return (
        f"{insert} ON CONFLICT ({', '.join(KEYS[table])}) DO UPDATE SET "
        + ", ".join(f"{c} = excluded.{c}" for c in compared)
        + f" WHERE ({', '.join(f'{table}.{c}' for c in compared)})"
        + f" IS DISTINCT FROM ({', '.join(f'excluded.{c}' for c in compared)}) RETURNING xmax = 0"
    )


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def mark_units(connection: Connection, now: datetime, *, cause: str) -> None:
    """Mark the usage of every gateway that has any stale: a unit's conversion has changed."""
    rows = connection.execute(
        text("SELECT p.gateway_id, min(u.hour_at) FROM usage_hour u JOIN point p ON p.id = u.point_id GROUP BY 1")
    ).all()
    stale.mark_many(connection, "rollup", [(gateway, None, since, now) for gateway, since in rows], cause=cause)


def mark_factors(connection: Connection, *, cause: str) -> None:
    """Mark the energy of every process unit that has any stale: a factor or a carrier's mapping has changed."""
    rows = connection.execute(
        text("SELECT process_unit_id, min(month), max(month) FROM energy_month GROUP BY process_unit_id")
    ).all()
    marks = [(unit, None, month_bounds(first)[0], month_bounds(last)[1]) for unit, first, last in rows]
    stale.mark_many(connection, "account", marks, cause=cause)


def mark_indicators(connection: Connection, *, cause: str) -> None:
    """Mark the ratios of every production line that has any stale: an indicator has changed."""
    rows = connection.execute(text("SELECT line_id, min(period), max(period) FROM ratio GROUP BY line_id")).all()
    marks = [(line, None, month_bounds(first)[0], month_bounds(last)[1]) for line, first, last in rows]
    stale.mark_many(connection, "benchmark", marks, cause=cause)
