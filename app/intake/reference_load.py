"""Bring the official tables that the project carries into the database; a second time changes nothing."""

from datetime import datetime

from sqlalchemy import Connection

from app.db import reference
from app.db.reference import TableReport
from app.reference import tables

CAUSE = "reference"


def load(connection: Connection, now: datetime) -> list[TableReport]:
    """Load every table in one transaction of the caller; figures that a changed row touches are marked stale."""
    reports = [reference.upsert(connection, name, tables.table(name), now) for name in tables.FILES]
    changed = {report.table for report in reports if report.inserted or report.updated}
    if "unit_of_measure" in changed:
        reference.mark_units(connection, now, cause=CAUSE)
    if changed & {"carrier", "standard_coal_factor", "emission_factor"}:
        reference.mark_factors(connection, cause=CAUSE)
    if changed & {"catalogue_variant", "efficiency_level"}:
        reference.mark_levels(connection, cause=CAUSE)
    return reports
