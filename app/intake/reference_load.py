"""Bring the official tables that the project carries into the database; a second time changes nothing."""

from datetime import datetime

from sqlalchemy import Connection

from app.db import editions, factors, findings, levels, reference
from app.db.reference import TableReport
from app.intake import factors as factors_intake
from app.reference import tables

CAUSE = "reference"


def load(connection: Connection, now: datetime) -> list[TableReport]:
    """Load every table in one transaction of the caller; figures that a changed row touches are marked stale."""
    editions.lock(connection)
    factors.hold_account(connection)
    levels.hold_judging(connection)
    reports = [_load(connection, name, now) for name in tables.FILES]
    changed = {report.table for report in reports if report.inserted or report.updated}
    if "unit_of_measure" in changed:
        reference.mark_units(connection, now, cause=CAUSE)
    if "carrier" in changed:
        reference.mark_energy(connection, cause=CAUSE)
    if "catalogue_variant" in changed:
        reference.mark_indicators(connection, cause=CAUSE)
    if "calendar_day" in changed:
        findings.stop_clocks(connection, min(row.day for row in tables.table("calendar_day")))
    return reports


def _load(connection: Connection, name: str, now: datetime) -> TableReport:
    rows = tables.table(name)
    if name not in editions.KEYS:
        return reference.upsert(connection, name, rows)
    changes = editions.compare(connection, name, rows, actor=editions.BUNDLED)
    if name in factors.TABLES:
        stretches = factors_intake.touched(connection, factors.loaded(connection), changes)
        factors.mark(connection, stretches, cause=CAUSE)
    else:
        levels.mark(connection, levels.touched(connection, changes), cause=CAUSE)
    editions.write(connection, changes, actor=editions.BUNDLED, now=now)
    inserted = sum(change.before is None for change in changes)
    return TableReport(name, inserted, len(changes) - inserted, len(rows) - len(changes))
