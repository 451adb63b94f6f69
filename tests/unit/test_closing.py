"""When a year is closed, to the second."""

from datetime import UTC, date, datetime

import pytest

from app.domain.closing import closed_year_of, instant_in


@pytest.mark.parametrize(
    ("at_zh", "now_zh", "closed"),
    [
        ("2025-12-31T23:59:59", "2026-04-01T00:00:00", 2025),
        ("2025-12-31T23:59:59", "2026-03-31T23:59:59", None),
        ("2026-01-01T00:00:00", "2026-04-01T00:00:00", 2025),
        ("2026-01-01T00:00:01", "2026-04-01T00:00:00", None),
        ("2024-01-01T00:00:00", "2025-03-31T12:00:00", 2023),
        ("2019-06-01T00:00:00", "2026-01-01T00:00:00", 2019),
    ],
)
def test_when_a_year_is_closed(at_zh: str, now_zh: str, closed: int | None) -> None:
    assert closed_year_of(*(datetime.fromisoformat(f"{one}+08:00") for one in (at_zh, now_zh))) == closed


def test_what_begins_on_1_january_belongs_to_the_year_it_begins() -> None:
    now = datetime(2026, 4, 1, tzinfo=UTC)
    assert [closed_year_of(instant_in(day), now) for day in (date(2025, 12, 31), date(2026, 1, 1))] == [2025, None]
