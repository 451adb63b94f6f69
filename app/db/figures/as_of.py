"""Tables of published grains as they were known at an instant, for any query over them.

A figure that was never revised stood in its table since its publication; a revised one is taken from its revisions.
"""

from datetime import date, datetime

from app.domain.calendar import day_published_at, month_published_at
from app.errors import Invalid

# table: (kind and grain of its revisions, period column, the other key columns in the order of the revision's key)
PUBLISHED = {
    "usage_day": ("usage", "day", "day", ("point_id",)),
    "usage_month": ("usage", "month", "month", ("point_id",)),
    "energy_day": ("energy", "day", "day", ("process_unit_id", "carrier_key", "flow")),
    "energy_month": ("energy", "month", "month", ("process_unit_id", "carrier_key", "flow")),
    "ratio": ("ratio", "month", "period", ("line_id", "variant_key")),
}


def source(table: str, alias: str, as_of: datetime | None) -> str:
    """Return what a query reads after FROM or JOIN: the table, or its rows as known at the bind parameter `as_of`.

    The bind parameters `start` and `end` (dates, or null) bound the periods that are looked up.
    """
    if as_of is None:
        return f"{table} {alias}"
    kind, grain, period, keys = PUBLISHED[table]
    key = " || ':' || ".join(f"t.{name}::text" for name in keys)
    whole = ", ".join(f"'{name}', split_part(v.key, ':', {place})" for place, name in enumerate(keys, 1))
    whole += f", '{period}', v.period"
    if table == "ratio":
        whole += ", 'grain', 'month', 'computed_at', v.recorded_at"
    only = "t.grain = 'month' AND " if table == "ratio" else ""
    return (
        f"(SELECT t.* FROM {table} t WHERE {only}NOT EXISTS (SELECT 1 FROM figure_revision f WHERE f.kind = '{kind}'"
        f" AND f.grain = '{grain}' AND f.key = {key} AND f.period = t.{period})"
        f" UNION ALL SELECT r.* FROM (SELECT DISTINCT ON (key, period) key, period, value, recorded_at"
        f" FROM figure_revision WHERE kind = '{kind}' AND grain = '{grain}'"
        " AND period >= coalesce(CAST(:start AS date), '-infinity')"
        " AND period < coalesce(CAST(:end AS date), 'infinity')"
        f" AND recorded_at <= CAST(:as_of AS timestamptz) ORDER BY key, period, revision DESC) v"
        f" CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, v.value || jsonb_build_object({whole})) r"
        f" WHERE v.value <> 'null') {alias}"
    )


def check_published(grain: str, last: date, as_of: datetime | None) -> None:
    """Raise Invalid when the last period of a question was not published at `as_of`, or its grain never is."""
    if as_of is None:
        return
    if grain not in ("day", "month"):
        raise Invalid(
            f"as_of answers for published grains (day, month); {grain} figures are not published: leave as_of out",
            detail_zh=f"as_of 仅适用于已发布的日、月数据；{grain} 数据不发布",
            errors=[{"location": ["query", "as_of"], "message": "grain is not published"}],
        )
    published_at = day_published_at(last) if grain == "day" else month_published_at(last)
    if published_at > as_of:
        raise Invalid(
            f"{last} was published at {published_at.isoformat()}, after as_of: end the range earlier, or ask later",
            detail_zh=f"{last} 的数据于 {published_at.isoformat()} 发布，晚于 as_of：请缩短范围或推后 as_of",
            errors=[{"location": ["query", "as_of"], "message": "not published then"}],
        )
