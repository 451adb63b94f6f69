"""The tables equal a full recomputation by the pure rules, whatever arrives, in whatever order and batches."""

import itertools
import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from app.db import usage
from app.domain.calendar import hour_floor
from app.domain.metering import Signal
from tests.integration import rollup_site as site

START = datetime(2026, 3, 30, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECONDS = {"even": 900, "odd": 1234, "slow": 9000, "fast": 240}
FAULTS = ["zero", "flip", "spike", "dip", "jitter", "bad", "gap", "reset", "unsure"]
Row = tuple[datetime, float, int]
NUMBERS = itertools.count(100)  # examples share a database


def history(rng: random.Random, *, pace: str, length: int, faults: int) -> list[Row]:
    """Registers of a meter for some days, with standstills, gaps and faults at random places."""
    value, rows, at = rng.choice([0.0, 5000.25, 99_500.0]), [], START
    wrong = {rng.randrange(length): rng.choice(FAULTS)
             for _ in range(faults)}  # fmt: skip
    still = range(*sorted(rng.sample(range(length + 1), 2))) if rng.random() < 0.4 else range(0)
    for i in range(length):
        if i not in still:
            value = round((value + rng.choice([0, 0.25, 3.5, 41.75, 60])) % 100_000, 2)
        fault = wrong.get(i)
        value = 0.0 if fault == "reset" else value
        shown = {"zero": 0.0, "flip": value * 1000, "spike": value + 9000, "dip": value - 5}.get(str(fault), value)
        shown = value - 0.25 if fault == "jitter" else shown
        quality = {"bad": 2, "unsure": 1}.get(str(fault), 0)
        rows.append((at, shown, quality))
        at += timedelta(seconds=SECONDS[pace] * (rng.randrange(2, 120) if fault == "gap" else 1))
    return rows


METERS: list[list[dict[str, Any]]] = [
    [{}],
    [{"rated_load": 300, "multiplier": "1.2", "digits": 5}],
    [{"digits": 5, "initial_register": 4900, "from_at": START - timedelta(hours=30)}],
    [
        {"to_at": START + timedelta(hours=50, minutes=7), "final_register": 9100, "rated_load": 400},
        {"from_at": START + timedelta(hours=50, minutes=7), "initial_register": 12, "multiplier": 80},
    ],
]  # fmt: skip


def add_override(connection: Connection, rng: random.Random, point_id: int, row: Row) -> None:
    """Dispute a reading, let its gateway correct it, or edit it away."""
    at, value, quality = row
    kind = rng.choice(["dispute", "revision", "edit", "withdrawn"])
    more: dict[str, list[tuple[int, float | None, int, str]]] = {
        "dispute": [(0, value + 1, quality, "gateway")],
        "revision": [(1, value + 0.5, 0, "gateway")],
        "edit": [(1_000_000, value + 0.25, 0, "edit")],
        "withdrawn": [(1_000_000, None, 0, "edit")],
    }
    for rank, entry, entry_quality, origin in [(0, value, quality, "gateway"), *more[kind]]:
        connection.execute(
            text(
                "INSERT INTO reading_override (point_id, ts, rank, value, quality, origin)"
                " VALUES (:p, :ts, :rank, :v, :q, :o) ON CONFLICT DO NOTHING"
            ),
            {"p": point_id, "ts": at, "rank": rank, "v": entry, "q": entry_quality, "o": origin},
        )


def reassign(connection: Connection, rng: random.Random, point_id: int) -> None:
    """Let another assignment begin at some minute, which expects readings at another pace."""
    at = START + timedelta(minutes=rng.randrange(6000))
    values = {"p": point_id, "at": at, "s": rng.choice([240, 900, 1800, 7200])}
    connection.execute(text("UPDATE point_assignment SET to_at = :at WHERE point_id = :p"), values)
    connection.execute(
        text(
            "INSERT INTO point_assignment (point_id, from_at, process_unit_id, flow, expected_interval_s)"
            " SELECT point_id, :at, process_unit_id, flow, :s FROM point_assignment WHERE point_id = :p"
        ),
        values,
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), faults=st.sampled_from([0, 0, 1, 3, 12]), arrivals=st.integers(1, 4))
def test_any_order_and_batching_with_faults(engine: Engine, seed: int, faults: int, arrivals: int) -> None:
    rng = random.Random(seed)
    with engine.begin() as connection:
        plant = site.add_site(connection, next(NUMBERS))
        connection.execute(text("DELETE FROM stale"))
        points = {}
        for number, facts in enumerate(METERS):
            unit = rng.choice(["kWh", "Wh"])
            interval_s = rng.choice([900, 900, 1234, 7200, 240, None])
            points[site.add_point(connection, plant, f"E{number}", unit=unit, installations=facts,
                                  interval_s=interval_s)] = history(
                rng, pace=rng.choice(list(SECONDS)), length=rng.randrange(1, 420), faults=faults)  # fmt: skip
        for code, signal, unit, pace, interval_s in (
            ("I1", "interval", "kWh", "even", 900),
            ("I2", "interval", "Wh", rng.choice(list(SECONDS)), rng.choice([240, 900, 1234, 1800, 7200, None])),
            ("G1", "gauge", "kW", "even", 900),
        ):
            meter: dict[str, Any] = rng.choice([{}, {"rated_load": 300, "multiplier": "1.2"}])
            point_id = site.add_point(connection, plant, code, signal=signal, unit=unit, installations=[meter],
                                      interval_s=interval_s)  # fmt: skip
            points[point_id] = [(at, v % 100, q) for at, v, q in history(rng, pace=pace, length=90, faults=faults)]
        for point_id in rng.sample(list(points), 2):
            reassign(connection, rng, point_id)
    arriving = [(point_id, row) for point_id, rows in points.items() for row in rows]
    if rng.random() < 0.7:
        rng.shuffle(arriving)
    for part in range(arrivals):
        batch = arriving[part * len(arriving) // arrivals : (part + 1) * len(arriving) // arrivals]
        with engine.begin() as connection:
            for point_id in points:
                site.insert_readings(connection, point_id, [row for p, row in batch if p == point_id])
            for point_id, row in rng.sample(batch, min(len(batch), faults)):
                add_override(connection, rng, point_id, row)
            hours = {hour_floor(at) for _, (at, _, _) in batch}
            site.mark(connection, plant, *[(hour, hour + HOUR) for hour in hours])
        site.roll_up(engine)
        with engine.connect() as connection:
            for point_id in points:
                site.assert_tables_equal_the_pure_rules(connection, point_id)


REGISTERS = [("register", pace) for pace in SECONDS]


@pytest.mark.parametrize(("signal", "pace"), [*REGISTERS, ("interval", "even")])
@pytest.mark.parametrize("facts", [{}, {"rated_load": 300, "multiplier": "1.2"}], ids=["unrated", "rated"])
def test_clean_stretches_take_the_set_based_road_to_the_same_rows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, signal: str, pace: str, facts: dict[str, Any]
) -> None:
    """Both roads over the same readings; the exact judgement is forced by hiding the clean result."""
    rows = [(at, value, 0) for at, value, _ in history(random.Random(7), pace=pace, length=900, faults=0)]
    rows = [(at, 5000 + 7.35 * i if signal == "register" else 7.35 + i % 60, 0) for i, (at, _, _) in enumerate(rows)]
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001", signal=signal, installations=[facts])
        site.insert_readings(connection, point_id, rows)
    clean, judged = [], []
    write_clean = usage.write_clean

    def counting(connection: Connection, signal: Signal, blocks: list[usage.Block]) -> usage.CleanResult:
        result = write_clean(connection, signal, blocks)
        clean.append(len(result.clean))
        judged.append(len(blocks) - len(result.clean))
        return result

    monkeypatch.setattr(usage, "write_clean", counting)
    with engine.begin() as connection:
        site.mark(connection, plant, (START, rows[-1][0] + HOUR))
    site.roll_up(engine)
    with engine.connect() as connection:
        set_based = site.assert_tables_equal_the_pure_rules(connection, point_id)
    assert (sum(judged), sum(clean) > 0) == (0, True)
    monkeypatch.setattr(usage, "write_clean", lambda *_: usage.CleanResult(frozenset(), ()))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM usage_hour"))
        site.mark(connection, plant, (START, rows[-1][0] + HOUR))
    site.roll_up(engine)
    with engine.connect() as connection:
        assert site.assert_tables_equal_the_pure_rules(connection, point_id).hours == set_based.hours


def doubles(rng: random.Random, least: float, most: float, count: int) -> list[float]:
    """Doubles in order, of none to ten decimals, halves of a millionth, and the neighbours of such numbers."""
    found = []
    for _ in range(count):
        value = round(rng.uniform(least, most), rng.randrange(11))
        value = rng.choice([value, value, round(value, 6) + 0.0000005])
        found.append(rng.choice([value, value, math.nextafter(value, math.inf), math.nextafter(value, 0)]))
    return sorted(found)


@pytest.mark.parametrize("facts", [{}, {"multiplier": "1.2"}, {"multiplier": "0.0375"}], ids=["1", "1.2", "0.0375"])
@pytest.mark.parametrize(
    ("signal", "least", "most"),
    [("register", 0.5, 4), ("register", 4000, 30_000), ("register", 9e8, 2e9), ("interval", 0, 9)],
)
def test_a_double_of_any_digits_is_the_same_number_on_both_roads(
    engine: Engine, signal: str, least: float, most: float, facts: dict[str, Any]
) -> None:
    """The set-based road makes most doubles exact numbers by way of millionths, which must not be seen."""
    values = doubles(random.Random(11), least, most, 2000)
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001", signal=signal, installations=[facts])
        rows = [(START + timedelta(minutes=15 * i), value, 0) for i, value in enumerate(values)]
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, (START, rows[-1][0] + HOUR))
    site.roll_up(engine)
    with engine.connect() as connection:
        assert site.assert_tables_equal_the_pure_rules(connection, point_id).findings == set()
