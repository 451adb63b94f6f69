"""One step by how it is written: a month, a business day, an hour."""

from datetime import UTC, date, datetime, timedelta

import pytest

from app.domain import grid

SIXTEEN = datetime(2026, 9, 30, 16, tzinfo=UTC)
BAD = ["2026-13", "2026-02-30", "yesterday", "2026-10-01T08:00:00", "2026-10-01T08:30+08:00"]


@pytest.mark.parametrize(
    ("written", "grain", "start", "following"),
    [
        ("2026-10", "month", date(2026, 10, 1), date(2026, 11, 1)),
        ("2026-12", "month", date(2026, 12, 1), date(2027, 1, 1)),
        ("2026-10-31", "day", date(2026, 10, 31), date(2026, 11, 1)),
        ("2026-10-01T00:00:00+08:00", "hour", SIXTEEN, SIXTEEN + timedelta(hours=1)),
    ],
)
def test_a_period_says_its_grain(written: str, grain: str, start: date, following: date) -> None:
    assert grid.period(written) == (grain, start)
    assert grid.next_start(grain, start) == following
    from_at, to_at = grid.period_bounds(grain, start)
    assert from_at < to_at
    assert grid.period_bounds(grain, following)[0] == to_at


@pytest.mark.parametrize("written", BAD)
def test_what_is_no_period_is_named(written: str) -> None:
    with pytest.raises(ValueError, match=r"zone|full hour|period is"):
        grid.period(written)
