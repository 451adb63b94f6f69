"""Bring the official tables that the project carries into the database; a second time changes nothing."""

from datetime import datetime

from sqlalchemy import Connection

from app.db import findings, levels, reference
from app.db.reference import TableReport
from app.reference import tables

CAUSE = "reference"


def load(connection: Connection, now: datetime) -> list[TableReport]:
    """Load every table in one transaction of the caller; figures that a changed row touches are marked stale."""
    levels.lock(connection)
    reports = [_load(connection, name, now) for name in tables.FILES]
    changed = {report.table for report in reports if report.inserted or report.updated}
    if "unit_of_measure" in changed:
        reference.mark_units(connection, now, cause=CAUSE)
    if changed & {"carrier", "standard_coal_factor", "emission_factor"}:
        reference.mark_factors(connection, cause=CAUSE)
    if "catalogue_variant" in changed:
        reference.mark_indicators(connection, cause=CAUSE)
    if "calendar_day" in changed:
        findings.stop_clocks(connection, min(row.day for row in tables.table("calendar_day")))
    return reports


def _load(connection: Connection, name: str, now: datetime) -> TableReport:
    rows = tables.table(name)
    if name not in levels.KEYS:
        return reference.upsert(connection, name, rows)
    changes = levels.compare(connection, name, rows, actor=levels.BUNDLED)
    levels.write(connection, changes, actor=levels.BUNDLED, now=now)
    levels.mark(connection, levels.touched(connection, changes), cause=CAUSE)
    inserted = sum(change.before is None for change in changes)
    return TableReport(name, inserted, len(changes) - inserted, len(rows) - len(changes))
