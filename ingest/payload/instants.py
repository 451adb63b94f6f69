"""Timestamps of the wire, as microseconds since 1970 UTC."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


@lru_cache(maxsize=4096)
def instant_us(text: str, zone: tzinfo) -> int:
    """Return a timestamp as microseconds since 1970 UTC; ValueError where it is none.

    Accepted: `YYYY-MM-DDTHH:MM[:SS[.fraction]]` with `Z`, an offset, or nothing (local in `zone`); a blank may stand
    for the T, digits beyond the microsecond are cut. A local time that its zone skips or has twice is refused.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no timestamp")
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
        if at.utcoffset() != at.replace(fold=1).utcoffset():
            raise ValueError(f"{text!r} is skipped or occurs twice in {zone}: send an offset")
    since = at - _UNIX_EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def instant_at(ts_us: int | None) -> datetime | None:
    """Return microseconds since 1970 as a datetime, None where the calendar of Python ends."""
    try:
        return None if ts_us is None else _UNIX_EPOCH + timedelta(microseconds=ts_us)
    except OverflowError:
        return None


def instant(text: object, zone: tzinfo) -> datetime | None:
    """Return an optional timestamp of a message's envelope; a bad one is as good as none and costs no reading."""
    try:
        return instant_at(instant_us(text, zone)) if isinstance(text, str) else None
    except ValueError:
        return None
