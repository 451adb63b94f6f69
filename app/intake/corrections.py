"""Conditions of lines (clinker share, ore grade …) that correct their limits: checked, kept as revisions, marked."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from sqlalchemy import Connection

from app.db import corrections, stale
from app.db.access import Caller
from app.domain.calendar import business_day, day_start, month_of, next_month
from app.domain.closing import instant_in
from app.intake import closed_years
from app.intake.outputs import LineName, Lines, Reported, record, whole_period
from app.intake.registry_file import Breach, Day, Entry, Path, place, refusal

CAUSE = "correction"


class CorrectionEntry(Entry):
    """A condition of one line from a month on, until the next value of it. Without a value it is withdrawn."""

    line: LineName | None = None
    line_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(default=None, examples=[7])
    input_key: str = Field(max_length=64, examples=["clinker_share"])
    from_month: Annotated[Day, BeforeValidator(whole_period)] = Field(
        description="first day of the month from which it holds; 2026-10 will do", examples=["2026-10-01"]
    )
    value: Annotated[Decimal, Field(max_digits=20)] | None = Field(default=None, examples=["78.5"])
    evidence: Annotated[str, Field(min_length=1, max_length=500, description="where the value comes from")] = Field(
        examples=["burden analysis of October"]
    )

    @model_validator(mode="after")
    def _one_line(self) -> "CorrectionEntry":
        if (self.line is None) == (self.line_id is None):
            raise ValueError("name the line once: by line or by line_id")
        return self


def report(
    connection: Connection,
    caller: Caller,
    entries: Sequence[CorrectionEntry],
    *,
    now: datetime,
    closed_year_reason: str | None = None,
) -> Reported:
    """Write conditions in the caller's transaction: new values become revisions, equal ones are counted unchanged.

    Lines outside the scope are as unknown as lines that do not exist. Any breach raises Invalid with all of them. What
    begins to hold in a closed year takes an operator and a reason (see app.intake.closed_years).
    """
    corrections.lock(connection)
    lines = Lines(connection, caller.scope, entries)
    found = [lines.of(entry) for entry in entries]
    today = business_day(now)
    breaches = list(_breaches(connection, entries, found, today))
    if breaches:
        raise refusal(breaches)
    fresh = dict(_fresh_rows(connection, entries, found, caller.name))
    located = [
        (place(("inputs", number, "from_month"), {}), instant_in(r["from_month"])) for number, r in fresh.items()
    ]
    closed = closed_years.check(located, caller.role, closed_year_reason, now)
    rows = list(fresh.values())
    if rows:
        corrections.insert(connection, rows)
        until = day_start(next_month(month_of(today)))
        marks = {(row["line_id"], row["from_month"]) for row in rows}
        stale.mark_many(
            connection,
            "benchmark",
            [(line, None, day_start(first), until) for line, first in sorted(marks)],
            cause=CAUSE,
        )
    done = Reported(len(rows), len(entries) - len(rows))
    touched = {"lines": sorted({row["line_id"] for row in rows})}
    record(connection, caller, "corrections.report", f"{len(entries)} conditions", done, touched, closed)
    return done


def _breaches(
    connection: Connection,
    entries: Sequence[CorrectionEntry],
    lines: Sequence[Mapping[str, Any] | None],
    today: date,
) -> Iterator[Breach]:
    known = corrections.known_inputs(connection, [line["id"] for line in lines if line is not None])
    there = {
        (row["line_id"], row["input_key"], row["from_month"])
        for row in corrections.current(connection, [line["id"] for line in lines if line is not None])
    }
    seen: dict[tuple[Any, ...], int] = {}
    for number, (entry, line) in enumerate(zip(entries, lines, strict=True)):
        path: Path = ("inputs", number)
        if line is None:
            yield (*path, "line"), "there is no such production line that you may report for"
            continue
        key = (line["id"], entry.input_key, entry.from_month)
        if seen.setdefault(key, number) != number:
            yield path, f"the same line, input and month as inputs[{seen[key]}]"
        if (line["id"], entry.input_key) not in known:
            wanted = ", ".join(sorted(name for line_id, name in known if line_id == line["id"])) or "nothing"
            yield (*path, "input_key"), f"{entry.input_key!r} corrects nothing of this line; known are {wanted}"
        if entry.from_month.day != 1 or entry.from_month > today:
            why = "has not begun" if entry.from_month > today else "is not the first day of a month"
            yield (*path, "from_month"), f"{entry.from_month} {why}"
        if entry.value is None and key not in there:
            yield (*path, "value"), "there is nothing to withdraw"


def _fresh_rows(
    connection: Connection,
    entries: Sequence[CorrectionEntry],
    lines: Sequence[Mapping[str, Any] | None],
    actor: str,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows to append, each with its entry's number: what is new, or differs from the latest in value."""
    numbered = enumerate(zip(lines, entries, strict=True))
    wanted = [(number, line["id"], entry) for number, (line, entry) in numbered if line is not None]
    there = {
        (row["line_id"], row["input_key"], row["from_month"]): row
        for row in corrections.current(connection, [line_id for _, line_id, _ in wanted])
    }
    for number, line_id, entry in wanted:
        latest = there.get((line_id, entry.input_key, entry.from_month))
        if latest is None or latest["value"] != entry.value:
            row = {
                **entry.model_dump(include={"input_key", "from_month", "value", "evidence"}),
                "line_id": line_id,
                "revision": latest["revision"] + 1 if latest else 1,
                "reported_by": actor,
            }
            yield number, row
