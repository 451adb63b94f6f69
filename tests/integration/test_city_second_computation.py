"""The simulated city's figures beside a second computation that shares no code with the service.

What the meters show for three days over a month's edge is written as readings and outputs; the stages run as they do
in the worker. Beside them tests/integration/hand_computation.py makes usage, energy, CO2, ratios, positions, rankings,
the share of capacity and sums of districts in plain Python, and the same digits are expected. The lines are in service
on these three days alone, so that their months are whole and count.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.db import engine as engine_module
from app.db import stale
from app.db.access import Caller, create_key
from app.db.figures.energy import Question, total
from app.db.scope import CITY
from app.intake import outputs, reference_load, registry
from app.intake.outputs import OutputEntry
from app.intake.registry import Report
from app.intake.registry_file import check_shape
from app.main import create_app
from app.pipeline import account, benchmark, rollup
from app.settings import Settings
from deploy.local.postgres import Postgres
from simulators.outputs import output_rows
from simulators.plan import registry as registry_of
from simulators.truth import QUARTER_S, City, number_of
from tests.conftest import TEMPLATE
from tests.integration.hand_computation import END, FIRST, FROM_S, OCTOBER, SEPTEMBER, SPANS, TO_S, Hand
from tests.integration.rollup_site import insert_readings

NOW = datetime(2026, 11, 6, tzinfo=UTC)
PUE = "data-centre-pue"


def rounded(row: Any) -> Any:
    return None if row is None else Decimal(row).normalize()


@dataclass(frozen=True)
class Worked:
    """The service's database after all stages, and the hand's figures."""

    engine: Engine
    hand: Hand
    client: TestClient

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(statement), values).all())


@pytest.fixture(scope="module")
def worked(postgres: Postgres) -> Iterator[Worked]:
    name = "city_second_computation"
    postgres.clone_database(TEMPLATE, name)
    url = postgres.dsn(name)
    engine = engine_module.create(url)
    stale.forget_failures()
    city = City(seed=7)
    _register(engine, url, city)
    _send(engine, city)
    for stage in (rollup, account, benchmark):
        while stage.run(engine, NOW):
            pass
    yield Worked(engine, Hand(city), _client(engine, url))
    engine.dispose()
    postgres.drop_database(name)


def _client(engine: Engine, url: str) -> TestClient:
    with engine.begin() as connection:
        key = create_key(connection, "regulator", "regulator")
    app = create_app(Settings(database_url=url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[api_now] = lambda: NOW
    return TestClient(app, headers={"Authorization": f"Bearer {key}"})


def _register(engine: Engine, url: str, city: City) -> None:
    with engine.begin() as connection:
        reference_load.load(connection, NOW)
        document = registry_of(city.plan)
        for line in (line for enterprise in document["enterprises"] for line in enterprise["lines"]):
            line |= {"from_on": FIRST.isoformat(), "to_on": END.isoformat()}
        file = check_shape(document)
        registry.write(
            connection, file, Report(is_dry_run=False), actor="t", now=NOW, settings=Settings(database_url=url)
        )  # type: ignore[arg-type]
        connection.execute(text("DELETE FROM stale"))


def _send(engine: Engine, city: City) -> None:
    """Write what the gateways' quarter-hour messages say, and the outputs as the city reports them."""
    with engine.begin() as connection:
        ids = {
            (row.gateway, row.code): (row.gateway_id, row.id)
            for row in connection.execute(
                text(
                    "SELECT g.code AS gateway, g.id AS gateway_id, p.code, p.id FROM point p"
                    " JOIN gateway g ON g.id = p.gateway_id"
                )
            )
        }
        for key, (_, point_id) in ids.items():
            insert_readings(connection, point_id, _readings(city, *key))
        span = datetime.fromtimestamp(FROM_S, UTC), datetime.fromtimestamp(TO_S, UTC) + timedelta(hours=1)
        gateways = sorted({gateway_id for gateway_id, _ in ids.values()})
        stale.mark_many(connection, "rollup", [(one, None, *span) for one in gateways], cause="reading")
        entries = [OutputEntry.model_validate(row) for row in output_rows(city, number_of(FIRST), number_of(END))]
        outputs.report(connection, Caller("city", "operator", CITY), entries, now=NOW)


def _readings(city: City, gateway: str, point: str) -> Iterator[tuple[datetime, float, int]]:
    meter = city.meters[gateway, point]
    for at_s in range(FROM_S, TO_S + 1, QUARTER_S):
        at = datetime.fromtimestamp(at_s, UTC)
        if meter.plan.signal == "gauge":
            quanta = meter.power_quanta(at_s)
        elif meter.plan.signal == "register":
            quanta = meter.register(meter.quanta_until(at_s))
        elif at_s < TO_S:
            quanta = meter.quanta_until(at_s + QUARTER_S) - meter.quanta_until(at_s)
        else:
            return
        yield at, quanta / 10**meter.plan.decimals, 0


def test_usage_of_every_point(worked: Worked) -> None:
    for month, span in SPANS.items():
        rows = worked.rows(
            "SELECT g.code, p.code AS point, u.quantity FROM usage_month u JOIN point p ON p.id = u.point_id"
            " JOIN gateway g ON g.id = p.gateway_id WHERE u.month = :m",
            m=month,
        )
        assert {(row.code, row.point): row.quantity for row in rows} == worked.hand.usage(span)
        assert len(rows) == len(worked.hand.city.meters)
    assert worked.rows("SELECT count(*) FROM finding") == [(0,)]


def test_energy_and_co2_of_every_process_unit(worked: Worked) -> None:
    for month, span in SPANS.items():
        expected = {
            key: (quantity, quantity * worked.hand.kgce[key[2]], worked.hand.co2_kg(key[2], key[3], quantity))
            for key, quantity in worked.hand.energy(span).items()
        }
        rows = worked.rows(
            "SELECT e.uscc, u.code, x.carrier_key, x.flow, x.quantity, x.equivalent_kgce, x.co2_kg FROM energy_month x"
            " JOIN process_unit u ON u.id = x.process_unit_id JOIN enterprise e ON e.id = u.enterprise_id"
            " WHERE x.month = :m",
            m=month,
        )
        found = {tuple(row[:4]): (row[4], row[5], rounded(row[6])) for row in rows}
        assert found == expected
        assert {row.flow for row in rows} == {"in", "recovered", "feedstock"}


@pytest.mark.parametrize(
    ("grain", "months"),
    [("month", (SEPTEMBER,)), ("month", (OCTOBER,)), ("quarter", (SEPTEMBER,)), ("rolling_12_months", tuple(SPANS))],
)
def test_ratio_of_every_line(worked: Worked, grain: str, months: tuple[date, ...]) -> None:
    rows = worked.get("/ratios/period", grain=grain, month=f"{months[-1]:%Y-%m}")["items"]
    found = {
        (row["uscc"], row["line_code"]): (
            rounded(row["actual"]), Decimal(row["output"]), row["status"], rounded(row["ratio"]),
            rounded(row["position"]),
        )
        for row in rows
    }  # fmt: skip
    expected = worked.hand.lines(*(SPANS[month] for month in months))
    assert found == {key: figure.shown() for key, figure in expected.items()}
    # A few days are no year, on which alone a data centre is judged.
    assert {row["variant_key"] for row in rows if row["is_provisional"]} == {PUE}
    assert {row["missing_share"] for row in rows} == {"0.0000"}


def test_every_status_is_among_them(worked: Worked) -> None:
    statuses = {figure.status for span in SPANS.values() for figure in worked.hand.lines(span).values()}
    assert statuses == {"at_benchmark", "between", "below_baseline", "unknown"}
    stored = worked.rows("SELECT DISTINCT grain, period FROM ratio")
    assert {tuple(row) for row in stored} == {
        ("month", SEPTEMBER), ("month", OCTOBER), ("quarter", date(2026, 7, 1)), ("quarter", OCTOBER),
        ("year", date(2026, 1, 1)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "month"),
    [({"month": "2026-09"}, SEPTEMBER), ({"month": "2026-10"}, OCTOBER), ({"quarter": "2026-Q3"}, SEPTEMBER)],
)
def test_the_ranking_of_every_domain(worked: Worked, question: dict[str, str], month: date) -> None:
    lines = {line.variant_key for line in worked.hand.city.lines}
    domains = {worked.hand.variants[key]["domain_no"] for key in lines} - {""}
    ranked = 0
    for domain in domains:
        found = worked.get("/ranking", domain=domain, **question)
        given = [
            (row["rank"], (row["uscc"], row["line_code"]), rounded(row["distance_tce"])) for row in found["ranked"]
        ]
        assert given == worked.hand.ranked(domain, SPANS[month]), domain
        assert {row["left_out_because"] for row in found["left_out"]} <= {"no_level"}
        ranked += len(given)
    with_level = [line for line in worked.hand.city.lines if worked.hand.benchmark(line) is not None]
    assert ranked == sum(line.variant_key != PUE for line in with_level) == 20
    centres = worked.get("/ranking", variant=PUE, **question)
    assert not centres["ranked"]
    assert {row["left_out_because"] for row in centres["left_out"]} == {"judged_on_year"}


@pytest.mark.parametrize("grain", ["month", "rolling_12_months"])
def test_the_share_of_capacity_of_every_domain(worked: Worked, grain: str) -> None:
    found = worked.get("/capacity-share", grain=grain, month="2026-10")
    spans = [SPANS[OCTOBER]] if grain == "month" else list(SPANS.values())
    expected = worked.hand.capacity_shares(*spans)
    assert {
        ("" if item["domain_no"] is None else str(item["domain_no"]), item["capacity_unit"]): (
            Decimal(item["capacity"]), Decimal(item["capacity_at_benchmark"]), rounded(item["share_pct"]),
            item["is_target_met"],
        )
        for item in found["items"]
    } == expected  # fmt: skip
    assert {is_met for *_, is_met in expected.values()} == {True, False}


def test_the_index_of_every_enterprise(worked: Worked) -> None:
    ids = {row.uscc: row.id for row in worked.rows("SELECT id, uscc FROM enterprise")}
    indexes = {}
    for uscc, enterprise_id in ids.items():
        answer = worked.get(f"/enterprises/{enterprise_id}/index", grain="rolling_12_months", month="2026-10")
        kinds = {one["energy_unit"]: rounded(one["index"]) for one in answer["indexes"]}
        indexes[uscc] = kinds.pop("kgce, equivalent", None)
        assert set(kinds.values()) <= {None}
    assert indexes == {uscc: worked.hand.index(uscc, *SPANS.values()) for uscc in ids}
    assert sum(index is not None for index in indexes.values()) == 16


def test_sums_hold_exactly_from_hours_to_months_and_from_units_to_the_city(worked: Worked) -> None:
    columns = ("quantity", "equivalent_kgce", "equal_kgce", "co2_kg")
    sums = ", ".join(f"sum({column})" for column in columns)
    keys = "process_unit_id, carrier_key, flow"
    with worked.engine.connect() as connection:

        def rows(statement: str) -> set[tuple[Any, ...]]:
            found = [tuple(row) for row in connection.execute(text(statement))]
            assert len(found) == len(set(found)) > 0
            return set(found)

        day, month = "(hour_at AT TIME ZONE 'Asia/Shanghai')::date", "date_trunc('month', day::timestamp)::date"
        for of, what in ((keys, sums), ("point_id", "sum(quantity), sum(windows_received), sum(windows_estimated)")):
            kind = "energy" if of == keys else "usage"
            days, months = f"{kind}_day", f"{kind}_month"
            assert rows(f"SELECT {of}, {day} d, {what} FROM {kind}_hour GROUP BY {of}, d") == rows(
                f"SELECT {of}, day, {what} FROM {days} GROUP BY {of}, day"
            )
            assert rows(f"SELECT {of}, {month} m, {what} FROM {days} GROUP BY {of}, m") == rows(
                f"SELECT {of}, month, {what} FROM {months} GROUP BY {of}, month"
            )
        enterprises = [row[0] for row in rows("SELECT id FROM enterprise")]
        districts = [row[0] for row in rows("SELECT code FROM district WHERE level = 'district'")]
        for question in (Question("month", SEPTEMBER, date(2026, 11, 1)), Question("day", FIRST, END)):
            city = total(connection, CITY, question)["equivalent_kgce"]
            assert Decimal(city) == sum(
                Decimal(total(connection, CITY, replace(question, enterprise_id=one))["equivalent_kgce"] or 0)
                for one in enterprises
            )
            assert Decimal(city) == sum(
                Decimal(total(connection, CITY, replace(question, district_code=one))["equivalent_kgce"] or 0)
                for one in districts
            )
            signed = "CASE flow WHEN 'in' THEN 1 WHEN 'feedstock' THEN 1 ELSE -1 END * equivalent_kgce"
            assert rows(f"SELECT sum({signed}) FROM energy_{question.grain}") == {(Decimal(city),)}


def test_enterprises_districts_and_the_city_by_the_api(worked: Worked) -> None:
    def total(**query: Any) -> tuple[Decimal, Decimal]:
        asked = {"grain": "month", "from": "2026-09", "to": "2026-11", **query}
        found = worked.get("/energy", **asked)["total"]
        return Decimal(found["equivalent_kgce"]), Decimal(found["co2_kg"] or 0)

    by_enterprise, by_district = defaultdict(_nothing), defaultdict(_nothing)
    district = {enterprise.uscc: enterprise.district_code for enterprise in worked.hand.city.plan}
    for span in SPANS.values():
        for uscc, sums in worked.hand.totals(span).items():
            by_enterprise[uscc] = _plus(by_enterprise[uscc], sums)
            by_district[district[uscc]] = _plus(by_district[district[uscc]], sums)
    ids = {row.uscc: row.id for row in worked.rows("SELECT id, uscc FROM enterprise")}
    assert {uscc: total(enterprise_id=ids[uscc]) for uscc in by_enterprise} == by_enterprise
    assert len(by_district) == 16
    assert {code: total(district=code) for code in by_district} == by_district
    city = _nothing()
    for sums in by_district.values():
        city = _plus(city, sums)
    assert total() == city


def _nothing() -> tuple[Decimal, Decimal]:
    return Decimal(0), Decimal(0)


def _plus(a: tuple[Decimal, Decimal], b: tuple[Decimal, Decimal]) -> tuple[Decimal, Decimal]:
    with localcontext() as context:
        context.prec = 100
        return a[0] + b[0], a[1] + b[1]
