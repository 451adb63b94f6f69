"""A plant whose October day has all that an explanation must name: a gap, an exchange, an edit, a dispute, a move."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, Engine, text

from app.db import stale
from app.domain import calendar
from app.pipeline import account, benchmark, rollup
from tests.integration import accounting_city as city

DAY = date(2026, 10, 10)
MONTH = date(2026, 10, 1)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def at(clock: str) -> datetime:
    """Return an instant of the day by the city's clock."""
    hours, minutes = (int(part) for part in clock.split(":"))
    return calendar.day_start(DAY) + timedelta(hours=hours, minutes=minutes)


EXCHANGED, MOVED = at("12:00"), at("14:30")
GAP = (at("08:00"), at("11:00"))
EDITED, DISPUTED = at("16:00"), at("17:00")


@dataclass(frozen=True, slots=True)
class Explained:
    """The plant, its electricity register and its coal scale."""

    plant: city.Plant
    power_id: int
    coal_id: int


def build(engine: Engine, now: datetime = NOW) -> Explained:
    """Register the plant, deliver the day, and settle every stage at an instant."""
    city.load_reference(engine)
    with engine.begin() as connection:
        plant = city.add_plant(connection)
        power_id = _register(connection, plant)
        coal_id = city.add_point(connection, plant, "COAL", "raw_coal", "kg", process_unit_id=plant.kiln_id)
        _deliver(connection, plant, power_id, coal_id)
        city.report(connection, plant, DAY, "40", grain="day")
        city.report(connection, plant, DAY, "50", grain="day", revision=2)
        stale.mark(connection, "rollup", plant.gateway_id, *calendar.day_bounds(DAY), cause="reading")
    settle(engine, now)
    return Explained(plant, power_id, coal_id)


def settle(engine: Engine, now: datetime = NOW) -> None:
    """Run the stages until none has work."""
    while rollup.run(engine, now) or account.run(engine, now) or benchmark.run(engine, now):
        pass


def _register(connection: Connection, plant: city.Plant) -> int:
    point_id = city.one(
        connection,
        "INSERT INTO point (gateway_id, code, name_zh, carrier_key, signal, unit) VALUES (:g, 'E001', '总表',"
        " 'electricity', 'register', 'kWh') RETURNING id",
        g=plant.gateway_id,
    )
    for from_at, to_at, serial, multiplier, initial, final in (
        (city.START, EXCHANGED, "S1", 80, None, "148.5"),
        (EXCHANGED, None, "S2", 120, "0", None),
    ):
        connection.execute(
            text(
                "INSERT INTO meter_installation (point_id, from_at, to_at, serial, multiplier, digits,"
                " initial_register, final_register) VALUES (:p, :f, :t, :s, :m, 6, :i, :e)"
            ),
            {"p": point_id, "f": from_at, "t": to_at, "s": serial, "m": multiplier, "i": initial, "e": final},
        )
    city.assign(connection, point_id, plant.kiln_id, from_at=city.START, to_at=MOVED, interval_s=900)
    city.assign(connection, point_id, plant.plant_id, from_at=MOVED, interval_s=900)
    return point_id


def _deliver(connection: Connection, plant: city.Plant, power_id: int, coal_id: int) -> None:
    """Quarter-hourly registers rising by one (S1: from 100 at midnight, S2: from 0 at noon), coal hour by hour."""
    receipt = _receipts(connection, plant)
    quarters = [calendar.day_start(DAY) + timedelta(minutes=15 * n) for n in range(97)]
    rows = [(q, power_id, _shown(q)) for q in quarters if not GAP[0] < q < GAP[1] and q != EXCHANGED]
    rows += [(at(f"{hour}:00"), coal_id, 200.0) for hour in range(24)]
    connection.execute(
        text("INSERT INTO reading (ts, point_id, value, quality, receipt_id) VALUES (:at, :p, :v, 0, :r)"),
        [{"at": ts, "p": point_id, "v": value, "r": receipt(ts)} for ts, point_id, value in rows],
    )
    shown, evidence = _shown(EDITED), "photo 17"
    entries = [
        (EDITED, 0, shown + 900, "gateway", receipt(EDITED), None, None, None),
        (EDITED, 1_000_000, shown, "edit", None, "operator", "read from the meter", evidence),
        (DISPUTED, 0, _shown(DISPUTED), "gateway", receipt(DISPUTED), None, None, None),
        (DISPUTED, 0, _shown(DISPUTED) + 0.5, "gateway", receipt(DISPUTED) + 1, None, None, None),
    ]
    connection.execute(
        text("UPDATE reading SET value = value + 900 WHERE ts = :at AND point_id = :p"), {"at": EDITED, "p": power_id}
    )
    connection.execute(
        text(
            "INSERT INTO reading_override (point_id, ts, rank, value, origin, receipt_id, actor, reason, evidence)"
            " VALUES (:p, :at, :rank, :v, :o, :r, :a, :why, :e)"
        ),
        [
            {"p": power_id, "at": ts, "rank": rank, "v": v, "o": origin, "r": r, "a": actor, "why": why, "e": e}
            for ts, rank, v, origin, r, actor, why, e in entries
        ],
    )


def _shown(ts: datetime) -> float:
    """What the meter in place shows: S1 rose from 100 by one a quarter of an hour, S2 from 0."""
    since = (calendar.day_start(DAY), 100) if ts < EXCHANGED else (EXCHANGED, 0)
    return since[1] + (ts - since[0]) / timedelta(minutes=15)


def _receipts(connection: Connection, plant: city.Plant) -> Callable[[datetime], int]:
    """One message an hour; returns which receipt brought an instant. The last is a second store's."""
    first = 0
    for hour in range(26):
        receipt_id = city.one(
            connection,
            "INSERT INTO receipt (gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted, duplicate,"
            " disputed, sent_at, received_at, committed_at) VALUES (:g, 'e1', 0, :n, '', '', 5, 0, 0, :at, :at, :at)"
            " RETURNING id",
            g=plant.gateway_id, n=hour, at=calendar.day_start(DAY) + timedelta(hours=hour, minutes=1),
        )  # fmt: skip
        first = first or receipt_id
    return lambda ts: first + int((ts - calendar.day_start(DAY)) / timedelta(hours=1))
