"""The figures of lines by month, quarter and year: read back, written, removed; and what marks them stale."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.domain.calendar import next_month

Bounds = tuple[datetime, datetime]
Key = tuple[int, str, str, date]  # line, variant, grain, first day of the period

# column: type in the table
FIGURES = {
    "actual": "numeric", "unit": "text", "energy": "numeric", "output": "numeric", "output_source": "text",
    "level_id": "bigint", "benchmark": "numeric", "baseline": "numeric", "level_confidence": "text", "status": "text",
    "ratio": "numeric", "position": "numeric", "quota_limit_id": "bigint", "quota_level_1": "numeric",
    "quota_level_2": "numeric", "quota_level_3": "numeric", "quota_grade": "text", "corrections": "jsonb",
    "reason": "text", "is_provisional": "boolean", "windows_expected": "integer", "windows_received": "integer",
    "windows_estimated": "integer", "factor_set": "text", "has_recalled_factor": "boolean",
}  # fmt: skip
_NAMES = ", ".join(FIGURES)
_STORED = (
    f"SELECT line_id, variant_key, grain, period, {_NAMES} FROM ratio"
    " WHERE line_id = ANY(:lines) AND period >= make_date(:first, 1, 1) AND period <= make_date(:last, 12, 31)"
)


def stored(
    connection: Connection, line_ids: Sequence[int], first_year: int, last_year: int
) -> dict[Key, tuple[Any, ...]]:
    """Return the stored figures of lines in whole years, each in the order of FIGURES."""
    rows = connection.execute(text(_STORED), {"lines": sorted(set(line_ids)), "first": first_year, "last": last_year})
    return {(row[0], row[1], row[2], row[3]): row[4:] for row in map(tuple, rows.all())}


def _array(name: str) -> str:
    """A list of jsonb travels as text: the driver has no jsonb in arrays of unknown length."""
    kind = FIGURES[name]
    return f"CAST(:{name} AS {'text' if kind == 'jsonb' else kind}[])"


_UPSERT = (
    f"INSERT INTO ratio (line_id, variant_key, grain, period, computed_at, {_NAMES})"
    " SELECT line_id, variant_key, grain, period, :computed_at,"
    f" {', '.join(f'{name}::jsonb' if kind == 'jsonb' else name for name, kind in FIGURES.items())}"
    " FROM unnest(CAST(:line_ids AS bigint[]), CAST(:variant_keys AS text[]), CAST(:grains AS text[]),"
    f" CAST(:periods AS date[]), {', '.join(_array(name) for name in FIGURES)})"
    f" AS f(line_id, variant_key, grain, period, {_NAMES})"
    " ON CONFLICT (line_id, variant_key, grain, period) DO UPDATE SET computed_at = excluded.computed_at,"
    f" {', '.join(f'{name} = excluded.{name}' for name in FIGURES)}"
)


def write(connection: Connection, figures: Mapping[Key, tuple[Any, ...]], now: datetime) -> None:
    """Write figures, each in the order of FIGURES."""
    if not figures:
        return
    keys = sorted(figures)
    columns = dict(zip(FIGURES, zip(*(figures[key] for key in keys), strict=True), strict=True))
    columns["corrections"] = tuple(None if one is None else json.dumps(one) for one in columns["corrections"])
    connection.execute(
        text(_UPSERT),
        {**{name: list(column) for name, column in columns.items()}, **_keys(keys), "computed_at": now},
    )


def _keys(keys: Sequence[Key]) -> dict[str, list[Any]]:
    return {
        "line_ids": [key[0] for key in keys],
        "variant_keys": [key[1] for key in keys],
        "grains": [key[2] for key in keys],
        "periods": [key[3] for key in keys],
    }


def remove(connection: Connection, keys: Sequence[Key]) -> None:
    """Remove figures: of months in which a line was not in service, of a product it no longer has."""
    if not keys:
        return
    connection.execute(
        text(
            "DELETE FROM ratio r USING unnest(CAST(:line_ids AS bigint[]), CAST(:variant_keys AS text[]),"
            " CAST(:grains AS text[]), CAST(:periods AS date[])) AS w(line_id, variant_key, grain, period)"
            " WHERE (r.line_id, r.variant_key, r.grain, r.period) = (w.line_id, w.variant_key, w.grain, w.period)"
        ),
        _keys(keys),
    )


def mark_closed(connection: Connection, month: date, bounds: Bounds) -> int:
    """Mark lines whose figure of a closed month was last computed while it was open, or never; return how many."""
    return connection.execute(
        text(
            "INSERT INTO stale (stage, subject_id, from_at, to_at, cause)"
            " SELECT 'benchmark', l.id, :from_at, :to_at, 'month_closed' FROM production_line l"
            " LEFT JOIN ratio r ON r.line_id = l.id AND r.variant_key = l.variant_key AND r.grain = 'month'"
            " AND r.period = :month WHERE l.from_on < :last AND (l.to_on IS NULL OR l.to_on > :month)"
            " AND (r.line_id IS NULL OR r.computed_at < :to_at)"
        ),
        {"month": month, "from_at": bounds[0], "to_at": bounds[1], "last": next_month(month)},
    ).rowcount


def mark_alerts(connection: Connection, bounds: Bounds) -> int:
    """Mark every line for the alert stage: months close and holds run out without any reading."""
    return connection.execute(
        text(
            "INSERT INTO stale (stage, subject_id, from_at, to_at, cause)"
            " SELECT 'alert', id, :from_at, :to_at, 'clock' FROM production_line"
        ),
        {"from_at": bounds[0], "to_at": bounds[1]},
    ).rowcount
