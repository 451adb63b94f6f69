"""When a missing message is a gap, and what is left of a gap when part of it is settled."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.sequence import LAST_PAUSE, WINDOW, Range, beginning, look_through, pause_after, ranges, without

NOW = datetime(2026, 11, 24, tzinfo=UTC)
OLD, FRESH = NOW - timedelta(minutes=10), NOW - timedelta(seconds=10)


def test_a_stream_begins_at_its_first_number_or_where_it_was_taken_over() -> None:
    begins = {lowest: beginning(lowest) for lowest in (0, 1, 2, 64, 65, 66, 5000)}
    assert begins == {0: -1, 1: 0, 2: -1, 64: -1, 65: -1, 66: 65, 5000: 4999}


def test_a_hole_in_the_window_may_still_come() -> None:
    look = look_through(4, [(5, FRESH), (8, FRESH)], NOW)
    assert (look.gaps, look.complete_through) == ((), 5)


def test_a_hole_behind_the_window_is_a_gap() -> None:
    received = [(5, FRESH), *((seq, FRESH) for seq in range(8, 8 + WINDOW))]
    look = look_through(4, received, NOW)
    assert (look.gaps, look.complete_through) == ((Range(6, 7),), 7 + WINDOW)


def test_a_hole_that_outlasts_the_gateways_patience_is_a_gap() -> None:
    look = look_through(4, [(5, OLD), (8, OLD), (10, FRESH)], NOW)
    assert (look.gaps, look.complete_through) == ((Range(6, 7),), 8)


def test_nothing_new_settles_nothing() -> None:
    assert look_through(4, [], NOW).complete_through == 4


def test_pauses_double_up_to_a_day() -> None:
    minutes = [pause_after(count) / timedelta(minutes=1) for count in (1, 2, 3, 4)]
    assert minutes == [1, 2, 4, 8]
    assert pause_after(1000) == LAST_PAUSE


@given(st.sets(st.integers(0, 200)), st.sets(st.integers(0, 200)))
def test_every_number_is_received_missing_or_not_settled(missing: set[int], taken: set[int]) -> None:
    received = [(seq, OLD) for seq in range(201) if seq not in missing]
    look = look_through(-1, received, NOW)
    covered = {seq for gap in look.gaps for seq in range(gap.first, gap.last + 1)}
    assert covered == {seq for seq in missing if seq <= look.complete_through}
    for gap in look.gaps:
        left = without(gap, ranges(taken))
        rest = {seq for part in left for seq in range(part.first, part.last + 1)}
        assert rest == set(range(gap.first, gap.last + 1)) - taken
        assert sum(len(part) for part in left) == len(rest)
