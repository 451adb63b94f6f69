"""Parts of messages for quarantine: nothing is lost, nothing comes twice, nothing becomes another thing."""

import json
import random
from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from ingest import payload
from ingest.payload import Message
from tests.unit.strange_messages import ITEM, JSON, SERIES

SHANGHAI = ZoneInfo("Asia/Shanghai")
START = "2026-03-01T00:15:00+08:00"
TWICE = (
    '{"epoch": "e", "seq": 1, "readings": [{"point": "é\\ud800", "ts": 1, "ts": {"a": 1, "a": 2}}, [{"b": 0, "b": 0}]]}'
)


def found(raw: bytes) -> Counter[Any]:
    """What a message comes to, but for the places of its items."""
    message = payload.decode(raw, SHANGHAI)
    assert isinstance(message, Message)
    return Counter([repr(one[:5]) for one in message.readings]) + Counter(
        [(fault.reason, fault.detail, fault.point_code, fault.ts_us) for fault in message.faults]
    )


READABLE = st.fixed_dictionaries(
    {
        "epoch": st.just("e1"),
        "seq": st.just(1),
        "readings": st.lists(ITEM | JSON, max_size=6),
        "series": st.lists(SERIES | JSON, max_size=3),
    }
)


@given(READABLE.map(json.dumps), st.randoms(use_true_random=False), st.integers(1, 4))
@example(TWICE, random.Random(1), 2)
def test_the_parts_are_together_what_the_message_was(text: str, chance: random.Random, count: int) -> None:
    raw = text.encode()
    message = payload.decode(raw, SHANGHAI)
    assert isinstance(message, Message)
    indexes = [one[5] for one in message.readings] + [one.index for one in message.faults if one.index is not None]
    groups: list[list[int]] = [[] for _ in range(count)]
    for index in indexes:
        chance.choice(groups).append(index)
    parts = payload.excerpts(raw, [group for group in groups if group], SHANGHAI)
    assert sum((found(part) for part in parts), Counter[Any]()) == found(raw)


def test_a_part_of_a_series_is_that_series_without_the_rest() -> None:
    series = {
        "point": "E1",
        "start": START,
        "step_s": 900,
        "values": [1.5, None, "x", 4, 5],
        "rev": 2,
        "note": "n" * 99,
    }
    item = {"point": "E0", "ts": START, "value": 7, "note": "kept"}
    raw = json.dumps({"epoch": "e1", "seq": 9, "readings": [item], "series": [series, {"point": "E2"}]}).encode()
    parts = payload.excerpts(raw, [[0, 4], [3], [6], [1, 5]], SHANGHAI)
    head, of_series = {"epoch": "e1", "seq": 9}, {"point": "E1", "start": START, "step_s": 900, "rev": 2}
    assert [json.loads(part) for part in parts] == [
        {**head, "readings": [item], "series": [{**of_series, "values": [None, None, None, 4]}]},
        {**head, "series": [{**of_series, "values": [None, None, "x"]}]},
        {**head, "series": [{"point": "E2"}]},
        {**head, "series": [{**of_series, "values": [1.5, None, None, None, 5]}]},
    ]


def test_text_takes_no_more_bytes_than_it_had() -> None:
    items = [{"point": "测点é\U0001f600" * 9, "ts": START, "value": 1.5} for _ in range(500)]
    document = {"epoch": "e1", "seq": 1, "readings": items}
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    assert payload.excerpts(raw, [range(500)], SHANGHAI) == [raw]
