"""The official calendar from a CSV file: checked as a whole, audited day by day, and the clocks it moves."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import Connection

from app.db import access, findings, working_days
from app.intake.registry_file import Day, Entry, Path, refusal
from app.intake.rows import Report, repeated


class CalendarEntry(Entry):
    """A day that is a holiday, or a workday that makes up for one; a plain day may be listed too."""

    day: Day = Field(examples=["2026-10-01"])
    is_workday: bool
    name_zh: Annotated[str, Field(max_length=100)] = ""
    source: Annotated[str, Field(min_length=1, max_length=500, description="the announcement")]
    edition: Annotated[str, Field(max_length=100)] | None = None
    confidence: Literal["confirmed", "recalled"] = "confirmed"
    valid_from: Day | None = Field(default=None, description="day of the announcement")
    valid_to: Day | None = None
    note: Annotated[str, Field(max_length=500)] = ""


def report(
    connection: Connection,
    entries: Sequence[CalendarEntry],
    *,
    actor: str,
    places: Mapping[Path, str] | None = None,
    is_dry_run: bool = False,
) -> Report:
    """Bring days in, in the caller's transaction: new ones, and over what was said of them before (audited).

    Days that are not listed keep what they are. The clocks of open findings that the days may move are taken away and
    set anew by the worker. Any breach raises Invalid with all of them and nothing is written.
    """
    working_days.lock(connection)
    breaches = list(repeated("calendar", [(entry.day,) for entry in entries]))
    if breaches:
        raise refusal(breaches, places)
    there = working_days.named(connection, [entry.day for entry in entries])
    done, fresh = Report(is_dry_run), []
    for entry in entries:
        row = entry.model_dump()
        was = there.get(entry.day)
        mark = "+" if was is None else "=" if was == row else "~"
        before = f" (was {_shown(was['is_workday'])})" if was else ""
        done.note(mark, f"{entry.day} {_shown(entry.is_workday)} {entry.name_zh}".rstrip() + before)
        fresh += [row] if mark != "=" else []
    if fresh and not is_dry_run:
        working_days.write(connection, fresh)
        findings.stop_clocks(connection, min(row["day"] for row in fresh))
        access.record(connection, actor, "calendar.import", f"{len(entries)} days", {"changes": done.changes})
    return done


def _shown(is_workday: bool) -> str:
    return "workday" if is_workday else "holiday"
