"""Events entered weeks late, by HTTP and at the shell, through every stage of the worker up to the alert."""

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app import cli
from app import settings as settings_module
from app import worker as worker_module
from app.api import access
from app.db import stale
from app.db.access import create_key
from app.db.figures import energy as energy_figures
from app.db.figures import usage as usage_figures
from app.db.figures.energy import Question
from app.db.scope import CITY
from app.domain import calendar
from app.domain.credit_code import with_check_digit
from app.main import create_app
from app.pipeline import explain
from app.settings import Settings
from app.worker import Worker, clock_steps
from tests.integration import accounting_city as city
from tests.integration import rollup_site as site

D = Decimal
HOUR = timedelta(hours=1)
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
FIRST_AT, END_AT = calendar.month_bounds(OCTOBER)
HOURS = 31 * 24
EXCHANGED_ON = date(2026, 10, 20)
EXCHANGED = calendar.day_start(EXCHANGED_ON) + timedelta(hours=12, minutes=30)
PER_HOUR, LOST = 160, 8000
KGCE_PER_KG = D("0.7143")
# In time, then a month published, then the event two weeks after that, its correction the day after, the move last.
IN_TIME = calendar.day_start(date(2026, 11, 1)) + HOUR
PUBLISHED = calendar.day_start(date(2026, 11, 6))
ENTERED, CORRECTED, MOVED = (PUBLISHED + timedelta(days=n) for n in (14, 15, 16))


class Works:
    """A kiln with one register scale whose second meter, from half past noon of the 20th, was never registered."""

    def __init__(self, engine: Engine, database_url: str) -> None:
        self.engine, self.now = engine, IN_TIME
        self.settings = Settings(database_url=database_url)  # type: ignore[arg-type]
        city.load_reference(engine)
        with engine.begin() as connection:
            self.plant = city.add_plant(connection)
            connection.execute(text("UPDATE enterprise SET uscc = :u"), {"u": with_check_digit("91120000MA0000001")})
            self.point_id = city.add_point(connection, self.plant, "COAL", "raw_coal", "kg", from_at=FIRST_AT)
            connection.execute(text("UPDATE point SET signal = 'register'"))
            city.report(connection, self.plant, OCTOBER, str(HOURS))
            site.insert_readings(connection, self.point_id, [(FIRST_AT + n * HOUR, _shown(n), 0) for n in range(HOURS)])
            stale.mark(connection, "rollup", self.plant.gateway_id, FIRST_AT, END_AT, cause="reading")
            self.key = create_key(connection, "li", "operator")
        for now in (IN_TIME, PUBLISHED):
            self.settle(now)
        app = create_app(self.settings, engine)
        app.dependency_overrides[access.now] = lambda: self.now
        self.client = TestClient(app, headers={"Authorization": f"Bearer {self.key}", "Accept-Language": "en"})

    def settle(self, now: datetime) -> None:
        """A worker with all its stages, until nothing is left; the receivers are no matter here."""
        self.now = now
        chain = worker_module.stages(self.engine, self.settings)
        del chain["deliver"]
        worker = Worker(self.engine, 0.01, chain, clock_steps(self.engine, self.settings), clock=lambda: now)
        while worker.turn():
            pass
        assert self.rows("SELECT stage, subject_id FROM stale") == []
        assert not worker._failures

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def enter(self, now: datetime, **event: Any) -> None:
        self.now = now
        stated = {"gateway": "gw-001", "point": "COAL", "reason": "found in the log book", **event}
        answer = self.client.post("/api/v1/events", json={"event": stated})
        assert answer.status_code == 200, answer.text
        self.settle(now)

    def kg(self, as_of: datetime | None = None) -> D:
        with self.engine.connect() as connection:
            (series,) = usage_figures.series(connection, [self.point_id], "month", OCTOBER, NOVEMBER, as_of).values()
        step = series.steps[OCTOBER]
        assert step.quantity is not None
        return D(step.quantity)

    def kgce_per_t(self) -> tuple[D, str]:
        ((actual, status),) = self.rows("SELECT actual, status FROM ratio WHERE grain = 'month'")
        return actual, status

    def baseline_alerts(self) -> list[str]:
        return [
            state
            for (state,) in self.rows(
                "SELECT a.state FROM alert a JOIN rule r ON r.id = a.rule_id WHERE r.kind = 'below_baseline'"
            )
        ]

    def told(self, kind: str) -> list[dict[str, Any]]:
        rows = self.rows("SELECT payload FROM event WHERE kind = :k ORDER BY occurred_at, id", k=kind)
        found = [json.loads(payload)["data"] for (payload,) in rows]
        return [data for data in found if data.get("rule") != "gateway_silent"]  # nothing but figures is sent here

    def assert_everything_agrees(self) -> None:
        """Tables are the pure rules', every step of the chain derives again, and each sum is the sum of its parts."""
        month = Question("month", OCTOBER, NOVEMBER)
        with self.engine.connect() as connection:
            pure = site.recompute(connection, self.point_id)
            for grain, rows in (("hour", pure.hours), ("day", pure.days), ("month", pure.months)):
                assert site.table(connection, f"usage_{grain}", self.point_id) == rows
            for grain, start in (("month", OCTOBER), ("day", EXCHANGED_ON)):
                assert explain.usage(connection, CITY, self.point_id, grain, start)["agrees"]
            assert explain.ratio(connection, CITY, self.plant.line_id, OCTOBER, self.now)["agrees"]
            assert explain.total(connection, CITY, month)["agrees"]
            of_district = energy_figures.total(connection, CITY, Question("month", OCTOBER, NOVEMBER, None, "120110"))
            assert of_district == energy_figures.total(connection, CITY, month)
        ((units, hours, days),) = self.rows(
            "SELECT (SELECT sum(quantity) FROM energy_month), (SELECT sum(quantity) FROM energy_hour),"
            " (SELECT sum(quantity) FROM energy_day)"
        )
        assert units == hours == days == self.kg()


def _shown(n: int) -> float:
    """The first meter counts to the exchange and on to LOST more; the second begins at zero and is not known."""
    exchanged = int((EXCHANGED - FIRST_AT) / HOUR)
    return float(50_000 + PER_HOUR * n if n <= exchanged else PER_HOUR * (n - exchanged))


REPLACEMENT = {
    "kind": "replacement", "at": EXCHANGED.isoformat(), "serial": "S2", "initial_register": "0",
    "final_register": str(50_000 + PER_HOUR * int((EXCHANGED - FIRST_AT) / HOUR) + LOST),
}  # fmt: skip
BEFORE = D(PER_HOUR * (HOURS - 2))  # 743 steps but the one over the exchange
AFTER = BEFORE + PER_HOUR + LOST


@pytest.fixture
def works(engine: Engine, database_url: str) -> Works:
    return Works(engine, database_url)


def test_a_forgotten_replacement_repairs_every_figure_and_opens_the_alert_that_was_missing(works: Works) -> None:
    assert (works.kg(), works.kgce_per_t()) == (BEFORE, (round(BEFORE * KGCE_PER_KG / HOURS, 12), "between"))
    assert works.baseline_alerts() == []
    doubt = "SELECT closed_at IS NULL, due_on IS NOT NULL FROM finding WHERE reason = 'reset'"
    assert works.rows(doubt) == [(True, True)]
    works.enter(ENTERED, **REPLACEMENT)
    assert works.kg() == AFTER
    actual, status = works.kgce_per_t()
    assert (actual, status) == (round(AFTER * KGCE_PER_KG / HOURS, 12), "below_baseline")
    assert [is_open for is_open, _ in works.rows(doubt)] in ([], [False])
    assert works.baseline_alerts() == ["open"]
    (opened,) = works.told("alert.opened")
    assert (opened["period"], opened["rule"]) == ("2026-10", "below_baseline")
    revised = works.rows(
        "SELECT kind, grain, period, cause FROM figure_revision WHERE recorded_at = :at ORDER BY kind, grain, period",
        at=ENTERED,
    )
    assert revised == [
        (kind, grain, period, "registry")
        for kind, grain, period in (
            ("energy", "day", EXCHANGED_ON), ("energy", "month", OCTOBER), ("ratio", "month", OCTOBER),
            ("usage", "day", EXCHANGED_ON), ("usage", "month", OCTOBER),
        )
    ]  # fmt: skip
    assert works.kg(ENTERED - HOUR) == BEFORE
    assert works.kg(ENTERED) == AFTER
    assert sorted((t["kinds"], t["figures"], t["causes"]) for t in works.told("figure.revised")) == [
        (["energy"], 2, ["registry"]), (["ratio"], 1, ["registry"]), (["usage"], 2, ["registry"]),
    ]  # fmt: skip
    works.assert_everything_agrees()


@pytest.fixture
def nenghao(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("NENGHAO_DATABASE_URL", database_url)
    settings_module.load.cache_clear()

    def run(now: datetime, *words: str) -> int:
        monkeypatch.setattr("app.cli.events.now", lambda: now)
        monkeypatch.setattr("sys.argv", ["nenghao", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


def test_the_same_at_the_shell_then_a_multiplier_put_right_and_a_move(
    works: Works, nenghao: Callable[..., int]
) -> None:
    at, reason = EXCHANGED.isoformat(), ("--reason", "log book")
    new = ("--final", REPLACEMENT["final_register"], "--initial", "0", "--serial", "S2")
    assert nenghao(ENTERED, "events", "replacement", "gw-001/COAL", at, *new, *reason) == 0
    works.settle(ENTERED)
    assert (works.kg(), works.baseline_alerts()) == (AFTER, ["open"])

    # The second meter's multiplier was registered as one and is a half: again from raw, from its first day on.
    assert nenghao(CORRECTED, "events", "correction", "gw-001/COAL", at, "--multiplier", "0.5", *reason) == 0
    works.settle(CORRECTED)
    steps_of_2 = HOURS - 1 - int((EXCHANGED - FIRST_AT) / HOUR)
    corrected = AFTER - D(PER_HOUR * steps_of_2) / 2
    assert works.kg() == corrected
    assert works.kgce_per_t()[1] == "between"
    assert works.baseline_alerts() == ["resolved"]
    assert [t["period"] for t in works.told("alert.resolved")] == ["2026-10"]
    days = works.rows("SELECT min(period) FROM figure_revision WHERE recorded_at = :at", at=CORRECTED)
    assert days == [(OCTOBER,)]  # the month; of the days none before the exchange
    first_day = "SELECT min(period) FROM figure_revision WHERE recorded_at = :at AND grain = 'day'"
    assert works.rows(first_day, at=CORRECTED) == [(EXCHANGED_ON,)]
    assert [works.kg(at) for at in (ENTERED - HOUR, ENTERED, CORRECTED)] == [BEFORE, AFTER, corrected]
    works.assert_everything_agrees()

    # From the 25th on the scale counts to the plant: nothing before moves, the total stays, the kiln's ratio does not.
    moved_on = date(2026, 10, 25)
    before = _energy_of_days(works)
    at = calendar.day_start(moved_on).isoformat()
    assert nenghao(MOVED, "events", "move", "gw-001/COAL", at, "plant", *reason) == 0
    works.settle(MOVED)
    after = _energy_of_days(works)
    kiln, plant = works.plant.kiln_id, works.plant.plant_id
    assert {key: value for key, value in after.items() if key[1] < moved_on} == {
        key: value for key, value in before.items() if key[1] < moved_on
    }
    assert {unit for unit, day in after if day >= moved_on} == {plant}
    assert {(kiln if unit == plant else unit, day): value for (unit, day), value in after.items()} == before
    assert works.kg() == corrected
    assert works.rows(first_day, at=MOVED) == [(moved_on,)]
    assert set(works.rows("SELECT cause FROM figure_revision WHERE recorded_at = :at", at=MOVED)) == {("registry",)}
    works.assert_everything_agrees()
    events = works.client.get("/api/v1/events?gateway=gw-001").json()["items"]
    assert [event["kind"] for event in events] == ["move", "meter_correction", "replacement"]


def _energy_of_days(works: Works) -> dict[tuple[int, date], D]:
    rows = works.rows("SELECT process_unit_id, day, quantity FROM energy_day")
    return {(unit, day): quantity for unit, day, quantity in rows}
