"""Strategies for messages that are JSON and strange: any value in any place."""

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("2026-03-01T00:15:00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "point": st.text(max_size=5) | JSON,
        "ts": st.sampled_from(["2026-03-01T00:15:00+08:00", "2026-03-01 00:15", "x"]) | JSON,
        "value": st.floats() | st.integers() | JSON,
        "quality": st.sampled_from(["good", "bad"]) | JSON,
        "rev": st.integers(-1, 2) | JSON,
    },
)
SERIES = st.fixed_dictionaries(
    {},
    optional={
        "point": st.text(max_size=5),
        "start": st.just("2026-03-01T00:15:00+08:00") | JSON,
        "step_s": st.integers(-1, 2_700_000) | JSON,
        "values": st.lists(st.floats() | st.none() | JSON, max_size=5) | JSON,
    },
)
DOCUMENT = st.fixed_dictionaries(
    {"epoch": st.just("e1") | JSON, "seq": st.integers(0, 9) | JSON},
    optional={
        "readings": st.lists(ITEM | JSON, max_size=6) | JSON,
        "series": st.lists(SERIES | JSON, max_size=3) | JSON,
    },
)
