"""The yearly list of key energy-using units and their energy managers: checked as a whole, audited change by change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator
from sqlalchemy import Connection

from app.db import access, entered, key_units
from app.db.scope import Scope
from app.intake.entered import Source, Year
from app.intake.registry_file import Breach, CreditCode, Day, Entry, Path, refusal
from app.intake.rows import Report, Row, repeated


class KeyUnitEntry(Entry):
    """A unit on the list of a year."""

    year: Year
    uscc: CreditCode
    tier: Annotated[str, Field(description="5000_tce, 10000_tce or 500000_tce", examples=["10000_tce"])]
    two_high: bool = Field(default=False, description="on the ledger of two-high (两高) projects")
    source: Source


class EnergyManagerEntry(Entry):
    """An appointment to the energy-management post; the same enterprise and day again changes it."""

    uscc: CreditCode
    holder: Annotated[str, Field(min_length=1, max_length=100, examples=["李某"])]
    title: Annotated[
        str, Field(max_length=100, description="technical title, at least intermediate", examples=["工程师"])
    ] = ""
    appointed_on: Day = Field(examples=["2025-03-01"])
    expires_on: Day | None = Field(default=None, description="last day of the term", examples=["2028-02-29"])
    filed_on: Day | None = Field(default=None, description="filed with the energy authority", examples=["2025-03-10"])

    @model_validator(mode="after")
    def _in_order(self) -> "EnergyManagerEntry":
        if self.expires_on is not None and self.expires_on < self.appointed_on:
            raise ValueError(f"expires_on {self.expires_on} is before appointed_on {self.appointed_on}")
        return self


def report_list(
    connection: Connection, scope: Scope, entries: Sequence[KeyUnitEntry], *, actor: str,
    places: Mapping[Path, str] | None = None, is_dry_run: bool = False,
) -> Report:  # fmt: skip
    """Make the entries the list of each year they name: units they do not mention leave that year's list.

    Other years' lists stay as they are. Any breach raises Invalid with all of them and nothing is written.
    """
    key_units.lock(connection)
    known = entered.enterprise_ids(connection, scope, sorted({entry.uscc for entry in entries}))
    tiers = [tier.key for tier in key_units.thresholds(connection)]
    breaches = list(_unknown("key_units", entries, known))
    breaches += [
        (("key_units", number, "tier"), f"unknown tier {entry.tier!r}; tiers are {', '.join(tiers)}")
        for number, entry in enumerate(entries)
        if entry.tier not in tiers
    ]
    breaches += repeated("key_units", [(entry.year, entry.uscc) for entry in entries])
    if breaches:
        raise refusal(breaches, places)
    there = key_units.members(connection, sorted({entry.year for entry in entries}))
    report, fresh = Report(is_dry_run), []
    for entry in entries:
        row = {**entry.model_dump(exclude={"uscc"}), "enterprise_id": known[entry.uscc]}
        was = there.pop((entry.year, row["enterprise_id"]), None)
        mark = _mark(row, was)
        report.note(mark, f"{entry.year} {entry.uscc} {_shown(row)}" + (f" (was {_shown(was)})" if was else ""))
        fresh += [{**row, "recorded_by": actor}] if mark != "=" else []
    for (year, _), was in sorted(there.items()):
        report.note("-", f"{year} {was['uscc']} {_shown(was)}")
    if report.changes and not is_dry_run:
        key_units.write_members(connection, fresh)
        key_units.remove_members(connection, sorted(there))
        access.record(connection, actor, "key_units.list", f"{len(entries)} units", {"changes": report.changes})
    return report


def report_managers(
    connection: Connection, scope: Scope, entries: Sequence[EnergyManagerEntry], *, actor: str,
    places: Mapping[Path, str] | None = None, is_dry_run: bool = False,
) -> Report:  # fmt: skip
    """Enter appointments, or change them; any breach raises Invalid with all of them and nothing is written."""
    key_units.lock(connection)
    known = entered.enterprise_ids(connection, scope, sorted({entry.uscc for entry in entries}))
    breaches = [*_unknown("energy_managers", entries, known)]
    breaches += repeated("energy_managers", [(entry.uscc, entry.appointed_on) for entry in entries])
    if breaches:
        raise refusal(breaches, places)
    there = {(row["uscc"], row["appointed_on"]): row for row in key_units.appointments(connection, scope)}
    report, fresh = Report(is_dry_run), []
    for entry in entries:
        row = {**entry.model_dump(exclude={"uscc"}), "enterprise_id": known[entry.uscc]}
        mark = _mark(row, there.get((entry.uscc, entry.appointed_on)))
        until = f" to {entry.expires_on}" if entry.expires_on else ""
        report.note(mark, f"{entry.uscc} {entry.holder} from {entry.appointed_on}{until}")
        fresh += [{**row, "recorded_by": actor}] if mark != "=" else []
    if fresh and not is_dry_run:
        key_units.write_appointments(connection, fresh)
        detail = {"changes": report.changes}
        access.record(connection, actor, "energy_managers.report", f"{len(entries)} appointments", detail)
    return report


def _unknown(
    list_name: str, entries: Sequence[KeyUnitEntry | EnergyManagerEntry], known: Mapping[str, int]
) -> Iterator[Breach]:
    for number, entry in enumerate(entries):
        if entry.uscc not in known:
            yield (list_name, number, "uscc"), f"there is no enterprise {entry.uscc} that you may report for"


def _mark(row: Row, was: Mapping[str, Any] | None) -> str:
    if was is None:
        return "+"
    return "=" if all(was[name] == value for name, value in row.items()) else "~"


def _shown(row: Mapping[str, Any]) -> str:
    return f"{row['tier']}{', two-high' if row['two_high'] else ''}"
