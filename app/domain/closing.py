"""When a year is closed: its figures have been reported, and changing them takes a right and a reason of its own."""

from datetime import date, datetime, timedelta

from app.domain.calendar import business_day, day_start

INSTANT = timedelta(microseconds=1)


def is_closed(year: int, today: date) -> bool:
    """Return whether a calendar year is closed on a business day: 31 March of the year after it has passed.

    Convention of this product (P): the yearly reports of key energy users are due by then. No rule fixes the data.
    """
    return today > date(year + 1, 3, 31)


def closed_year_of(at: datetime, now: datetime) -> int | None:
    """Return the closed year that an instant belongs to, or None.

    Midnight of 1 January closes the year before (its last register) and opens the next: it belongs to both.
    """
    year = business_day(at - INSTANT).year
    return year if is_closed(year, business_day(now)) else None


def instant_in(day: date) -> datetime:
    """Return an instant inside a business day, for what begins with it: its midnight belongs to the year before too."""
    return day_start(day) + INSTANT
