"""A new edition of levels, quota limits or corrections from a CSV file: checked as a whole, and what it would change.

The columns are those of the file in app/reference that the project carries of the same table. Nothing is overwritten:
an edition stands beside the former ones with its own `valid_from`, and a row that is put right supersedes its first
version. So old periods keep the edition they were judged by.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from app.db import access, editions, levels
from app.db.editions import Change
from app.domain.benchmark import Direction, Status, level_of_month, status
from app.domain.quota import Side
from app.intake import edition_file
from app.intake.registry_file import Breach, Path

CAUSE = "edition"
CORRECTED_LEVELS = ("1", "2", "3", "benchmark", "baseline")


@dataclass(frozen=True, slots=True)
class EditionChange:
    """One row of the file that is not there as given. `statuses`: months by `from → to`, as far as computed."""

    variant_key: str | None
    name: str
    is_correction_of_a_row: bool
    before: str | None
    after: str
    lines: int
    months: int
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class EditionReport:
    """What an import changed, or would change: rows by kind, and the months whose figures are computed again."""

    table: str
    inserted: int
    superseded: int
    unchanged: int
    lines: int
    months: int
    changes: list[EditionChange]
    is_dry_run: bool


def bring_in(connection: Connection, content: str, *, actor: str, now: datetime, is_dry_run: bool) -> EditionReport:
    """Check a CSV file and bring it in within the caller's transaction; a dry run writes nothing.

    Any bad row raises Invalid with all of them. The benchmark stage is told which months of which lines are stale.
    """
    editions.lock(connection)
    if not is_dry_run:
        levels.hold_judging(connection)
    file = edition_file.parse(content, levels.TABLES, "levels")
    table, rows = file.table, list(file.rows.values())
    file.refuse(list(_breaches(connection, table, file.rows)))
    changes = editions.compare(connection, table, rows, actor=actor)
    months = levels.touched(connection, changes)
    report = EditionReport(
        table=table,
        inserted=sum(change.before is None for change in changes),
        superseded=sum(change.before is not None for change in changes),
        unchanged=len(rows) - len(changes),
        lines=len({one.line_id for one in months}),
        months=sum(one.months for one in months),
        changes=[_described(connection, change, changes, now) for change in changes],
        is_dry_run=is_dry_run,
    )
    if changes and not is_dry_run:
        editions.write(connection, changes, actor=actor, now=now)
        levels.mark(connection, months, cause=CAUSE)
        detail = {"inserted": report.inserted, "superseded": report.superseded, "months": report.months}
        access.record(connection, actor, "levels.import", table, detail)
    return report


def _breaches(connection: Connection, table: str, rows: Mapping[int, Any]) -> Iterator[Breach]:
    variants = levels.variants(connection)
    yield from edition_file.row_breaches(table, rows)
    for number, row in rows.items():
        path: Path = ("rows", number)
        if row.variant_key is not None and row.variant_key not in variants:
            yield (*path, "variant_key"), f"there is no product {row.variant_key!r} in the catalogue"
        elif row.variant_key is not None:
            yield from (((*path, column), why) for column, why in _faults(table, row, variants[row.variant_key]))
        if not row.edition:
            yield (*path, "edition"), "say which edition this is"
    yield from _rival_editions(connection, table, rows)


def _faults(table: str, row: Any, variant: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with the figures of one row."""
    if table == "level_correction":
        if row.level not in CORRECTED_LEVELS:
            yield "level", f"{row.level!r} is none of {', '.join(CORRECTED_LEVELS)}"
        if row.side not in list(Side):
            yield "side", f"{row.side!r} is none of {', '.join(Side)}"
        if row.most_points is not None and row.most_points <= 0:
            yield "most_points", "is over zero, or empty for no limit"
        return
    if table == "quota_limit" and row.unit != variant["unit"]:
        yield "unit", f"{row.unit!r} is not the product's {variant['unit']!r}"
    if table == "quota_limit" and row.direction != variant["direction"]:
        yield "direction", f"{row.direction!r} is not the product's {variant['direction']!r}"
    names = ("benchmark", "baseline") if table == "efficiency_level" else ("level_1", "level_2", "level_3")
    given = [(name, getattr(row, name)) for name in names if getattr(row, name) is not None]
    if not given:
        yield names[0], f"give at least one of {', '.join(names)}"
    sign = 1 if variant["direction"] == Direction.LOWER_IS_BETTER else -1
    for (better, first), (worse, second) in pairwise(given):
        if sign * first > sign * second:
            yield worse, f"{worse} {second} is stricter than {better} {first}"


def _rival_editions(connection: Connection, table: str, rows: Mapping[int, Any]) -> Iterator[Breach]:
    """Two editions of one thing that begin on one day (or both on none) leave open which one holds."""
    names = [name for name in editions.KEYS[table] if name not in ("edition", "standard")]
    own = next(name for name in editions.KEYS[table] if name in ("edition", "standard"))
    there: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for before in editions.current(connection, table):
        there[tuple(before[name] for name in names)].add(before[own])
    for number, row in rows.items():
        key = tuple(getattr(row, name) for name in names)
        rivals = there[key] - {getattr(row, own)}
        there[key].add(getattr(row, own))
        if rivals:
            when = f"from {row.valid_from}" if row.valid_from else "without a date"
            yield (
                ("rows", number, "valid_from"),
                f"{own} {min(rivals)!r} holds {when} too: say from when this one holds",
            )


def _described(connection: Connection, change: Change, changes: Sequence[Change], now: datetime) -> EditionChange:
    months = levels.touched(connection, [change])
    statuses = _status_changes(connection, change, changes, now) if change.table == "efficiency_level" else {}
    return EditionChange(
        variant_key=change.after["variant_key"],
        name=" · ".join(str(change.after[name]) for name in editions.KEYS[change.table] if change.after[name]),
        is_correction_of_a_row=change.before is not None,
        before=_figures(change.before or _holding(connection, change)),
        after=_figures(change.after) or "",
        lines=len({one.line_id for one in months}),
        months=sum(one.months for one in months),
        statuses=statuses,
    )


_SHOWN = ("benchmark", "baseline", "level_1", "level_2", "level_3", "base", "per_point", "most_points")


def _figures(row: Mapping[str, Any] | None) -> str | None:
    if row is None:
        return None
    figures = ", ".join(f"{name} {row[name]}" for name in _SHOWN if row.get(name) is not None)
    dated = f" from {row['valid_from']}" if row["valid_from"] else ""
    return f"{figures}{dated} ({row['edition']}, {row['confidence']})"


def _holding(connection: Connection, change: Change) -> Mapping[str, Any] | None:
    """The level that held until the new one begins."""
    if change.table != "efficiency_level":
        return None
    rows = {row["id"]: row for row in editions.current(connection, change.table)}
    mine = [levels.as_level(row, row["recorded_at"]) for row in rows.values() if _is_same(row, change.after)]
    start = change.after["valid_from"]
    held = level_of_month(mine, start) if start else None
    return rows[held.level_id] if held and held.level_id else None


def _is_same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(row["variant_key"] == other["variant_key"])


def _status_changes(connection: Connection, change: Change, changes: Sequence[Change], now: datetime) -> dict[str, int]:
    """Return how many computed months of a variant would change their status, by `from → to`."""
    key = change.after["variant_key"]
    gone = {one.before["id"] for one in changes if one.before is not None}
    kept = [row for row in editions.current(connection, change.table) if row["id"] not in gone]
    fresh = [one.after for one in changes if one.table == change.table]
    after = [levels.as_level(row, now) for row in [*kept, *fresh] if row["variant_key"] == key]
    found: Counter[str] = Counter()
    for month in levels.judged_months(connection, key):
        level = level_of_month(after, month.month)
        would_be = status(month.actual, level.benchmark, level.baseline, month.direction) if level else Status.UNKNOWN
        if would_be != month.status:
            found[f"{month.status} → {would_be.value}"] += 1
    return dict(sorted(found.items()))
