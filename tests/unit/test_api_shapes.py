"""Grids, cursors, languages, CSV cells and buckets of the API, without a server."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.access import RateLimit
from app.api.csv_export import csv_response, guarded
from app.api.middleware import with_signs
from app.api.shapes import decode_cursor, encode_cursor
from app.domain.grid import Grid, grid
from app.domain.language import preferred_language
from app.errors import Invalid
from app.web.drawings import bars, marker_x
from app.web.words import WORDS, number, percent

NOW = datetime(2026, 10, 15, 4, 30, tzinfo=UTC)


def test_days_and_months_are_half_open_and_full() -> None:
    days = grid("day", "2026-02-27", "2026-03-02", NOW)
    assert days.starts() == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]
    assert grid("month", "2025-11", "2026-02", NOW).starts() == [
        date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1),
    ]  # fmt: skip


def test_a_day_bound_for_hours_is_the_start_of_the_business_day() -> None:
    hours = grid("hour", "2026-10-01", "2026-10-01T02:00:00+08:00", NOW).starts()
    assert hours == [datetime(2026, 9, 30, 16, tzinfo=UTC), datetime(2026, 9, 30, 17, tzinfo=UTC)]


def test_without_an_end_the_grid_reaches_through_the_present_step() -> None:
    assert grid("hour", None, None, NOW).starts()[-1] == datetime(2026, 10, 15, 4, tzinfo=UTC)
    assert grid("day", None, None, NOW).starts()[-1] == date(2026, 10, 15)
    assert grid("month", None, None, NOW).starts()[-1] == date(2026, 10, 1)


@pytest.mark.parametrize(
    ("grain", "start", "end"),
    [
        ("day", "2026-10-02", "2026-10-02"),
        ("day", "yesterday", None),
        ("day", "2026-10-01T00:00:00+08:00", None),
        ("hour", "2026-10-01T00:00:00", None),
        ("hour", "2026-10-01T00:30:00+08:00", None),
        ("month", "2026-10-02", None),
        ("month", "2026-13", None),
    ],
)
def test_bounds_that_cannot_be_meant_are_refused(grain: str, start: str, end: str | None) -> None:
    with pytest.raises(ValueError, match="from"):
        grid(grain, start, end, NOW)


@given(st.sampled_from(["hour", "day", "month"]), st.integers(0, 400), st.integers(1, 400))
def test_length_is_the_number_of_steps(grain: str, first: int, length: int) -> None:
    origin = date(2024, 1, 1)
    start = origin + timedelta(days=first)
    end = start + timedelta(days=length)
    if grain == "month":
        asked = Grid(grain, start.replace(day=1), (end + timedelta(days=31)).replace(day=1))
    elif grain == "hour":
        asked = grid(grain, start.isoformat(), end.isoformat(), NOW)
    else:
        asked = Grid(grain, start, end)
    assert len(asked) == len(asked.starts())


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh"), ("", "zh"), ("en", "en"), ("en-GB,zh;q=0.8", "en"), ("fr, en;q=0.3", "en"), ("fr", "zh"),
        ("en;q=0.2, zh-CN;q=0.9", "zh"), ("zh;q=x, en;q=0.9", "zh"), ("en;q=0", "zh"),
    ],
)  # fmt: skip
def test_language(header: str | None, language: str) -> None:
    assert preferred_language(header) == language


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-cmd|x", "@SUM(A1)", "\tx", "--1"])
def test_cells_that_would_run_are_guarded(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


@pytest.mark.parametrize(
    ("cell", "written"), [("-12.5", "-12.5"), ("+3", "+3"), (None, ""), ("水泥", "水泥"), (0, "0")]
)
def test_other_cells_stay(cell: object, written: str) -> None:
    assert guarded(cell) == written


def test_an_instant_of_a_table_is_in_business_time_as_in_json() -> None:
    assert guarded(datetime(2026, 10, 31, 16, 0, 1, tzinfo=UTC)) == "2026-11-01T00:00:01+08:00"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (b"as_of=2026-11-01T00:00:00+08:00&x=1", b"as_of=2026-11-01T00:00:00%2B08:00&x=1"),
        (b"x=1&as_of=2026-11-01T00%3A00%3A00.5+08%3A00", b"x=1&as_of=2026-11-01T00%3A00%3A00.5%2B08%3A00"),
        (b"from=2026-11-01T00:00+08:00&to=2026-12-01+08", b"from=2026-11-01T00:00%2B08:00&to=2026-12-01+08"),
        *((same, same) for same in (b"", b"search=a+b", b"as_of=2026-11-01T00:00:00Z", b"as_of=2026-11-01+08:00")),
    ],
)  # fmt: skip
def test_an_instant_in_a_query_keeps_the_sign_of_its_zone(typed: bytes, meant: bytes) -> None:
    assert with_signs(typed) == meant


def test_csv_for_excel_starts_with_a_byte_order_mark() -> None:
    body = csv_response("x", ["名称"], [["=1"]], is_for_excel=True).body
    assert bytes(body) == "\ufeff名称\r\n'=1\r\n".encode()
    assert bytes(csv_response("x", ["a"], [], is_for_excel=False).body) == b"a\r\n"


def test_cursors_come_back_and_others_are_refused() -> None:
    assert decode_cursor(encode_cursor({"id": 41})) == 41
    assert decode_cursor(None) is None
    for cursor in ("x", "!!!!", encode_cursor({"id": -1}), encode_cursor({"no": 1}), encode_cursor({"id": "1"}), "W10"):
        with pytest.raises(Invalid):
            decode_cursor(cursor)


def test_a_bucket_empties_and_fills_again() -> None:
    limit = RateLimit(burst=2, per_s=1.0)
    assert [limit.take(1, at_s=0.0) for _ in range(3)] == [1.0, 0.0, -1.0]
    assert limit.take(2, at_s=0.0) == 1.0
    assert limit.take(1, at_s=1.0) == 0.0
    assert limit.take(1, at_s=100.0) == 1.0


def test_bars_keep_gaps_apart_from_zero() -> None:
    days = [date(2026, 10, 1), date(2026, 10, 2), date(2026, 10, 3)]
    drawn = bars(days, {days[0]: "2000", days[2]: "0"})
    assert [bar.value_tce for bar in drawn] == [2, None, 0]
    assert drawn[0].height > 0 == drawn[1].height == drawn[2].height


def test_the_marker_stands_on_the_levels_and_is_cut_at_the_ends() -> None:
    assert [marker_x(p) for p in ("1", "0", "0.5", "-9", "9", None)] == [80.0, 40.0, 60.0, 3.0, 117.0, None]


def test_numbers_are_rounded_half_to_even_for_showing() -> None:
    assert (number("1968.225"), number("-0.005"), number(None), percent("0.99873")) == (
        "1,968.22",
        "0.00",
        "—",
        "99.87 %",
    )


def test_both_languages_have_the_same_words() -> None:
    assert WORDS["zh"].keys() == WORDS["en"].keys()
