"""Whatever arrives in whatever order, whoever edits it before or after, whenever a meter's event becomes known.

The usage is the same, by the tables. Messages go through ingest's own ladder, edits and events through their own
intake, and the rollup runs now and then between them.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import Engine, text

from app.db.access import Caller
from app.db.scope import CITY
from app.domain.credit_code import with_check_digit
from app.intake import edits, events
from app.intake.event_entries import AnyEvent
from app.settings import Settings
from ingest.store import Store
from tests.integration import rollup_site as site
from tests.integration.ingest_site import FIRST_AT, arrival, reading

OPERATOR = Caller("li", "operator", CITY)
QUARTER = timedelta(minutes=15)
NUMBERS = itertools.count(500)  # examples share a database
SIGNALS = {"E000": "register", "E001": "register", "I000": "interval"}
QUARTERS = 40
# Registers that no reading contradicts, whichever of them, dips and disputed values included, are there already.
EVENTS = (
    {"kind": "replacement", "point": "E001", "at": FIRST_AT + 20 * QUARTER + timedelta(minutes=5), "serial": "S2",
     "final_register": "175", "initial_register": "60"},
    {"kind": "meter_correction", "point": "E000", "at": FIRST_AT, "multiplier": "80"},
)  # fmt: skip


@dataclass(frozen=True)
class Story:
    """Messages of a gateway, each with its readings, and one edit at most for each instant."""

    messages: tuple[tuple[dict[str, Any], ...], ...]
    edits: tuple[tuple[str, int, float | None], ...]


def story(rng: random.Random) -> Story:
    """Most quarters are sent, some twice or again with a revision, some disputed, some never; some are edited."""
    entries = []
    for point, signal in SIGNALS.items():
        value = 100.0
        for number in range(QUARTERS):
            value = value + rng.choice([0, 0.25, 3]) if signal == "register" else rng.choice([0.0, 1.5, 12])
            kinds = ["sent"] * 12 + ["twice", "dispute", "revision", "missing", "bad", "dip", "lower revision too"]
            entries += _entries(point, number, value, rng.choice(kinds))
    rng.shuffle(entries)
    messages = []
    while entries:
        size = rng.randint(1, 25)
        messages.append(tuple(entries[:size]))
        entries = entries[size:]
    places = rng.sample([(point, n) for point in SIGNALS for n in range(QUARTERS)], rng.randint(0, 12))
    return Story(tuple(messages), tuple((p, n, rng.choice([None, 101.0, 104.5])) for p, n in places))


def _entries(point: str, number: int, value: float, kind: str) -> list[dict[str, Any]]:
    one = {"number": number, "point": point, "value": value}
    more: dict[str, list[dict[str, Any]]] = {
        "sent": [one],
        "twice": [one, one],
        "dispute": [one, one | {"value": value + 1}],
        "revision": [one, one | {"value": value + 2, "rev": 1}],
        "lower revision too": [one, one | {"value": value + 1}, one | {"value": value + 2, "rev": 3}],
        "missing": [],
        "bad": [one | {"quality": "bad"}],
        "dip": [one | {"value": max(value - 20, 0)}],
    }
    return [reading(**entry) for entry in more[kind]]


Action = tuple[str, Any]


def _told(engine: Engine, store: Store, told: Story, rng: random.Random, *, is_rolled_up_between: bool) -> list[Any]:
    """Let a gateway of its own send the messages and people enter the edits, in an order of its own."""
    number = next(NUMBERS)
    gateway = f"gw-{number:03d}"
    with engine.begin() as connection:
        plant = site.add_site(connection, number)
        connection.execute(
            text("UPDATE enterprise SET uscc = :u WHERE id = (SELECT enterprise_id FROM gateway WHERE id = :g)"),
            {"u": with_check_digit(f"91120000MA{number:07d}"), "g": plant.gateway_id},
        )
        points = {code: site.add_point(connection, plant, code, signal=signal) for code, signal in SIGNALS.items()}
    arrivals = [arrival(gateway, seq, list(message)) for seq, message in enumerate(told.messages)]
    actions: list[Action] = [("send", message) for message in arrivals]
    actions += [("send", message) for message in rng.sample(arrivals, len(arrivals) // 3)]  # resent
    actions += [("edit", edit) for edit in told.edits] + [("event", event) for event in EVENTS]
    rng.shuffle(actions)
    while actions:
        batch = list(itertools.takewhile(lambda action: action[0] == "send", actions))[: rng.randint(1, 6)]
        if batch:
            store.commit([message for _, message in batch])
        else:
            batch = actions[:1]
            kind, what = batch[0]
            if kind == "edit":
                _edit(engine, gateway, *what)
            else:
                _event(engine, gateway, what)
        actions = actions[len(batch) :]
        if is_rolled_up_between and rng.random() < 0.3:
            site.roll_up(engine)
    site.roll_up(engine)
    with engine.connect() as connection:
        return [_rows(site.assert_tables_equal_the_pure_rules(connection, points[code])) for code in SIGNALS]


def _edit(engine: Engine, gateway: str, point: str, number: int, value: float | None) -> None:
    entry = edits.EditEntry(
        gateway=gateway, point=point, ts=FIRST_AT + number * QUARTER, value=value, reason="decided on site"
    )
    with engine.begin() as connection:
        edits.enter(connection, OPERATOR, [entry], now=site.NOW)


def _event(engine: Engine, gateway: str, stated: dict[str, Any]) -> None:
    event: Any = TypeAdapter(AnyEvent).validate_python({"gateway": gateway, "reason": "seen on site", **stated})
    settings = Settings(database_url="postgresql://nowhere")  # type: ignore[arg-type]
    with engine.begin() as connection:
        assert events.enter(connection, OPERATOR, event, settings=settings, now=site.NOW).is_new


def _rows(found: site.Recomputed) -> Any:
    return found.hours, found.days, found.months, found.findings


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_order_of_arrivals_edits_and_events_gives_the_same_usage(engine: Engine, store: Store, seed: int) -> None:
    told = story(random.Random(seed))
    first, second = (
        _told(engine, store, told, random.Random(f"{seed}/{n}"), is_rolled_up_between=bool(n)) for n in range(2)
    )
    assert first == second
    assert any(hours for hours, *_ in first)


def test_the_stories_have_all_that_they_are_about() -> None:
    """A property over stories without disputes would prove nothing of them."""
    told = [story(random.Random(seed)) for seed in range(12)]
    entries = [entry for one in told for message in one.messages for entry in message]
    assert {entry.get("rev", 0) for entry in entries} == {0, 1, 3}
    assert {entry.get("quality") for entry in entries} == {None, "bad"}
    assert any(one.edits and any(value is None for _, _, value in one.edits) for one in told)
    kinds = Counter(len(values) for one in told for values in _values(one).values())
    assert kinds[1] > kinds[2] > 0 < kinds[3]


def _values(one: Story) -> dict[tuple[str, str], set[tuple[float, int]]]:
    found: dict[tuple[str, str], set[tuple[float, int]]] = defaultdict(set)
    for entry in itertools.chain(*one.messages):
        found[entry["point"], entry["ts"]].add((entry["value"], entry.get("rev", 0)))
    return found
