"""Measured lower heating values: lots checked as a whole, kept as revisions, and the energy they make stale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from sqlalchemy import Connection

from app.db import heating_values, stale
from app.db.access import Caller
from app.db.scope import Scope
from app.domain.calendar import business_day, month_bounds
from app.domain.closing import instant_in
from app.errors import Invalid
from app.intake import closed_years
from app.intake.outputs import Reported, record, whole_period
from app.intake.registry_file import Breach, Code, Day, Entry, Path, place, refusal

CAUSE = "heating_value"
# Outside this a value is in another unit (MJ, kcal): blast furnace gas has some 3,000 kJ/m3, hydrogen 120,000 kJ/kg.
LEAST_KJ, MOST_KJ = 1_000, 150_000


class UnitName(Entry):
    """A process unit by its natural key."""

    uscc: str = Field(examples=["91120000MA0000001Q"])
    code: Code = Field(examples=["kiln"])


class LotEntry(Entry):
    """One lot of a fuel, as its laboratory report says; `process_unit` or `process_unit_id` names where it was used.

    Without mass and lhv_kj the lot is withdrawn.
    """

    process_unit: UnitName | None = None
    process_unit_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    carrier: str = Field(examples=["raw_coal"])
    month: Annotated[Day, BeforeValidator(whole_period)] = Field(
        description="month in which it was used; 2026-10 will do", examples=["2026-10-01"]
    )
    lot: Annotated[str, Field(min_length=1, max_length=64, examples=["2026-10-A"])]
    mass: Annotated[Decimal, Field(gt=0, max_digits=30)] | None = Field(default=None, examples=["1200"])
    unit: Annotated[str, Field(max_length=40, description="unit of the mass (of the volume, for a gas)")] | None = None
    lhv_kj: Annotated[Decimal, Field(gt=0, max_digits=20)] | None = Field(
        default=None,
        description="lower heating value as received, in kJ per kg (per m3, for a gas)",
        examples=["21000"],
    )
    sampled_on: Day | None = None
    evidence: Annotated[str, Field(min_length=1, max_length=500, description="laboratory report: number, who, where")]
    reason: Annotated[str, Field(max_length=500)] = ""

    @model_validator(mode="after")
    def _whole(self) -> "LotEntry":
        if (self.process_unit is None) == (self.process_unit_id is None):
            raise ValueError("name the process unit once: by process_unit or by process_unit_id")
        if len({self.mass is None, self.unit is None, self.lhv_kj is None}) > 1:
            raise ValueError("mass, unit and lhv_kj go together; a lot is withdrawn by leaving out all three")
        return self


@dataclass(frozen=True, slots=True)
class _Known:
    """What entries may name: units in scope, fuels with their canonical unit, units of amount."""

    by_id: dict[int, int]
    by_name: dict[tuple[str, str], int]
    fuels: dict[str, str]
    masses: dict[str, tuple[str, Decimal]]

    def unit_of(self, entry: LotEntry) -> int | None:
        if entry.process_unit is None:
            return self.by_id.get(entry.process_unit_id or 0)
        return self.by_name.get((entry.process_unit.uscc, entry.process_unit.code))

    def canonical_per_unit(self, entry: LotEntry) -> Decimal | None:
        """Canonical units of the carrier in one unit of the mass; None where it does not convert."""
        canonical, per_unit = self.masses.get(entry.unit or "", ("", Decimal(0)))
        return per_unit if canonical == self.fuels.get(entry.carrier) else None


def report(
    connection: Connection,
    caller: Caller,
    entries: Sequence[LotEntry],
    *,
    now: datetime,
    closed_year_reason: str | None = None,
) -> Reported:
    """Write lots in the caller's transaction: new values become revisions, equal ones are counted unchanged.

    Units outside the scope are as unknown as units that do not exist. Any breach raises Invalid with all of them. The
    energy of the unit and of all below it is marked stale for the months that changed. What changes a month of a closed
    year takes an operator and a reason (see app.intake.closed_years).
    """
    heating_values.lock(connection)
    known = _known(connection, caller.scope, entries)
    breaches = list(_breaches(entries, known, business_day(now)))
    if breaches:
        raise refusal(breaches)
    fresh = _fresh_rows(connection, entries, known, caller.name)
    located = [(place(("lots", number, "month"), {}), instant_in(row["month"])) for number, row in fresh.items()]
    closed = closed_years.check(located, caller.role, closed_year_reason, now)
    rows = list(fresh.values())
    if rows:
        heating_values.insert(connection, rows)
        stale.mark_many(connection, "account", _marks(connection, rows), cause=CAUSE)
    done = Reported(len(rows), len(entries) - len(rows))
    touched = {"units": sorted({row["process_unit_id"] for row in rows})}
    record(connection, caller, "heating_values.report", f"{len(entries)} lots", done, touched, closed)
    return done


def _known(connection: Connection, scope: Scope, entries: Sequence[LotEntry]) -> _Known:
    found = heating_values.find_units(
        connection,
        scope,
        unit_ids=[entry.process_unit_id for entry in entries if entry.process_unit_id is not None],
        usccs=sorted({entry.process_unit.uscc for entry in entries if entry.process_unit is not None}),
    )
    return _Known(
        {row["id"]: row["id"] for row in found},
        {(row["uscc"], row["code"]): row["id"] for row in found},
        heating_values.fuels(connection),
        heating_values.masses(connection),
    )


def _breaches(entries: Sequence[LotEntry], known: _Known, today: date) -> Iterator[Breach]:
    seen: dict[tuple[Any, ...], int] = {}
    for number, entry in enumerate(entries):
        path: Path = ("lots", number)
        unit_id = known.unit_of(entry)
        if unit_id is None:
            named = "/".join(entry.process_unit.model_dump().values()) if entry.process_unit else entry.process_unit_id
            yield (*path, "process_unit"), f"there is no process unit {named} that you may report for"
        key = (unit_id, entry.carrier, entry.month, entry.lot)
        if seen.setdefault(key, number) != number:
            yield path, f"the same lot as lots[{seen[key]}]"
        if entry.month.day != 1 or entry.month > today:
            why = "has not begun" if entry.month > today else "is not the first day of a month"
            yield (*path, "month"), f"{entry.month} {why}"
        if entry.carrier not in known.fuels:
            yield (*path, "carrier"), f"{entry.carrier!r} is not a fuel that is converted by its heating value"
        elif entry.unit is not None and known.canonical_per_unit(entry) is None:
            yield (*path, "unit"), f"unit {entry.unit!r} does not convert to {known.fuels[entry.carrier]}"
        if entry.lhv_kj is not None and not LEAST_KJ <= entry.lhv_kj <= MOST_KJ:
            yield (*path, "lhv_kj"), f"{entry.lhv_kj} is outside {LEAST_KJ} to {MOST_KJ}: is it in kJ per kg or m3?"


def _fresh_rows(
    connection: Connection, entries: Sequence[LotEntry], known: _Known, actor: str
) -> dict[int, dict[str, Any]]:
    """Return the rows to append by the entries' numbers: what is new, or differs from the latest in mass or value."""
    units = [known.unit_of(entry) for entry in entries]
    wanted = [
        (number, unit, entry)
        for number, (unit, entry) in enumerate(zip(units, entries, strict=True))
        if unit is not None
    ]
    months = sorted({entry.month for entry in entries})
    there = {
        (row["process_unit_id"], row["carrier_key"], row["month"], row["lot"]): row
        for row in heating_values.current(connection, [unit_id for _, unit_id, _ in wanted], months)
    }
    fresh: dict[int, dict[str, Any]] = {}
    for number, unit_id, entry in wanted:
        latest = there.get((unit_id, entry.carrier, entry.month, entry.lot))
        mass = None if entry.mass is None else entry.mass * (known.canonical_per_unit(entry) or 1)
        if latest is None and mass is None:
            raise Invalid(
                f"there is no lot {entry.lot!r} of {entry.carrier} in {entry.month} to withdraw",
                detail_zh=f"{entry.month} 的 {entry.carrier} 没有批次 {entry.lot}，无法撤销",
            )
        if latest is None or (latest["mass"], latest["lhv_kj"]) != (mass, entry.lhv_kj):
            fresh[number] = {
                **entry.model_dump(include={"month", "lot", "lhv_kj", "sampled_on", "evidence", "reason"}),
                "process_unit_id": unit_id,
                "carrier_key": entry.carrier,
                "mass": mass,
                "revision": latest["revision"] + 1 if latest else 1,
                "reported_by": actor,
            }
    return fresh


def _marks(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[tuple[int, int | None, datetime, datetime]]:
    """Return one mark per unit that the lots reach and month."""
    below = heating_values.units_below(connection, sorted({row["process_unit_id"] for row in rows}))
    reached = {(unit, row["month"]) for row in rows for unit in below[row["process_unit_id"]]}
    return [(unit, None, *month_bounds(month)) for unit, month in sorted(reached)]
