"""A full grid of hours, business days or months, so that what is missing shows as missing and never shifts a series."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from app.domain.calendar import (
    FIRST_DAY,
    HOUR,
    LAST_DAY,
    business_day,
    day_bounds,
    day_start,
    hour_ceiling,
    month_bounds,
    month_of,
    next_month,
)

_MONTH = re.compile(r"\d{4}-\d{2}")
# How far back a range reaches when its start is not given.
_DEFAULT_DAYS = {"hour": 2, "day": 31, "month": 365}


@dataclass(frozen=True, slots=True)
class Grid:
    """The steps of a grain in [start, end): instants in UTC for hours, business days or first days of months else."""

    grain: str
    start: date | datetime
    end: date | datetime

    def starts(self) -> list[date | datetime]:
        """Return the start of every step."""
        found, at = [], self.start
        while at < self.end:
            found.append(at)
            at = next_start(self.grain, at)
        return found

    def __len__(self) -> int:
        if self.grain == "month":
            return max(0, (self.end.year - self.start.year) * 12 + self.end.month - self.start.month)
        if isinstance(self.start, datetime) and isinstance(self.end, datetime):
            return max(0, (self.end - self.start) // HOUR)
        return max(0, self.end.toordinal() - self.start.toordinal())


def grid(grain: str, start: str | None, end: str | None, now: datetime) -> Grid:
    """Return the grid between two written bounds, the end excluded; ValueError says which bound is wrong.

    Bounds: a day `2026-10-01` for every grain (the start of that business day), `2026-10` for months, an instant with
    its zone on the full hour for hours. Without an end, the grid reaches through the present step.
    """
    last = _bound(grain, end, "to") if end else _default_end(grain, now)
    first = _bound(grain, start, "from") if start else _back(grain, last)
    if first >= last:
        raise ValueError(f"from ({start or first}) must lie before to ({end or last}), which is excluded")
    return Grid(grain, first, last)


def period(written: str) -> tuple[str, date | datetime]:
    """Return (grain, start) of one step by how it is written; ValueError says what is wrong with it.

    `2026-10` is a month, `2026-10-01` a business day, `2026-10-01T08:00:00+08:00` an hour.
    """
    if _MONTH.fullmatch(written):
        return "month", _bound("month", written, "period")
    grain = "day" if len(written) == len("2026-10-01") else "hour"
    return grain, _bound(grain, written, "period")


def period_bounds(grain: str, start: date | datetime) -> tuple[datetime, datetime]:
    """Return the half-open UTC bounds of one step."""
    if isinstance(start, datetime):
        return start, start + HOUR
    return day_bounds(start) if grain == "day" else month_bounds(start)


def next_start(grain: str, at: date | datetime) -> date | datetime:
    """Return the start of the step after the one that starts at an instant or day."""
    if grain == "month":
        return next_month(at)
    return at + (HOUR if grain == "hour" else timedelta(days=1))


def _default_end(grain: str, now: datetime) -> date | datetime:
    if grain == "hour":
        return hour_ceiling(now)
    today = business_day(now)
    return next_month(today) if grain == "month" else today + timedelta(days=1)


def _back(grain: str, end: date | datetime) -> date | datetime:
    back = end - timedelta(days=_DEFAULT_DAYS[grain])
    return month_of(back) if grain == "month" else back


def _bound(grain: str, written: str, name: str) -> date | datetime:
    try:
        if _MONTH.fullmatch(written):
            day = date.fromisoformat(f"{written}-01")
        elif len(written) == len("2026-10-01"):
            day = date.fromisoformat(written)
        else:
            return _instant(grain, datetime.fromisoformat(written), name)
        _check_year(day)
    except ValueError as error:
        raise ValueError(f"{name} is {written!r}: write a day such as 2026-10-01 ({error})") from None
    if grain == "hour":
        return day_start(day)
    if grain == "month" and day != month_of(day):
        raise ValueError(f"{name} is {written}: a month starts on its first day, write {written[:7]}")
    return day


def _check_year(day: date) -> None:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"the year must be {FIRST_DAY.year} to {LAST_DAY.year}")


def _instant(grain: str, at: datetime, name: str) -> datetime:
    if grain != "hour":
        raise ValueError(f"an instant is for hours only, a {grain} is written as its day")
    if at.tzinfo is None:
        raise ValueError("an instant needs its zone, such as +08:00 (in an address the + is written %2B)")
    _check_year(at.date())
    if hour_ceiling(at) != at:
        raise ValueError("an instant must be on the full hour")
    return at.astimezone(UTC)
