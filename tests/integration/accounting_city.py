"""A small registered city for the tests of the stages behind the rollup: rows written directly, no readings."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, Engine, text

from app.db import stale
from app.domain import calendar
from app.intake import reference_load
from app.pipeline import account, benchmark

CLINKER = "ndrc723-15-cement-clinker"
START = datetime(2025, 12, 31, 16, 0, tzinfo=UTC)  # 2026-01-01 in Tianjin
OCTOBER = date(2026, 10, 1)
NOVEMBER_5 = datetime(2026, 11, 5, 0, 0, tzinfo=UTC)


def one(connection: Connection, statement: str, **values: object) -> int:
    """Run an INSERT … RETURNING id."""
    return int(connection.execute(text(statement), values).scalar_one())


def load_reference(engine: Engine) -> None:
    """Load the official tables and the rules."""
    with engine.begin() as connection:
        reference_load.load(connection, START)
        connection.execute(text("DELETE FROM stale"))


@dataclass(frozen=True, slots=True)
class Plant:
    """An enterprise in a district with a plant, a kiln below it, a line on the kiln, and a gateway."""

    enterprise_id: int
    plant_id: int
    kiln_id: int
    line_id: int
    gateway_id: int


def add_plant(
    connection: Connection,
    number: int = 1,
    *,
    district_code: str = "120110",
    variant_key: str = CLINKER,
    heartbeat_s: int = 10,
    registered_at: datetime = START,
) -> Plant:
    """Register a plant; the number makes its names unique."""
    enterprise_id = one(
        connection,
        "INSERT INTO enterprise (uscc, name_zh, name_en) VALUES (:uscc, :zh, :en) RETURNING id",
        uscc=f"9112000{number:011d}", zh=f"第{number}水泥厂", en=f"Cement {number}",
    )  # fmt: skip
    connection.execute(
        text(
            "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
            " VALUES (:id, '2020-01-01', :district, '3011')"
        ),
        {"id": enterprise_id, "district": district_code},
    )
    unit = "INSERT INTO process_unit (enterprise_id, parent_id, scope, code, name_zh) VALUES (:e, :p, :s, :c, :c)"
    plant_id = one(connection, f"{unit} RETURNING id", e=enterprise_id, p=None, s=1, c="plant")
    kiln_id = one(connection, f"{unit} RETURNING id", e=enterprise_id, p=plant_id, s=2, c="kiln")
    line_id = one(
        connection,
        "INSERT INTO production_line (process_unit_id, code, name_zh, name_en, variant_key, from_on)"
        " VALUES (:unit, 'kiln-1', '一号窑', 'Kiln 1', :variant, '2020-01-01') RETURNING id",
        unit=kiln_id, variant=variant_key,
    )  # fmt: skip
    gateway_id = one(
        connection,
        "INSERT INTO gateway (code, enterprise_id, heartbeat_s, created_at) VALUES (:c, :e, :h, :at) RETURNING id",
        c=f"gw-{number:03d}", e=enterprise_id, h=heartbeat_s, at=registered_at,
    )  # fmt: skip
    return Plant(enterprise_id, plant_id, kiln_id, line_id, gateway_id)


def add_point(
    connection: Connection,
    plant: Plant,
    code: str,
    carrier_key: str = "electricity",
    unit: str = "kWh",
    *,
    process_unit_id: int | None = None,
    flow: str = "in",
    in_boundary: bool = True,
    from_at: datetime = START,
    to_at: datetime | None = None,
    interval_s: int = 3600,
) -> int:
    """Register a point, installed and assigned (to the kiln unless told otherwise) from an instant on."""
    point_id = one(
        connection,
        "INSERT INTO point (gateway_id, code, carrier_key, signal, unit) VALUES (:g, :c, :k, 'interval', :u)"
        " RETURNING id",
        g=plant.gateway_id, c=code, k=carrier_key, u=unit,
    )  # fmt: skip
    connection.execute(
        text("INSERT INTO meter_installation (point_id, from_at, serial) VALUES (:p, :at, 'S1')"),
        {"p": point_id, "at": from_at},
    )
    assign(
        connection, point_id, process_unit_id or plant.kiln_id, from_at=from_at, to_at=to_at, flow=flow,
        in_boundary=in_boundary, interval_s=interval_s,
    )  # fmt: skip
    return point_id


def assign(
    connection: Connection,
    point_id: int,
    process_unit_id: int,
    *,
    from_at: datetime = START,
    to_at: datetime | None = None,
    flow: str = "in",
    in_boundary: bool = True,
    interval_s: int = 3600,
) -> None:
    """Assign a point to a process unit for a while."""
    connection.execute(
        text(
            "INSERT INTO point_assignment (point_id, from_at, to_at, process_unit_id, flow, in_boundary,"
            " expected_interval_s) VALUES (:p, :from_at, :to_at, :unit, :flow, :inside, :interval)"
        ),
        {
            "p": point_id, "from_at": from_at, "to_at": to_at, "unit": process_unit_id, "flow": flow,
            "inside": in_boundary, "interval": interval_s,
        },
    )  # fmt: skip


def use(connection: Connection, point_id: int, from_at: datetime, quantities: list[str | None]) -> None:
    """Write hourly usage of a point, hour after hour; None is an hour whose usage is not known."""
    connection.execute(
        text(
            "INSERT INTO usage_hour (point_id, hour_at, quantity, windows_expected, windows_received,"
            " windows_estimated) VALUES (:p, :at, :q, 1, :received, 0) ON CONFLICT (point_id, hour_at)"
            " DO UPDATE SET quantity = excluded.quantity, windows_received = excluded.windows_received"
        ),
        [
            {
                "p": point_id, "at": from_at + timedelta(hours=n), "received": int(quantity is not None),
                "q": None if quantity is None else Decimal(quantity),
            }
            for n, quantity in enumerate(quantities)
        ],
    )  # fmt: skip


def use_month(connection: Connection, point_id: int, month: date, per_hour: str, *, hours: int | None = None) -> int:
    """Write the same usage for every hour of a month (or its first hours) and return how many hours it has."""
    from_at, to_at = calendar.month_bounds(month)
    whole = int((to_at - from_at) / timedelta(hours=1))
    use(connection, point_id, from_at, [per_hour] * (hours if hours is not None else whole))
    return whole


def report(connection: Connection, plant: Plant, period: date, value: str, *, grain: str = "month", revision: int = 1,
           unit: str = "t") -> None:  # fmt: skip
    """Report an output of the line."""
    connection.execute(
        text(
            "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)"
            " VALUES (:line, 'production', :grain, :period, :revision, :value, :unit, 'test')"
        ),
        {"line": plant.line_id, "grain": grain, "period": period, "revision": revision, "value": Decimal(value),
         "unit": unit},
    )  # fmt: skip


def mark_account(engine: Engine, process_unit_id: int, from_at: datetime, to_at: datetime) -> None:
    """Mark a process unit as the rollup does."""
    with engine.begin() as connection:
        stale.mark(connection, "account", process_unit_id, from_at, to_at, cause="reading")


def settle(engine: Engine, now: datetime = NOVEMBER_5) -> None:
    """Run account and benchmark until idle."""
    while account.run(engine, now) or benchmark.run(engine, now):
        pass


def over_baseline(engine: Engine, plant: Plant, per_hour: str = "200", month: date = OCTOBER) -> None:
    """Give a plant a coal meter and an output that make 0.7143 x per_hour kgce/t in the month, and settle it."""
    with engine.begin() as connection:
        found = connection.execute(
            text("SELECT id FROM point WHERE gateway_id = :g AND code = 'COAL'"), {"g": plant.gateway_id}
        ).scalar()
        point_id = found or add_point(connection, plant, "COAL", "raw_coal", "kg")
        hours = use_month(connection, point_id, month, per_hour)
        report(connection, plant, month, str(hours))
    mark_account(engine, plant.kiln_id, *calendar.month_bounds(month))
    settle(engine)
