"""One registered gateway with points, for the tests of the rollup: rows written directly, and read back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, text

from app.db import metering as stored
from app.db import stale
from app.domain import metering
from app.domain.calendar import business_day, day_bounds, month_bounds, month_of
from app.domain.metering import Reading
from app.pipeline import rollup

NOW = datetime(2026, 11, 24, tzinfo=UTC)
BEGAN = datetime(2018, 1, 1, tzinfo=UTC) - timedelta(days=31)


def one(connection: Connection, statement: str, **values: object) -> int:
    """Run an INSERT … RETURNING id."""
    return int(connection.execute(text(statement), values).scalar_one())


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway and the plant that its points count to."""

    gateway_id: int
    unit_id: int


def add_site(connection: Connection, number: int = 1) -> Site:
    """Register an enterprise with one process unit and one gateway."""
    connection.execute(
        text(
            "INSERT INTO unit_of_measure (unit, canonical_unit, canonical_per_unit, source, confidence) VALUES"
            " ('kWh', 'kWh', 1, 't', 'confirmed'), ('Wh', 'kWh', 0.001, 't', 'confirmed'),"
            " ('kW', 'kWh', 1, 't', 'confirmed') ON CONFLICT DO NOTHING"
        )
    )
    enterprise_id = one(
        connection,
        "INSERT INTO enterprise (uscc, name_zh) VALUES (:uscc, '厂') RETURNING id",
        uscc=f"9112000{number:011d}",
    )
    unit_id = one(
        connection,
        "INSERT INTO process_unit (enterprise_id, scope, code, name_zh) VALUES (:e, 1, 'plant', '全厂') RETURNING id",
        e=enterprise_id,
    )
    gateway_id = one(
        connection,
        "INSERT INTO gateway (code, enterprise_id) VALUES (:code, :e) RETURNING id",
        code=f"gw-{number:03d}",
        e=enterprise_id,
    )
    return Site(gateway_id, unit_id)


def add_point(
    connection: Connection,
    site: Site,
    code: str,
    *,
    signal: str = "register",
    unit: str = "kWh",
    installations: Sequence[dict[str, Any]] = ({},),
    interval_s: int | None = 900,
) -> int:
    """Register a point with its meters; `interval_s` None leaves it without an assignment."""
    point_id = one(
        connection,
        "INSERT INTO point (gateway_id, code, signal, unit) VALUES (:g, :c, :s, :u) RETURNING id",
        g=site.gateway_id, c=code, s=signal, u=unit,
    )  # fmt: skip
    for facts in installations:
        row = {
            "point_id": point_id, "from_at": BEGAN, "to_at": None, "multiplier": 1, "digits": None,
            "rated_load": None, "initial_register": None, "final_register": None, **facts,
        }  # fmt: skip
        connection.execute(
            text(f"INSERT INTO meter_installation ({', '.join(row)}, serial) VALUES (:{', :'.join(row)}, 'S')"), row
        )
    if interval_s is not None:
        connection.execute(
            text(
                "INSERT INTO point_assignment (point_id, from_at, process_unit_id, flow, expected_interval_s)"
                " VALUES (:p, :at, :unit, 'in', :s)"
            ),
            {"p": point_id, "at": BEGAN, "unit": site.unit_id, "s": interval_s},
        )
    return point_id


def insert_readings(connection: Connection, point_id: int, rows: Iterable[tuple[datetime, float, int]]) -> None:
    """Copy readings (at, value, quality) into the table, as ingest does."""
    raw = connection.connection.driver_connection
    assert raw is not None
    with (
        raw.cursor() as cursor,
        cursor.copy("COPY reading (point_id, ts, value, quality, receipt_id) FROM STDIN") as copy,
    ):
        for at, value, quality in rows:
            copy.write_row((point_id, at, value, quality, 1))


def mark(connection: Connection, site: Site, *hours: tuple[datetime, datetime]) -> None:
    """Append marks of the gateway, as ingest does."""
    stale.mark_many(connection, "rollup", [(site.gateway_id, None, *span) for span in hours], cause="reading")


def roll_up(engine: Engine) -> int:
    """Run the stage until it is idle; return how often it had work."""
    runs = 0
    while rollup.run(engine, NOW):
        runs += 1
    return runs


def table(connection: Connection, name: str, point_id: int) -> dict[Any, tuple[Any, ...]]:
    """Return a usage table of a point: period -> (quantity, expected, received, estimated)."""
    key = {"usage_hour": "hour_at", "usage_day": "day", "usage_month": "month"}[name]
    rows = connection.execute(
        text(
            f"SELECT {key}, quantity, windows_expected, windows_received, windows_estimated FROM {name}"
            f" WHERE point_id = :p ORDER BY {key}"
        ),
        {"p": point_id},
    )
    return {period: tuple(rest) for period, *rest in rows}


def findings(connection: Connection, point_id: int) -> set[tuple[str, datetime, datetime]]:
    """Return the open findings of a point."""
    query = text("SELECT reason, from_at, to_at FROM finding WHERE point_id = :p AND closed_at IS NULL")
    rows = [tuple(row) for row in connection.execute(query, {"p": point_id})]
    assert len(rows) == len(set(rows)), "a finding is there twice"
    return set(rows)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What the tables of a point must hold, by the pure rules over its whole history."""

    hours: dict[datetime, tuple[Any, ...]]
    days: dict[date, tuple[Any, ...]]
    months: dict[date, tuple[Any, ...]]
    findings: set[tuple[str, datetime, datetime]]


def recompute(connection: Connection, point_id: int) -> Recomputed:
    """Recompute a point from its effective readings, without any of the rollup's code."""
    meter = stored.meters(connection, [point_id])[point_id]
    always = (point_id, datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    readings: list[Reading] = stored.readings(connection, [always])[0]
    judgement = metering.judge(meter, readings)
    hours = {
        h.hour_at: (h.quantity, h.windows_expected, h.windows_received, h.windows_estimated)
        for h in metering.usage_hours(meter, judgement.steps)
    }
    days: dict[date, tuple[Any, ...]] = {}
    months: dict[date, tuple[Any, ...]] = {}
    for hour_at, row in hours.items():
        day = business_day(hour_at)
        for periods, period, bounds in ((days, day, day_bounds), (months, month_of(day), month_bounds)):
            expected = metering.windows_in_service(meter, *bounds(period))
            held = periods.get(period, (Decimal(0), expected, 0, 0))
            periods[period] = (held[0] + row[0], expected, held[2] + row[2], held[3] + row[3])
    found = {(f.reason.value, f.from_at, f.to_at) for f in judgement.findings}
    return Recomputed(hours, days, months, found)


def assert_tables_equal_the_pure_rules(connection: Connection, point_id: int) -> Recomputed:
    """Compare hours, days, months and findings of a point with the full recomputation."""
    pure = recompute(connection, point_id)
    assert table(connection, "usage_hour", point_id) == pure.hours
    assert table(connection, "usage_day", point_id) == pure.days
    assert table(connection, "usage_month", point_id) == pure.months
    assert findings(connection, point_id) == pure.findings
    return pure
