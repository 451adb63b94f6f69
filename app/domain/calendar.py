"""Business days, months and hours of the city, as half-open instants. Business time is Asia/Shanghai (UTC+8)."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

BUSINESS_ZONE = ZoneInfo("Asia/Shanghai")
HOUR = timedelta(hours=1)
# Days that a registry, a report or a question may name. Beyond lies a mistyped year, and at the years 1 and 9999 the
# end of the arithmetic: the month before or after a day must exist.
FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2199, 12, 31)


def business_day(at: datetime) -> date:
    """Return the business day of an aware instant; a naive one raises ValueError."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone: attach one before asking for its business day")
    return at.astimezone(BUSINESS_ZONE).date()


def local(at: datetime) -> str:
    """Return an instant as it is shown: ISO 8601 by the city's clocks, +08:00."""
    return at.astimezone(BUSINESS_ZONE).isoformat()


def day_start(day: date) -> datetime:
    """Return the first instant of a business day, in UTC."""
    return datetime.combine(day, time(), BUSINESS_ZONE).astimezone(UTC)


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return the half-open UTC bounds [start, end) of a business day."""
    return day_start(day), day_start(day + timedelta(days=1))


def month_of(day: date) -> date:
    """Return the first day of the month of a day."""
    return day.replace(day=1)


@lru_cache(maxsize=4096)
def next_month(month: date) -> date:
    """Return the first day of the following month."""
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


@lru_cache(maxsize=4096)
def month_bounds(month: date) -> tuple[datetime, datetime]:
    """Return the half-open UTC bounds [start, end) of a business month given by any of its days."""
    first = month_of(month)
    return day_start(first), day_start(next_month(first))


def hour_floor(at: datetime) -> datetime:
    """Return the start of the hour of an aware instant, in UTC (the business zone is a whole number of hours off)."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hour_ceiling(at: datetime) -> datetime:
    """Return the first hour start at or after an aware instant, in UTC."""
    floor = hour_floor(at)
    return floor if floor == at else floor + HOUR


def day_published_at(day: date) -> datetime:
    """Return when the figures of a day are published: noon of the next business day (design, section 6)."""
    return day_start(day + timedelta(days=1)) + timedelta(hours=12)


def month_published_at(month: date) -> datetime:
    """Return when the figures of a month are published: the start of the 5th of the next month."""
    return day_start(next_month(month_of(month)).replace(day=5))
