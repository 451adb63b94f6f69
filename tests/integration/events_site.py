"""A plant with one meter whose events are entered through the API and run through the real stages."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api import access
from app.db import stale
from app.db.access import create_key
from app.domain.credit_code import with_check_digit
from app.main import create_app
from app.pipeline import account, benchmark, rollup
from app.settings import Settings
from tests.integration import accounting_city as city
from tests.integration import rollup_site as site

USCC = with_check_digit("91120000MA0000001")
START = datetime(2026, 10, 11, 16, tzinfo=UTC)  # midnight of the 12th in Tianjin
HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
EXCHANGED = START + 10 * HOUR
ENTERED = START + timedelta(days=14)
HOURS = 20
REPLACEMENT = {"final_register": "140", "initial_register": "0", "serial": "S2"}


class Works:
    """A plant whose meter S1 (multiplier 80) rises by one a quarter; the clients of its operator and others."""

    def __init__(self, engine: Engine, database_url: str, now: datetime) -> None:
        self.engine, self.now = engine, now
        city.load_reference(engine)
        with engine.begin() as connection:
            self.plant = city.add_plant(connection)
            connection.execute(text("UPDATE enterprise SET uscc = :u"), {"u": USCC})
            self.point_id = city.one(
                connection,
                "INSERT INTO point (gateway_id, code, carrier_key, signal, unit) VALUES (:g, 'E001', 'electricity',"
                " 'register', 'kWh') RETURNING id",
                g=self.plant.gateway_id,
            )
            connection.execute(
                text(
                    "INSERT INTO meter_installation (point_id, from_at, serial, multiplier, digits, rated_load)"
                    " VALUES (:p, :at, 'S1', 80, 6, 4000)"
                ),
                {"p": self.point_id, "at": city.START},
            )
            city.assign(connection, self.point_id, self.plant.kiln_id, interval_s=900)
            self.keys = {role: create_key(connection, role, role) for role in ("operator", "regulator")}
        app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
        app.dependency_overrides[access.now] = lambda: self.now
        self.app = app

    def client(self, role: str = "operator") -> TestClient:
        return TestClient(
            self.app, headers={"Authorization": f"Bearer {self.keys[role]}", "Accept-Language": "en"},
        )  # fmt: skip

    def enter(self, kind: str, at: datetime, role: str = "operator", **stated: Any) -> httpx2.Response:
        outer = {name: stated.pop(name) for name in ("closed_year_reason", "dry_run") if name in stated}
        event = {"gateway": "gw-001", "point": "E001", "reason": "seen on site", **stated}
        return self.client(role).post(
            "/api/v1/events", json={"event": {"kind": kind, "at": at.isoformat(), **event}, **outer}
        )

    def said_zh(self, kind: str, final: str) -> str:
        event = {"gateway": "gw-001", "point": "E001", "reason": "r", "kind": kind, "at": EXCHANGED.isoformat()}
        event |= REPLACEMENT | {"final_register": final}
        answer = self.client().post("/api/v1/events", json={"event": event}, headers={"Accept-Language": "zh"})
        return str(answer.json()["detail"])

    def void(self, at: datetime) -> None:
        entry = {"gateway": "gw-001", "point": "E001", "ts": at.isoformat(), "value": None, "reason": "misread"}
        answer = self.client().post("/api/v1/edits", json={"edits": [entry]})
        assert answer.status_code == 200, answer.text

    def deliver(self, rows: list[tuple[datetime, float]]) -> None:
        with self.engine.begin() as connection:
            site.insert_readings(connection, self.point_id, [(at, value, 0) for at, value in rows])
            stale.mark(connection, "rollup", self.plant.gateway_id, rows[0][0], rows[-1][0] + HOUR, cause="reading")
        later, self.now = self.now, START + timedelta(days=1)  # in time: nothing is published yet
        self.settle()
        self.now = later

    def settle(self) -> None:
        while (
            rollup.run(self.engine, self.now)
            or account.run(self.engine, self.now)
            or benchmark.run(self.engine, self.now)
        ):
            pass

    def hours(self) -> list[Decimal | None]:
        """The usage of the hours by the tables, which must be what the pure rules say."""
        with self.engine.connect() as connection:
            site.assert_tables_equal_the_pure_rules(connection, self.point_id)
            found = site.table(connection, "usage_hour", self.point_id)
        return [found[START + i * HOUR][0] if START + i * HOUR in found else None for i in range(HOURS)]

    def energy(self) -> dict[tuple[int, datetime], Decimal]:
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT process_unit_id, hour_at, quantity FROM energy_hour"))
            return {(unit, at): quantity for unit, at, quantity in rows}

    def open_findings(self) -> set[str]:
        with self.engine.connect() as connection:
            return {reason for reason, _, _ in site.findings(connection, self.point_id)}


def plain(works: Works) -> None:
    works.deliver([(START + i * QUARTER, 100.0 + i) for i in range(4 * HOURS + 1)])


def replaced(works: Works) -> None:
    """The new meter begins at 0 at the tenth hour; the old one ended at 140.5, half a quarter before a reading."""
    n = 4 * 10
    rows = [(START + i * QUARTER, 100.0 + i) for i in range(n + 1)]
    rows += [(START + i * QUARTER, float(i - n)) for i in range(n + 1, 4 * HOURS + 1)]
    works.deliver(rows)


def assert_nothing_written(works: Works) -> None:
    with works.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM meter_installation")).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM point_assignment")).scalar_one() == 1
        marks = "stale WHERE stage IN ('rollup', 'account')"
        for table in (marks, "point_event", "audit"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
