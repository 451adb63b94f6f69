"""The official calendar: holidays and make-up workdays, as announced year by year."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

COLUMNS = ("day", "is_workday", "name_zh", "source", "edition", "confidence", "valid_from", "valid_to", "note")
_TYPES = (
    "day date, is_workday boolean, name_zh text, source text, edition text, confidence text, valid_from date,"
    " valid_to date, note text"
)
_LOCK = 7_230_027


def lock(connection: Connection) -> None:
    """Wait until nobody else brings a calendar in; held to the end of the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def workdays(connection: Connection, first_year: int, last_year: int) -> dict[date, bool]:
    """Return whether one works, for every day of whole years that the calendar says something about."""
    rows = connection.execute(
        text("SELECT day, is_workday FROM calendar_day WHERE day >= :first AND day < :end"),
        {"first": date(first_year, 1, 1), "end": date(last_year + 1, 1, 1)},
    )
    return {row.day: row.is_workday for row in rows}


def named(connection: Connection, days: Sequence[date]) -> dict[date, dict[str, Any]]:
    """Return the rows of these days, by day."""
    rows = connection.execute(
        text(f"SELECT {', '.join(COLUMNS)} FROM calendar_day WHERE day = ANY(:days)"), {"days": list(days)}
    ).mappings()
    return {row["day"]: dict(row) for row in rows}


def write(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write days, over what the calendar said of them before."""
    names = ", ".join(COLUMNS)
    connection.execute(
        text(
            f"INSERT INTO calendar_day ({names}) SELECT {names}"
            f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_TYPES}) ON CONFLICT (day) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
        ),
        {"rows": json.dumps(list(rows), ensure_ascii=False, default=str)},
    )
