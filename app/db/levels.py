"""Levels, quota limits and their corrections: what a new edition of them makes stale."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db import stale
from app.db.editions import Change
from app.domain.benchmark import Direction, Level
from app.domain.calendar import month_bounds

# The tables that judge lines, by the products of the catalogue.
TABLES = ("efficiency_level", "quota_limit", "level_correction")
_JUDGE_LOCK = 7_230_034


def let_judge(connection: Connection) -> None:
    """Wait until no levels are coming in, and keep them out until this transaction has written its figures."""
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _JUDGE_LOCK})


def hold_judging(connection: Connection) -> None:
    """Wait for the runs that read the former levels: the figures they write are then seen, and marked."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _JUDGE_LOCK})


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
