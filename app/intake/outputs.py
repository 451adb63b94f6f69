"""Outputs reported by or for enterprises: checked as a whole, kept as revisions, and the ratios they make stale."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from sqlalchemy import Connection

from app.db import access, stale
from app.db import outputs as outputs_db
from app.db.access import Caller
from app.db.scope import Scope
from app.domain.calendar import business_day, day_start, month_of, next_month
from app.domain.capacity import Capacity, Unit, amount_of_year, holding
from app.domain.closing import instant_in
from app.domain.rounding import plain
from app.errors import Invalid
from app.intake import closed_years
from app.intake.registry_file import Breach, Code, Day, Entry, Path, place, refusal
from app.intake.rows import MOST_BREACHES, CsvFile
from app.intake.sentences import sentence

CAUSE = "output"
CSV_COLUMNS = ("uscc", "process_unit", "line", "kind", "grain", "period", "value", "unit")
# Economic outputs have no unit of measure; GB/T 2589 indicators are per 10^4 yuan.
MONEY_UNIT = "10^4 yuan"
MONEY_KINDS = ("output_value", "value_added")
# What a line can produce; it holds from the period's first day on and divides nothing.
CAPACITY = "capacity"
# What a line makes, which its capacity bounds.
MADE_KINDS = ("production", "it_electricity")
Kind = Literal["production", "output_value", "value_added", "it_electricity", "capacity"]
Grain = Literal["day", "month", "year"]


def whole_period(value: Any) -> Any:
    """Read `2026-10` as the first day of the month and `2026` as the first day of the year."""
    missing = {4: "-01-01", 7: "-01"}
    return value + missing.get(len(value), "") if isinstance(value, str) else value


class LineName(Entry):
    """A production line by its natural key."""

    uscc: str = Field(examples=["91120000MA0000001Q"])
    process_unit: Code = Field(examples=["kiln"])
    code: Code = Field(examples=["kiln-1"])


class OutputEntry(Entry):
    """One output of one line and period; `line` or `line_id` names the line."""

    line: LineName | None = None
    line_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(default=None, examples=[7])
    kind: Kind = "production"
    grain: Grain
    period: Annotated[Day, BeforeValidator(whole_period)] = Field(
        description="the day, or the first day of the month or year; 2026-10 will do for a month",
        examples=["2026-10-01"],
    )
    value: Annotated[Decimal, Field(ge=0, max_digits=30)] = Field(description="in `unit`", examples=["98500"])
    unit: Annotated[str, Field(max_length=40)] = Field(examples=["t"])
    reason: Annotated[str, Field(max_length=500)] = Field(
        default="", description="why it differs from what was reported before", examples=["weighbridge corrected"]
    )

    @model_validator(mode="after")
    def _one_line(self) -> "OutputEntry":
        if (self.line is None) == (self.line_id is None):
            raise ValueError("name the line once: by line or by line_id")
        return self


class NamesLine(Protocol):
    """An entry that names a line by `line` or `line_id`."""

    @property
    def line(self) -> LineName | None: ...
    @property
    def line_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Reported:
    """How many outputs were new or changed, and how many were there already with this value."""

    accepted: int
    unchanged: int


def parse_csv(content: str) -> tuple[list[OutputEntry], dict[Path, str]]:
    """Return the outputs of a CSV file and the line each came from; every bad row is listed in Invalid.

    Columns: uscc, process_unit, line, kind, grain, period, value, unit, and reason if wanted.
    """
    file = CsvFile(content)
    missing = [name for name in CSV_COLUMNS if name not in file.columns]
    if missing:
        raise Invalid(
            f"the file has no column {', '.join(missing)}; needed are {', '.join(CSV_COLUMNS)}",
            detail_zh=f"文件缺少列 {'、'.join(missing)}；应有 {'、'.join(CSV_COLUMNS)}",
            errors=[],
        )
    entries: list[OutputEntry] = []
    breaches: list[Breach] = []
    places: dict[Path, str] = {}
    for number, (at, row) in enumerate(file):
        places["outputs", number] = at
        if len(breaches) > MOST_BREACHES:
            break
        line = {"uscc": row.pop("uscc"), "process_unit": row.pop("process_unit"), "code": row.pop("line")}
        try:
            entries.append(OutputEntry.model_validate({**row, "line": line}))
        except ValidationError as error:
            breaches += [(("outputs", number, *e["loc"]), sentence(e)) for e in error.errors(include_url=False)]
    if breaches:
        raise refusal(breaches, places)
    return entries, places


def report(
    connection: Connection,
    caller: Caller,
    entries: Sequence[OutputEntry],
    *,
    now: datetime,
    closed_year_reason: str | None = None,
    places: Mapping[Path, str] | None = None,
) -> Reported:
    """Write outputs in the caller's transaction: new values become revisions, equal ones are counted unchanged.

    Lines outside the scope are as unknown as lines that do not exist. Any breach raises Invalid with all of them. New
    values of a closed year, the year of the period, take an operator and a reason (see app.intake.closed_years). A day
    or a month above the whole year's capacity is a breach (see _beyond_capacity).
    """
    outputs_db.lock(connection)
    lines = Lines(connection, caller.scope, entries)
    breaches = list(_breaches(connection, entries, lines, business_day(now)))
    if breaches:
        raise refusal(breaches, places)
    if not entries:
        return Reported(0, 0)
    fresh = _fresh_rows(connection, entries, lines, caller.name)
    located = [
        (place(("outputs", number, "period"), places or {}), instant_in(row["period"])) for number, row in fresh.items()
    ]
    closed = closed_years.check(located, caller.role, closed_year_reason, now)
    rows = list(fresh.values())
    if rows:
        outputs_db.insert(connection, rows)
        stale.mark_many(connection, "benchmark", _marks([r for r in rows if r["kind"] != CAPACITY]), cause=CAUSE)
    done = Reported(len(rows), len(entries) - len(rows))
    touched = {"lines": sorted({row["line_id"] for row in rows})}
    record(connection, caller, "outputs.report", f"{len(entries)} outputs", done, touched, closed)
    return done


def record(
    connection: Connection,
    caller: Caller,
    action: str,
    what: str,
    done: Reported,
    touched: Mapping[str, Sequence[int]],
    closed: Mapping[int, str],
) -> None:
    """Append the audit row of a report: what became of it, whom it touched, why closed years were changed."""
    detail: dict[str, Any] = {"accepted": done.accepted, "unchanged": done.unchanged, **touched}
    if closed:
        detail["closed_years"] = dict(closed)
    access.record(connection, caller.name, action, what, detail)


class Lines:
    """The lines that a report names, found in one query."""

    def __init__(self, connection: Connection, scope: Scope, entries: Sequence["NamesLine"]) -> None:
        ids = sorted({entry.line_id for entry in entries if entry.line_id is not None})
        usccs = sorted({entry.line.uscc for entry in entries if entry.line is not None})
        found = outputs_db.find_lines(connection, scope, line_ids=ids, usccs=usccs)
        self._by_id = {row["id"]: row for row in found}
        self._by_name = {(row["uscc"], row["process_unit"], row["code"]): row for row in found}

    def of(self, entry: "NamesLine") -> dict[str, Any] | None:
        """Return the line of an entry, or None where the scope has none."""
        if entry.line is None:
            return self._by_id.get(entry.line_id)
        return self._by_name.get((entry.line.uscc, entry.line.process_unit, entry.line.code))


def _breaches(connection: Connection, entries: Sequence[OutputEntry], lines: Lines, today: date) -> Iterator[Breach]:
    units = outputs_db.units(connection)
    alike: dict[str, set[str]] = {}
    capacities = _capacities(connection, entries, lines)
    seen: dict[tuple[Any, ...], int] = {}
    for number, entry in enumerate(entries):
        path: Path = ("outputs", number)
        line = lines.of(entry)
        if line is None:
            named = "/".join(entry.line.model_dump().values()) if entry.line else str(entry.line_id)
            yield (*path, "line"), f"there is no production line {named} that you may report for"
            continue
        key = (line["id"], entry.kind, entry.grain, entry.period)
        if key in seen:
            yield path, f"the same line, kind and period as outputs[{seen[key]}]"
        seen.setdefault(key, number)
        yield from ((((*path, "period")), message) for message in _period_faults(entry, line, today))
        wanted = _unit_wanted(entry, line)
        if wanted not in alike:
            alike[wanted] = _units_like(wanted, units)
        if entry.kind not in (*MONEY_KINDS, CAPACITY, line["output_kind"]):
            yield (*path, "kind"), f"this line reports {line['output_kind']}, not {entry.kind}"
        elif entry.kind == CAPACITY:
            if entry.unit != wanted:
                yield (*path, "unit"), f"the capacity of this line is in {wanted}: units of capacity are not mixed"
        elif entry.unit not in alike[wanted]:
            known = ", ".join(sorted(alike[wanted]))
            yield (*path, "unit"), f"unit {entry.unit!r} does not convert to {wanted}; known units are {known}"
        elif (fault := _beyond_capacity(entry, line, capacities.get(line["id"], {}), units)) is not None:
            yield (*path, "value"), fault


def _unit_wanted(entry: OutputEntry, line: Mapping[str, Any]) -> str:
    if entry.kind in MONEY_KINDS:
        return MONEY_UNIT
    return str((line["capacity_unit"] or entry.unit) if entry.kind == CAPACITY else line["output_unit"])


def _units_like(wanted: str, units: Mapping[str, Unit]) -> set[str]:
    """Return the units of amount that convert to a unit, itself among them even when it converts to nothing."""
    canonical = {unit.canonical for name, unit in units.items() if name == wanted and not unit.is_rate}
    return {wanted, *(name for name, unit in units.items() if unit.canonical in canonical and not unit.is_rate)}


def _capacities(
    connection: Connection, entries: Sequence[OutputEntry], lines: Lines
) -> dict[int, dict[date, Capacity]]:
    """Return by line the capacities that are reported, those of this report among them, by the day each begins."""
    named = [(line, entry) for entry in entries if (line := lines.of(entry)) is not None]
    found = outputs_db.capacities(connection, sorted({line["id"] for line, _ in named}))
    for line, entry in named:
        if entry.kind == CAPACITY and entry.unit == _unit_wanted(entry, line):
            found.setdefault(line["id"], {})[entry.period] = Capacity(entry.value, entry.unit)
    return found


def _beyond_capacity(
    entry: OutputEntry,
    line: Mapping[str, Any],
    reported: Mapping[date, Capacity],
    units: Mapping[str, Unit],
) -> str | None:
    """Return what is wrong with an output of a day or a month that is more than the line can make in a whole year.

    Convention of this product (P), not law: it finds a wrong unit or a slip of the pen, and no threshold is invented.
    A year's output is never refused: lines do make more than their capacity. Nor is one of a line without a capacity,
    or with one whose unit does not convert (racks, t/d of a glass line that reports weight cases).
    """
    if entry.kind not in MADE_KINDS or entry.grain == "year":
        return None
    is_registered = line["capacity"] is not None and line["registered_unit"] is not None
    registered = Capacity(line["capacity"], line["registered_unit"]) if is_registered else None
    held = holding(_period_end(entry.grain, entry.period) - timedelta(days=1), reported, registered)
    most = amount_of_year(held, entry.period.year, entry.unit, units) if held is not None else None
    if held is None or most is None or Fraction(entry.value) <= most:
        return None
    return (
        f"{entry.value:f} {entry.unit} in one {entry.grain} is more than the line can make in the whole of"
        f" {entry.period.year}, {plain(most)} {entry.unit} at its capacity of {held.value:f} {held.unit}: correct the"
        " value or its unit, or report the capacity first"
    )


def _period_faults(entry: OutputEntry, line: Mapping[str, Any], today: date) -> Iterator[str]:
    end = _period_end(entry.grain, entry.period)
    if entry.grain == "month" and entry.period.day != 1:
        yield f"{entry.period} is not the first day of a month"
    elif entry.grain == "year" and (entry.period.month, entry.period.day) != (1, 1):
        yield f"{entry.period} is not the first day of a year"
    elif entry.period > today:
        yield f"{entry.period} has not begun"
    elif end <= line["from_on"] or (line["to_on"] is not None and entry.period >= line["to_on"]):
        until = f" to {line['to_on']}" if line["to_on"] else ""
        yield f"the line was not in service then: it is from {line['from_on']}{until}"


def _period_end(grain: str, period: date) -> date:
    if grain == "day":
        return period + timedelta(days=1)
    return next_month(period) if grain == "month" else period.replace(year=period.year + 1, month=1, day=1)


def _fresh_rows(
    connection: Connection, entries: Sequence[OutputEntry], lines: Lines, actor: str
) -> dict[int, dict[str, Any]]:
    """Return the rows to append by the entries' numbers: what is new, or differs from the latest in value or unit."""
    wanted = [(number, line, entry) for number, entry in enumerate(entries) if (line := lines.of(entry)) is not None]
    periods = [entry.period for entry in entries]
    there = {
        (row["line_id"], row["kind"], row["grain"], row["period"]): row
        for row in outputs_db.current(connection, [ln["id"] for _, ln, _ in wanted], min(periods), max(periods))
    }
    fresh: dict[int, dict[str, Any]] = {}
    for number, line, entry in wanted:
        latest = there.get((line["id"], entry.kind, entry.grain, entry.period))
        if latest is None or (latest["value"], latest["unit"]) != (entry.value, entry.unit):
            fresh[number] = {
                **entry.model_dump(include={"kind", "grain", "period", "value", "unit", "reason"}),
                "line_id": line["id"],
                "revision": latest["revision"] + 1 if latest else 1,
                "reported_by": actor,
            }
    return fresh


def _marks(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, int | None, datetime, datetime]]:
    """Return one mark per line and month (or year) that the rows touch."""
    spans = {
        (row["line_id"], row["period"] if row["grain"] == "year" else month_of(row["period"]), row["grain"] == "year")
        for row in rows
    }
    return [
        (line, None, day_start(first), day_start(_period_end("year" if is_year else "month", first)))
        for line, first, is_year in sorted(spans)
    ]
