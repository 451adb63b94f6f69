"""The set of entries of an instant, and what counts, do not depend on the order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.reception import CHANGES_VALUE, STORED, Entry, Reception, classify, counting

ENTRIES = st.builds(Entry, st.integers(0, 3), st.sampled_from([1.0, 2.0, 3.0]), st.integers(0, 1))


def receive(arriving: list[Entry]) -> tuple[set[Entry], Entry | None, list[Reception]]:
    known: set[Entry] = set()
    receptions = []
    for entry in arriving:
        receptions.append(classify(entry, known))
        if receptions[-1] in STORED:
            known.add(entry)
    return known, counting(known), receptions


@given(st.lists(ENTRIES, max_size=8).flatmap(lambda entries: st.tuples(st.just(entries), st.permutations(entries))))
def test_any_order_of_arrival_gives_the_same(orders: tuple[list[Entry], list[Entry]]) -> None:
    one, other = (receive(order) for order in orders)
    assert one[:2] == other[:2]
    assert one[0] == set(orders[0])


@given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_only_what_changes_the_value_is_called_so(arriving: list[Entry]) -> None:
    for count in range(1, len(arriving) + 1):
        _, before, _ = receive(arriving[: count - 1])
        _, after, receptions = receive(arriving[:count])
        if before != after:
            assert receptions[-1] in CHANGES_VALUE


def test_each_reception_by_example() -> None:
    known = [Entry(0, 10.0, 0), Entry(2, 12.0, 0)]
    assert classify(Entry(0, 10.0, 0), []) is Reception.FIRST
    assert classify(Entry(0, 10.0, 0), known) is Reception.DUPLICATE
    assert classify(Entry(0, 11.0, 0), known) is Reception.SUPERSEDED
    assert classify(Entry(1, 11.0, 0), known) is Reception.SUPERSEDED
    assert classify(Entry(2, 12.0, 1), known) is Reception.DISPUTED  # another quality is another report
    assert classify(Entry(3, 12.0, 0), known) is Reception.REVISION
    assert counting([]) is None
    assert counting(known) == Entry(2, 12.0, 0)
    assert counting([*known, Entry(2, 13.0, 0)]) is None
    assert counting([*known, Entry(2, 13.0, 0), Entry(1_000_000, None, 0)]) == Entry(1_000_000, None, 0)
