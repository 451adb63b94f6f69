"""The rollup as a stage: events entered late, disputes, marks handed on, and readings committed in between."""

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.db import metering as stored
from app.db import stale
from app.pipeline import rollup
from tests.integration import rollup_site as site

D = Decimal
START = datetime(2026, 10, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)


def registers(
    count: int, *, first: float = 1000, rise: float = 5, start: datetime = START
) -> list[tuple[datetime, float, int]]:
    return [(start + i * QUARTER, first + rise * i, 0) for i in range(count)]


def span(rows: list[tuple[datetime, float, int]]) -> tuple[datetime, datetime]:
    return rows[0][0].replace(minute=0), rows[-1][0].replace(minute=0) + HOUR


@pytest.fixture
def plant(engine: Engine) -> site.Site:
    with engine.begin() as connection:
        return site.add_site(connection)


def deliver(engine: Engine, plant: site.Site, point_id: int, rows: list[tuple[datetime, float, int]]) -> None:
    with engine.begin() as connection:
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, span(rows))
    site.roll_up(engine)


def marks(engine: Engine, stage: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT subject_id, from_at, to_at FROM stale WHERE stage = :s ORDER BY 1, 2"), {"s": stage}
        )
        return [tuple(row) for row in rows]


def quantity(engine: Engine, point_id: int) -> Decimal:
    with engine.connect() as connection:
        site.assert_tables_equal_the_pure_rules(connection, point_id)
        return sum((row[0] for row in site.table(connection, "usage_month", point_id).values()), D(0))


def test_idle_stage_does_nothing(engine: Engine) -> None:
    assert rollup.run(engine, site.NOW) == 0


def test_mark_of_a_gateway_without_points_or_readings_is_worked_off(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        site.mark(connection, plant, (START, START + HOUR))
    assert rollup.run(engine, site.NOW) == 1
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
        site.mark(connection, plant, (START, START + HOUR))
    assert rollup.run(engine, site.NOW) == 1
    assert marks(engine, "rollup") == marks(engine, "account") == []


def test_changed_hours_mark_the_process_unit_once(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        first, second = (site.add_point(connection, plant, code) for code in ("E001", "E002"))
        lone = site.add_point(connection, plant, "E003", interval_s=None)
        for point_id in (first, second, lone):
            site.insert_readings(connection, point_id, registers(9))
        site.mark(connection, plant, span(registers(9)))
    site.roll_up(engine)
    assert marks(engine, "account") == [(plant.unit_id, START, START + 2 * HOUR)]
    assert [quantity(engine, p) for p in (first, second, lone)] == [40, 40, 40]


def test_the_same_mark_again_changes_nothing(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    deliver(engine, plant, point_id, registers(200))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM stale"))
        rows = "SELECT xmin::text, ctid::text, tableoid FROM {} WHERE point_id = :p ORDER BY 1, 2, 3"
        names = ("usage_hour", "usage_day", "usage_month")
        before = [connection.execute(text(rows.format(n)), {"p": point_id}).all() for n in names]
        site.mark(connection, plant, span(registers(200)))
    site.roll_up(engine)
    with engine.connect() as connection:
        after = [connection.execute(text(rows.format(n)), {"p": point_id}).all() for n in names]
    assert before == after
    assert marks(engine, "account") == []


def test_late_reading_changes_the_split_inside_its_gap_alone(engine: Engine, plant: site.Site) -> None:
    """Six months late: the total stays, the estimated hours of the gap change, nothing else does."""
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    start = START - timedelta(days=180)
    early, late_start = registers(100, start=start), start + timedelta(hours=60)
    deliver(engine, plant, point_id, early + registers(4000, first=5000, start=late_start))
    with engine.begin() as connection:
        before = {name: site.table(connection, name, point_id) for name in ("usage_hour", "usage_day", "usage_month")}
        connection.execute(text("DELETE FROM stale"))
    at = start + timedelta(hours=40, minutes=30)
    deliver(engine, plant, point_id, [(at, 4000.0, 0)])
    with engine.connect() as connection:
        after = {name: site.table(connection, name, point_id) for name in before}
    changed = {hour for hour, row in after["usage_hour"].items() if before["usage_hour"][hour] != row}
    gap = (early[-1][0].replace(minute=0), late_start)
    assert changed
    assert all(gap[0] <= hour < gap[1] for hour in changed)
    assert quantity(engine, point_id) == 5000 + 5 * 3999 - 1000
    assert before["usage_month"] == after["usage_month"]
    assert marks(engine, "account") == [(plant.unit_id, min(changed), max(changed) + HOUR)]


def test_forgotten_replacement_entered_two_weeks_later_repairs_the_figures(engine: Engine, plant: site.Site) -> None:
    exchange = START + timedelta(hours=5, minutes=5)
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001", installations=[{"multiplier": 80}])
    old, new = registers(21, first=88_316.6), registers(1400, first=13.4, start=START + 21 * QUARTER)
    deliver(engine, plant, point_id, old + new)
    with engine.begin() as connection:
        assert {reason for reason, _, _ in site.findings(connection, point_id)} == {"reset"}
        connection.execute(
            text("UPDATE meter_installation SET to_at = :at, final_register = 88421.6"), {"at": exchange}
        )
        connection.execute(
            text(
                "INSERT INTO meter_installation (point_id, from_at, serial, multiplier, initial_register)"
                " VALUES (:p, :at, 'NEW', 120, 0)"
            ),
            {"p": point_id, "at": exchange},
        )
        rows = [(plant.gateway_id, point_id, exchange, exchange + timedelta(days=30))]
        stale.mark_many(connection, "rollup", rows, cause="registry")
    assert quantity_after(engine, point_id) == (100 + 5) * 80 + (D("13.4") + 5 * 1399) * 120
    with engine.connect() as connection:
        assert site.findings(connection, point_id) == set()


def quantity_after(engine: Engine, point_id: int) -> Decimal:
    site.roll_up(engine)
    return quantity(engine, point_id)


def test_multiplier_corrected_afterwards_recomputes_from_raw(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    deliver(engine, plant, point_id, registers(2000))
    with engine.begin() as connection:
        connection.execute(text("UPDATE meter_installation SET multiplier = 80"))
        connection.execute(text("DELETE FROM stale"))
        row = (plant.gateway_id, point_id, site.BEGAN, site.NOW)
        stale.mark_many(connection, "rollup", [row], cause="registry")
    assert quantity_after(engine, point_id) == 5 * 1999 * 80
    (mark,) = marks(engine, "account")
    assert (mark[0], mark[1]) == (plant.unit_id, START)


def test_disputed_instant_counts_for_nothing_until_it_is_decided(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    rows = registers(50)
    deliver(engine, plant, point_id, rows)
    at, value, _ = rows[-1]
    override = text(
        "INSERT INTO reading_override (point_id, ts, rank, value, origin) VALUES (:p, :ts, :rank, :v, :origin)"
    )
    opened = text(
        "INSERT INTO finding (point_id, reason, from_at, to_at, detail)"
        " VALUES (:p, 'disputed', :ts, :ts, '{\"receipt_id\": 1}') RETURNING id"
    )
    with engine.begin() as connection:
        for entry in (value, value + 1):
            row = {"p": point_id, "ts": at, "rank": 0, "v": entry, "origin": "gateway"}
            connection.execute(override, row)
        finding_id = connection.execute(opened, {"p": point_id, "ts": at}).scalar_one()
        site.mark(connection, plant, (at.replace(minute=0), at.replace(minute=0) + HOUR))
    assert quantity_after(engine, point_id) == 5 * 48
    with engine.begin() as connection:
        assert connection.execute(text("SELECT array_agg(id) FROM finding")).scalar_one() == [finding_id]
        row = {"p": point_id, "ts": at, "rank": 1_000_000, "v": value + 1, "origin": "edit"}
        connection.execute(override, row)
        site.mark(connection, plant, (at.replace(minute=0), at.replace(minute=0) + HOUR))
    assert quantity_after(engine, point_id) == 5 * 49 + 1
    with engine.connect() as connection:
        assert site.findings(connection, point_id) == set()


def test_finding_closed_by_somebody_is_not_opened_again(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    deliver(engine, plant, point_id, [*registers(20), *registers(20, first=3, start=START + 20 * QUARTER)])
    with engine.begin() as connection:
        assert {reason for reason, _, _ in site.findings(connection, point_id)} == {"reset"}
        connection.execute(text("UPDATE finding SET closed_at = now(), closed_by = 'official', note = 'known'"))
        connection.execute(
            text("INSERT INTO finding (point_id, reason, from_at, to_at) VALUES (:p, 'clock_skew', :at, :at)"),
            {"p": point_id, "at": START},
        )
        site.mark(connection, plant, (START, START + 9 * HOUR))
    site.roll_up(engine)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT reason, note FROM finding ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("reset", "known"), ("clock_skew", None)]


def test_a_failure_leaves_marks_and_figures_as_they_were(
    engine: Engine, plant: site.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        site.insert_readings(connection, point_id, registers(20))
        site.mark(connection, plant, span(registers(20)))

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(rollup, "write_periods", killed)
    with pytest.raises(RuntimeError, match="killed"):
        rollup.run(engine, site.NOW)
    with engine.connect() as connection:
        assert site.table(connection, "usage_hour", point_id) == {}
    assert len(marks(engine, "rollup")) == 1


def test_late_reading_committed_between_claim_and_write_is_not_lost(
    engine: Engine, plant: site.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading is committed after the input was read and before anything is written; its mark stays."""
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    deliver(engine, plant, point_id, registers(9))
    with engine.begin() as connection:
        site.insert_readings(connection, point_id, registers(9, first=1045, start=START + 9 * QUARTER))
        site.mark(connection, plant, (START + 2 * HOUR, START + 5 * HOUR))
    late = (START + timedelta(minutes=20), 1019.0, 0)
    recompute = rollup.recompute

    def overtaken(*arguments: object) -> object:
        result = recompute(*arguments)  # type: ignore[arg-type]
        with engine.begin() as other:
            site.insert_readings(other, point_id, [late])
            site.mark(other, plant, (START, START + HOUR))
        return result

    monkeypatch.setattr(rollup, "recompute", overtaken)
    assert rollup.run(engine, site.NOW) == 1
    monkeypatch.undo()
    assert marks(engine, "rollup") == [(plant.gateway_id, START, START + HOUR)]
    site.roll_up(engine)
    assert quantity(engine, point_id) == 5 * 17


def test_second_worker_leaves_a_locked_gateway_and_loses_nothing(
    engine: Engine, plant: site.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers: while one holds the claim, a late reading comes in and the other finds the gateway locked."""
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        site.insert_readings(connection, point_id, registers(9))
        site.mark(connection, plant, span(registers(9)))
    claimed, go_on = threading.Event(), threading.Event()
    work_off = rollup.work_off

    def slow(connection: object, claims: list[stale.Claim]) -> None:
        work_off(connection, claims)  # type: ignore[arg-type]
        claimed.set()
        assert go_on.wait(20)

    monkeypatch.setattr(rollup, "work_off", slow)
    first = threading.Thread(target=rollup.run, args=(engine, site.NOW))
    first.start()
    assert claimed.wait(20)
    monkeypatch.undo()
    with engine.begin() as connection:
        site.insert_readings(connection, point_id, [(START + timedelta(minutes=20), 1019.0, 0)])
        site.mark(connection, plant, (START, START + HOUR))
    assert rollup.run(engine, site.NOW) == 0
    go_on.set()
    first.join(20)
    assert rollup.run(engine, site.NOW) == 1
    assert rollup.run(engine, site.NOW) == 0
    assert quantity(engine, point_id) == 40


def test_open_day_expects_its_whole_day(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
    deliver(engine, plant, point_id, registers(9))
    with engine.connect() as connection:
        assert site.table(connection, "usage_day", point_id) == {date(2026, 10, 1): (D(40), 96, 8, 0)}
        assert site.table(connection, "usage_month", point_id) == {date(2026, 10, 1): (D(40), 96 * 31, 8, 0)}


def test_meters_are_read_with_their_dated_rows(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001", unit="Wh", installations=[{"digits": 6}])
        meter = stored.meters(connection, [point_id])[point_id]
    assert (meter.canonical_per_unit, meter.installations[0].digits, meter.services[0].interval_s) == (
        D("0.001"),
        6,
        900,
    )


@pytest.mark.parametrize("signal", ["register", "interval", "gauge"])
@pytest.mark.parametrize("absurd", [1e300, -1e300, 1e17, 1.7976931348623157e308, 5e-324])
def test_an_absurd_value_is_a_finding_and_stops_nobody(engine: Engine, signal: str, absurd: float) -> None:
    """A finite double may be anything; the figures' columns hold 18 digits before the point."""
    with engine.begin() as connection:
        plant = site.add_site(connection)
        point_id = site.add_point(connection, plant, "E001", signal=signal)
        other_id = site.add_point(connection, plant, "E002")
    rows = registers(12)
    rows[5] = (rows[5][0], absurd, 0)
    deliver(engine, plant, other_id, registers(12))
    deliver(engine, plant, point_id, rows)
    assert quantity(engine, other_id) == 55
    assert quantity(engine, point_id) < 10**9
    with engine.begin() as connection:
        site.assert_tables_equal_the_pure_rules(connection, point_id)


def test_gateways_of_the_same_quarter_hour_are_worked_off_together(engine: Engine) -> None:
    """Their short marks are one transaction; a gateway with a long backlog is passed over, and comes next, alone."""
    points = []
    with engine.begin() as connection:
        for number in range(1, 5):
            each = site.add_site(connection, number)
            points.append(site.add_point(connection, each, "E001"))
            site.insert_readings(connection, points[-1], registers(9))
            whole = span(registers(9))
            site.mark(connection, each, (whole[0] - timedelta(days=number == 1), whole[1]))
    assert rollup.run(engine, site.NOW) == 3
    assert [quantity(engine, point_id) for point_id in points[1:]] == [40, 40, 40]
    assert rollup.run(engine, site.NOW) == 1
    assert quantity(engine, points[0]) == 40
    assert len(marks(engine, "account")) == 4


def test_a_gateway_that_fails_does_not_hold_up_the_others_of_its_batch(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        plants = [site.add_site(connection, number) for number in range(1, 4)]
        for each in plants:
            site.insert_readings(connection, site.add_point(connection, each, "E001"), registers(9))
            site.mark(connection, each, span(registers(9)))
    monkeypatch.setattr(stale, "_memory", stale._Memory())
    work_off = rollup.work_off

    def poisoned(connection: object, claims: list[stale.Claim]) -> None:
        if plants[1].gateway_id in [claim.subject_id for claim in claims]:
            raise RuntimeError("poisoned")
        work_off(connection, claims)  # type: ignore[arg-type]

    monkeypatch.setattr(rollup, "work_off", poisoned)
    assert rollup.run(engine, site.NOW) == 1
    with pytest.raises(RuntimeError, match="poisoned"):
        rollup.run(engine, site.NOW)
    assert stale.last_claimed("rollup") == plants[1].gateway_id
    stale.leave_alone("rollup", plants[1].gateway_id, 60)
    assert rollup.run(engine, site.NOW) == 1
    assert [subject for subject, *_ in marks(engine, "rollup")] == [plants[1].gateway_id]
