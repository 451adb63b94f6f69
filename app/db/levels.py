"""Levels, quota limits and their corrections by edition: brought in without overwriting, and what they make stale."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db import stale
from app.domain.benchmark import Direction, Level
from app.domain.calendar import month_bounds

# What identifies a row among those that were not superseded.
KEYS: dict[str, tuple[str, ...]] = {
    "efficiency_level": ("variant_key", "edition", "valid_from"),
    "quota_limit": ("standard", "domain_en", "product_en", "indicator_zh", "valid_from"),
    "level_correction": ("variant_key", "input_key", "level", "edition", "valid_from"),
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
    there = {_key(table, row): row for row in current(connection, table)}
    changes = []
    for row in rows:
        after = asdict(row)
        before = there.get(_key(table, after))
        is_kept = before is not None and actor == BUNDLED and before["recorded_by"] != BUNDLED
        if not is_kept and (before is None or any(before[f.name] != after[f.name] for f in fields(row))):
            changes.append(Change(table, before, after))
    return changes


def _key(table: str, row: dict[str, Any]) -> tuple[Any, ...]:
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


@dataclass(frozen=True, slots=True)
class Touched:
    """The months of a line whose figures an edition may change."""

    line_id: int
    variant_key: str
    first: date
    last: date
    months: int


def touched(connection: Connection, changes: Sequence[Change]) -> list[Touched]:
    """Return the computed months of lines from the day on from which a change holds, to the day on which it ends."""
    spans = [span for change in changes for span in _spans(change)]
    rows = connection.execute(
        text(
            "SELECT r.line_id, r.variant_key, min(r.period), max(r.period), count(DISTINCT r.period)"
            " FROM unnest(CAST(:keys AS text[]), CAST(:firsts AS date[]), CAST(:lasts AS date[]))"
            "  AS w(variant_key, first, last)"
            " JOIN ratio r ON r.variant_key = w.variant_key AND r.grain = 'month'"
            "  AND r.period >= coalesce(w.first, '-infinity') AND r.period < coalesce(w.last, 'infinity')"
            " GROUP BY 1, 2 ORDER BY 1"
        ),
        {
            "keys": [key for key, _, _ in spans],
            "firsts": [first for _, first, _ in spans],
            "lasts": [last for _, _, last in spans],
        },
    )
    return [Touched(*row) for row in rows]


def _spans(change: Change) -> list[tuple[str, date | None, date | None]]:
    """Return (variant, from, to) where a row holds and where the one it supersedes held."""
    rows = [row for row in (change.before, change.after) if row is not None and row["variant_key"] is not None]
    return [(row["variant_key"], row["valid_from"], row["valid_to"]) for row in rows]


def mark(connection: Connection, months: Sequence[Touched], *, cause: str) -> None:
    """Mark the touched months of lines for the benchmark stage."""
    marks = [(one.line_id, None, month_bounds(one.first)[0], month_bounds(one.last)[1]) for one in months]
    stale.mark_many(connection, "benchmark", marks, cause=cause)


@dataclass(frozen=True, slots=True)
class JudgedMonth:
    """A stored month with what judged it."""

    line_id: int
    month: date
    actual: Any
    status: str
    direction: Direction


def judged_months(connection: Connection, variant_key: str) -> list[JudgedMonth]:
    """Return the months of a variant's lines that have a value."""
    rows = connection.execute(
        text(
            "SELECT r.line_id, r.period, r.actual, r.status, v.direction FROM ratio r"
            " JOIN catalogue_variant v USING (variant_key) WHERE r.variant_key = :key AND r.grain = 'month'"
            " AND r.actual IS NOT NULL"
        ),
        {"key": variant_key},
    )
    return [JudgedMonth(row[0], row[1], row[2], row[3], Direction(row[4])) for row in rows]


def as_level(row: dict[str, Any], recorded_at: datetime) -> Level:
    """Return a row of efficiency_level as the domain judges by it."""
    return Level(
        row.get("id"),
        row["benchmark"],
        row["baseline"],
        row["confidence"],
        row["valid_from"],
        row["valid_to"],
        row.get("recorded_at", recorded_at),
    )


def variants(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return unit, direction, conversion and base of every catalogue variant by its key."""
    rows = connection.execute(
        text("SELECT variant_key, unit, direction, conversion, base_per_indicator_unit FROM catalogue_variant")
    ).mappings()
    return {row["variant_key"]: dict(row) for row in rows}
