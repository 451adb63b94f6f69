"""Batches by size and age; live goes first, and the backlog still moves."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.batching import (
    BACKFILL_ALONE_S,
    BACKFILL_TURN_S,
    LEAST_BACKFILL_BYTES,
    LIVE_BATCHES_BEFORE_BACKFILL,
    BackfillPace,
    Batcher,
)


def batcher(**limits: float) -> Batcher[str]:
    defaults = {"max_items": 3, "max_bytes": 100, "max_age_s": 1.0}
    return Batcher(**(defaults | limits))  # type: ignore[arg-type]


def test_a_batch_is_due_by_count_by_bytes_or_by_age() -> None:
    held = batcher()
    assert held.due_in_s(0.0) is None
    held.add("a", 10, 0.0, is_live=True)
    held.add("b", 10, 0.5, is_live=True)
    assert held.take(0.9) == []
    assert held.due_in_s(0.75) == 0.25
    assert held.take(1.0) == ["a", "b"]
    for name in "cdef":
        held.add(name, 10, 2.0, is_live=True)
    assert held.is_full(is_live=True)
    assert held.take(2.0) == ["c", "d", "e"]
    held.add("g", 100, 2.0, is_live=True)
    assert held.take(2.0) == ["f", "g"]
    assert len(held) == 0


def test_live_goes_before_backfill_but_not_for_ever() -> None:
    held = batcher(max_items=1)
    for number in range(100):
        held.add(f"b{number}", 1, 0.0, is_live=False)
        held.add(f"l{number}", 1, 0.0, is_live=True)
    taken = [held.take(0.0)[0] for _ in range(LIVE_BATCHES_BEFORE_BACKFILL + 2)]
    assert [name for name in taken if name.startswith("b")] == ["b0"]
    assert taken[LIVE_BATCHES_BEFORE_BACKFILL] == "b0"


def test_live_and_backfill_take_turns_while_both_wait() -> None:
    held = batcher(max_items=2)
    for number in range(4):
        held.add(f"b{number}", 1, 0.0, is_live=False)
    held.add("l0", 1, 0.0, is_live=True)
    assert held.take(0.0) == ["l0"]  # not due yet, but it would have to wait for a backfill batch
    held.add("l1", 1, 0.0, is_live=True)
    assert held.take(0.0) == ["b0", "b1"]
    assert held.take(0.0) == ["l1"]
    held.add("l2", 1, 0.0, is_live=True)
    assert held.take(1.0) == ["l2"]  # it is due: it goes first again
    assert held.take(1.0) == ["b2", "b3"]


def test_a_limit_makes_backfill_batches_smaller_and_no_others() -> None:
    held = batcher(max_items=9)
    held.limit_backfill(20)
    for name in "abcd":
        held.add(name, 10, 0.0, is_live=False)
        held.add(name.upper(), 10, 0.0, is_live=True)
    assert held.is_full(is_live=False)
    assert not held.is_full(is_live=True)
    assert [held.take(0.0) for _ in range(3)] == [["A", "B", "C", "D"], ["a", "b"], ["c", "d"]]
    held.limit_backfill(1000)  # never more than any other batch
    for _ in range(3):
        held.add("x", 50, 0.0, is_live=False)
    assert held.take(0.0) == ["x", "x"]


def test_the_pace_finds_the_batch_that_fills_its_turn() -> None:
    pace = BackfillPace()
    pace.note_live(10.0)
    for _ in range(100):
        size = pace.batch_bytes(10.0)
        pace.note_backfill(size, 0.003 + size / 2e6)  # a commit costs 3 ms and half a microsecond a byte
    seconds = 0.003 + pace.batch_bytes(10.0) / 2e6
    assert 0.95 * BACKFILL_TURN_S < seconds < 1.05 * BACKFILL_TURN_S
    rate = pace.batch_bytes(10.0) / BACKFILL_TURN_S
    assert abs(pace.batch_bytes(20.0) - rate * BACKFILL_ALONE_S) < 10  # no live message for a while


def test_the_backlog_moves_however_slow_a_commit_is() -> None:
    pace = BackfillPace()
    pace.note_live(0.0)
    for _ in range(50):
        pace.note_backfill(pace.batch_bytes(0.0), 30.0)
    assert pace.batch_bytes(0.0) == LEAST_BACKFILL_BYTES


def test_draining_takes_everything_at_once() -> None:
    held = batcher()
    held.add("b", 1, 0.0, is_live=False)
    held.add("l", 1, 0.0, is_live=True)
    assert held.take(0.0) == []
    assert [held.take(0.0, is_draining=True) for _ in range(3)] == [["l"], ["b"], []]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 80)), max_size=40))
def test_every_item_comes_out_once_in_order_and_batches_are_bounded(items: list[tuple[bool, int]]) -> None:
    held: Batcher[tuple[int, int, bool]] = Batcher(max_items=4, max_bytes=100, max_age_s=1.0)
    for number, (is_live, size) in enumerate(items):
        held.add((number, size, is_live), size, 0.0, is_live=is_live)
    out = []
    while batch := held.take(5.0):
        assert len(batch) <= 4
        assert sum(size for _, size, _ in batch[:-1]) < 100
        assert len({is_live for *_, is_live in batch}) == 1
        out += batch
    for lane in (True, False):
        numbers = [number for number, _, is_live in out if is_live is lane]
        assert numbers == [number for number, (is_live, _) in enumerate(items) if is_live is lane]
