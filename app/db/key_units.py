"""The yearly lists of key energy-using units, their energy managers, and what their measured energy proposes."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT, assignment_on
from app.db.figures.sums import FACTOR_SETS, complete_sum
from app.db.scope import Scope
from app.domain.key_units import Appointment, Post, Tier, post_on

# One list at a time is brought in, so that what leaves it is seen whole.
LIST_LOCK = 7_230_029

_UNIT = "e.id AS enterprise_id, e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en"
_PLACE = (
    "c.district_code, d.name_zh AS district_name_zh, d.name_en AS district_name_en, c.industry_code,"
    " i.name_zh AS industry_name_zh, i.name_en AS industry_name_en"
)
_PLACES = "JOIN district d ON d.code = c.district_code JOIN industry i ON i.code = c.industry_code"
# A year's list stands beside the districts and industries of that year's end; of the running year, of today.
LAST_DAY = "least(make_date({year}, 12, 31), CAST(:today AS date))"


def lock(connection: Connection) -> None:
    """Wait until no other list is being written; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LIST_LOCK})


def tiers(connection: Connection) -> list[dict[str, Any]]:
    """Return the tiers with their threshold, the lowest first, and where the threshold comes from."""
    rows = connection.execute(
        text(
            "SELECT tier, at_least_tce, name_zh, name_en, managed_by_zh, managed_by_en, source, confidence, note"
            " FROM key_unit_tier ORDER BY at_least_tce"
        )
    ).mappings()
    return [dict(row) for row in rows]


def thresholds(connection: Connection) -> list[Tier]:
    """Return the tiers as the rule takes them."""
    return [Tier(row["tier"], row["at_least_tce"]) for row in tiers(connection)]


def members(connection: Connection, years: Sequence[int]) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the lists of these years by (year, enterprise id)."""
    rows = connection.execute(
        text(
            "SELECT k.year, k.enterprise_id, e.uscc, k.tier, k.two_high, k.source FROM key_unit_list k"
            " JOIN enterprise e ON e.id = k.enterprise_id WHERE k.year = ANY(:years)"
        ),
        {"years": list(years)},
    ).mappings()
    return {(row["year"], row["enterprise_id"]): dict(row) for row in rows}


def write_members(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add units to lists or change them there: year, enterprise_id, tier, two_high, source, recorded_by."""
    columns = "year, enterprise_id, tier, two_high, source, recorded_by"
    connection.execute(
        text(
            f"INSERT INTO key_unit_list ({columns})"
            f" SELECT {columns} FROM jsonb_populate_recordset(NULL::key_unit_list, CAST(:rows AS jsonb))"
            " ON CONFLICT (year, enterprise_id) DO UPDATE SET tier = excluded.tier, two_high = excluded.two_high,"
            " source = excluded.source, recorded_by = excluded.recorded_by, recorded_at = now()"
        ),
        {"rows": json.dumps([dict(row) for row in rows], ensure_ascii=False)},
    )


def remove_members(connection: Connection, keys: Sequence[tuple[int, int]]) -> None:
    """Take units, by (year, enterprise id), off lists."""
    connection.execute(
        text(
            "DELETE FROM key_unit_list k USING unnest(CAST(:years AS smallint[]), CAST(:ids AS bigint[])) r(year, id)"
            " WHERE k.year = r.year AND k.enterprise_id = r.id"
        ),
        {"years": [year for year, _ in keys], "ids": [enterprise_id for _, enterprise_id in keys]},
    )


def list_units(connection: Connection, scope: Scope, *, year: int, today: date) -> list[dict[str, Any]]:
    """Return the list of a year in scope with district and industry as of that year."""
    rows = connection.execute(
        text(
            f"SELECT k.year, {_UNIT}, {_PLACE}, k.tier, k.two_high AS is_two_high, k.source, k.recorded_by,"
            " k.recorded_at FROM key_unit_list k JOIN enterprise e ON e.id = k.enterprise_id"
            f" CROSS JOIN {assignment_on(LAST_DAY.format(year='k.year'))} c {_PLACES}"
            f" WHERE k.year = :year AND {scope.enterprises_sql()} ORDER BY c.district_code, e.id"
        ),
        {"year": year, "today": today, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def measured(connection: Connection, scope: Scope, *, year: int, today: date) -> list[dict[str, Any]]:
    """Return every enterprise in scope with its measured energy of a year in tce and its place on that year's list."""
    rows = connection.execute(
        text(
            f"SELECT {_UNIT}, {_PLACE}, k.tier AS listed_tier, m.* FROM enterprise e"
            f" CROSS JOIN {assignment_on(LAST_DAY.format(year=':year'))} c {_PLACES}"
            " LEFT JOIN key_unit_list k ON k.enterprise_id = e.id AND k.year = :year CROSS JOIN LATERAL"
            f" (SELECT {complete_sum('equivalent_kgce', scale='0.001')} AS equivalent_tce,"
            f"  {complete_sum('equal_kgce', scale='0.001')} AS equal_tce,"
            "  count(DISTINCT x.month) AS months, coalesce(sum(x.windows_expected), 0)::bigint AS windows_expected,"
            "  coalesce(sum(x.windows_received), 0)::bigint AS windows_received,"
            f"  {FACTOR_SETS} AS factor_sets"
            "  FROM energy_month x JOIN process_unit u ON u.id = x.process_unit_id WHERE u.enterprise_id = e.id"
            "  AND x.month >= make_date(:year, 1, 1) AND x.month <= make_date(:year, 12, 1)) m"
            f" WHERE {scope.enterprises_sql()} ORDER BY c.district_code, e.id"
        ),
        {"year": year, "today": today, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def appointments(connection: Connection, scope: Scope, *, enterprise_id: int | None = None) -> list[dict[str, Any]]:
    """Return every appointment in scope, of each enterprise the latest first."""
    rows = connection.execute(
        text(
            f"SELECT {_UNIT}, c.district_code, m.holder, m.title, m.appointed_on, m.expires_on, m.filed_on,"
            " m.recorded_by, m.recorded_at FROM energy_manager m JOIN enterprise e ON e.id = m.enterprise_id"
            f" CROSS JOIN {CURRENT_ASSIGNMENT} c WHERE {scope.enterprises_sql()}"
            " AND (CAST(:enterprise AS bigint) IS NULL OR e.id = :enterprise) ORDER BY e.id, m.appointed_on DESC"
        ),
        {"enterprise": enterprise_id, **scope.parameters()},
    ).mappings()
    return [dict(row) for row in rows]


def write_appointments(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add appointments, or change the one of the same enterprise and day."""
    values = ("holder", "title", "expires_on", "filed_on", "recorded_by")
    changed = ", ".join(f"{name} = excluded.{name}" for name in values)
    names = ", ".join(("enterprise_id", "appointed_on", *values))
    connection.execute(
        text(
            f"INSERT INTO energy_manager ({names})"
            f" SELECT {names} FROM jsonb_populate_recordset(NULL::energy_manager, CAST(:rows AS jsonb))"
            f" ON CONFLICT (enterprise_id, appointed_on) DO UPDATE SET {changed}, recorded_at = now()"
        ),
        {"rows": json.dumps([dict(row) for row in rows], ensure_ascii=False, default=str)},
    )


_OF_UNIT = (
    *("enterprise_id", "uscc", "enterprise_name_zh", "enterprise_name_en", "district_code", "district_name_zh"),
    *("district_name_en", "industry_code", "industry_name_zh", "industry_name_en", "tier", "is_two_high"),
)
_OF_TERM = ("holder", "title", "appointed_on", "expires_on", "filed_on")


def posts(connection: Connection, scope: Scope, *, day: date, today: date) -> list[dict[str, Any]]:
    """Return the units on the list of a day's year with their energy-management post on that day, those without one
    first.
    """
    terms: dict[int, list[dict[str, Any]]] = {}
    for row in appointments(connection, scope):
        terms.setdefault(row["enterprise_id"], []).append(row)
    listed = list_units(connection, scope, year=day.year, today=today)
    found = [_post_of(unit, terms.get(unit["enterprise_id"], []), day) for unit in listed]
    return sorted(found, key=lambda row: (row["post"] == Post.HELD, row["district_code"], row["enterprise_id"]))


def _post_of(unit: Mapping[str, Any], terms: Sequence[Mapping[str, Any]], day: date) -> dict[str, Any]:
    post, found = post_on(day, [Appointment(t["holder"], t["appointed_on"], t["expires_on"]) for t in terms])
    term = next((t for t in terms if found and t["appointed_on"] == found.appointed_on), None)
    shown = {name: term[name] if term else None for name in _OF_TERM}
    return {**{name: unit[name] for name in _OF_UNIT}, "post": post, **shown}
