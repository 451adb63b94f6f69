"""Official rows by edition: levels, limits, corrections and factors. Brought in without overwriting anything."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

# What identifies a row among those that were not superseded.
KEYS: dict[str, tuple[str, ...]] = {
    "efficiency_level": ("variant_key", "edition", "valid_from"),
    "quota_limit": ("standard", "domain_en", "product_en", "indicator_zh", "valid_from"),
    "level_correction": ("variant_key", "input_key", "level", "edition", "valid_from"),
    "standard_coal_factor": ("factor_key", "factor_set", "valid_from"),
    "emission_factor": ("factor_type", "factor_key", "factor_set", "year"),
}
# Who wrote the rows that come with the project; what an administrator brought in goes before them.
BUNDLED = "reference"
_LOCK = 7_230_024


@dataclass(frozen=True, slots=True)
class Change:
    """A row that is not there as given: new, or put right where `before` is the row it supersedes."""

    table: str
    before: dict[str, Any] | None
    after: dict[str, Any]


def lock(connection: Connection) -> None:
    """Wait until nobody else brings in an edition; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def current(connection: Connection, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table that were not superseded."""
    rows = connection.execute(text(f"SELECT * FROM {table} WHERE superseded_at IS NULL ORDER BY id")).mappings()
    return [dict(row) for row in rows]


def compare(connection: Connection, table: str, rows: Iterable[Any], *, actor: str) -> list[Change]:
    """Return what bringing in rows (dataclass instances of app.reference.tables) would change."""
    there = {key_of(table, row): row for row in current(connection, table)}
    changes = []
    for row in rows:
        after = asdict(row)
        before = there.get(key_of(table, after))
        is_kept = before is not None and actor == BUNDLED and before["recorded_by"] != BUNDLED
        if not is_kept and (before is None or any(before[f.name] != after[f.name] for f in fields(row))):
            changes.append(Change(table, before, after))
    return changes


def key_of(table: str, row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a row of a table."""
    return tuple(row[name] for name in KEYS[table])


def write(connection: Connection, changes: Sequence[Change], *, actor: str, now: datetime) -> None:
    """Write changes: a row that is put right stays, superseded, beside the new one."""
    for change in changes:
        if change.before is not None:
            connection.execute(
                text(f"UPDATE {change.table} SET superseded_at = :now WHERE id = :id"),
                {"now": now, "id": change.before["id"]},
            )
        columns = list(change.after)
        connection.execute(
            text(
                f"INSERT INTO {change.table} ({', '.join(columns)}, recorded_at, recorded_by)"
                f" VALUES ({', '.join(f':{column}' for column in columns)}, :recorded_at, :recorded_by)"
            ),
            {**change.after, "recorded_at": now, "recorded_by": actor},
        )
