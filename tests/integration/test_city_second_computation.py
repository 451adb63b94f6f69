"""The simulated city's figures beside a second computation that shares no code with the service.

What the meters show for three days over a month's edge is written as readings and outputs; the stages run as they do
in the worker. Beside them this file computes usage, energy, CO2, ratios and sums of districts in plain Python, from
the law of the meters and from the official CSV files, and expects the same digits.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.db import engine as engine_module
from app.db import stale
from app.db.access import create_key
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
from simulators.truth import DAY_S, QUARTER_S, City, day_start_s, number_of
from tests.conftest import TEMPLATE
from tests.integration.rollup_site import insert_readings

FIRST, END = date(2026, 9, 29), date(2026, 10, 2)
SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)
NOW = datetime(2026, 11, 6, tzinfo=UTC)
FROM_S, TO_S = day_start_s(number_of(FIRST)), day_start_s(number_of(END))
EDGE_S = day_start_s(number_of(OCTOBER))
SPANS = {SEPTEMBER: (FROM_S, EDGE_S), OCTOBER: (EDGE_S, TO_S)}
REFERENCE = Path(reference_load.__file__).resolve().parents[1] / "reference"
SIGNS = {"in": 1, "feedstock": 1, "out": -1, "recovered": -1}


def table(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def half_even(value: Fraction, places: int = 12) -> Decimal:
    """Round a fraction once, half to even, and write it as a decimal."""
    with localcontext() as context:
        context.prec = 100
        return (Decimal(round(value * 10**places)) / 10**places).normalize()


def rounded(row: Any) -> Any:
    return None if row is None else Decimal(row).normalize()


@dataclass
class Hand:
    """The second computation: keys are the city's own codes, not the service's ids."""

    city: City
    kgce: dict[str, Decimal] = field(default_factory=dict)  # carrier -> kgce per canonical unit
    co2: dict[str, Fraction] = field(default_factory=dict)  # carrier -> kgCO2 per canonical unit

    def __post_init__(self) -> None:
        factors = {row["factor_key"]: row["kgce_per_unit"] for row in table("standard_coal_factors.csv")}
        emissions = {
            (row["factor_type"], row["factor_key"], row["year"]): row
            for row in table("emission_factors.csv")
            if row["factor_set"] in ("guideline_default", "MEE/NBS average")
        }
        for carrier in table("carriers.csv"):
            if factors[carrier["equivalent_factor_key"]]:
                self.kgce[carrier["carrier_key"]] = Decimal(factors[carrier["equivalent_factor_key"]])
            fuel = emissions.get((carrier["emission_type"], carrier["emission_key"], ""))
            if fuel and fuel["lhv"] and carrier["emission_type"] == "fuel_combustion":
                per_unit = {"GJ/t": 1000, "GJ/10^4 Nm3": 10_000}[fuel["lhv_unit"]]
                tonnes = (
                    Fraction(fuel["lhv"]) * Fraction(fuel["carbon_content_tc_per_gj"])
                    * Fraction(fuel["oxidation_rate_pct"]) / 100 * Fraction(44, 12)
                )  # fmt: skip
                # The service cuts a computed coefficient to twelve decimals once; so does this one.
                self.co2[carrier["carrier_key"]] = Fraction(half_even(tonnes * 1000 / per_unit))
        # The latest published factor of the grid, for a data year without one.
        self.co2["electricity"] = Fraction(emissions["grid_electricity", "CN-120000", "2023"]["factor_value"])

    def co2_kg(self, carrier: str, flow: str, quantity: Decimal) -> Decimal | None:
        """What is burnt or drawn from the grid emits; feedstock is not burnt, and media have no factor."""
        if flow == "feedstock" or carrier not in self.co2:
            return None
        return half_even(Fraction(quantity) * self.co2[carrier], 30)

    def usage(self, span: tuple[int, int]) -> dict[tuple[str, str], Decimal]:
        points = [point for enterprise in self.city.plan for point in enterprise.points]
        return {(p.gateway, p.code): self.city.usage_between(p.gateway, p.code, *span) for p in points}

    def energy(self, span: tuple[int, int]) -> dict[tuple[str, str, str, str], Decimal]:
        """Return (uscc, process unit, carrier, flow) -> quantity of the points inside the boundary."""
        used = self.usage(span)
        found: dict[tuple[str, str, str, str], Decimal] = defaultdict(Decimal)
        for enterprise in self.city.plan:
            for point in enterprise.points:
                if point.in_boundary:
                    key = (enterprise.uscc, point.process_unit, point.carrier, point.flow)
                    found[key] += used[point.gateway, point.code]
        return found

    def district_kgce(self, span: tuple[int, int]) -> dict[str, Decimal]:
        district = {enterprise.uscc: enterprise.district_code for enterprise in self.city.plan}
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for (uscc, _, carrier, flow), quantity in self.energy(span).items():
            sums[district[uscc]] += SIGNS[flow] * quantity * self.kgce[carrier]
        return sums

    def ratios(self, span: tuple[int, int]) -> dict[tuple[str, str], tuple[Any, ...]]:
        """Return (uscc, line) -> (actual, output, status, ratio, position), energy and output over the same days."""
        variants = {row["variant_key"]: row for row in table("catalogue_variants.csv")}
        levels = {row["variant_key"]: row for row in table("efficiency_levels.csv")}
        below = {
            (enterprise.uscc, unit["code"]): unit.get("parent")
            for enterprise in self.city.plan
            for unit in enterprise.process_units
        }
        energy = self.energy(span)
        found = {}
        for line in self.city.lines:
            variant = variants[line.variant_key]
            total = Fraction(0)
            for (uscc, unit, carrier, flow), quantity in energy.items():
                is_below = unit == line.process_unit or below[uscc, unit] == line.process_unit
                is_counted = not variant["carriers"] or carrier in variant["carriers"].split("|")
                if uscc != line.uscc or not is_below or not is_counted:
                    continue
                if flow == "feedstock" and variant["feedstock"] == "out":
                    continue
                weight = Fraction(1) if variant["conversion"] == "physical" else Fraction(self.kgce[carrier])
                total += SIGNS[flow] * Fraction(quantity) * weight
            days = range(span[0] // DAY_S + 1, span[1] // DAY_S + 1)  # business days start 16:00 UTC the day before
            output = sum((self.city.output_of(line, day) for day in days), Decimal(0))
            actual = total / Fraction(variant["base_per_indicator_unit"]) / Fraction(output)
            found[line.uscc, line.code] = (half_even(actual), output, *judge(actual, levels.get(line.variant_key)))
        return found


def judge(actual: Fraction, level: dict[str, str] | None) -> tuple[Any, ...]:
    """Return status, ratio and position as rules section 4 defines them, lower being better."""
    if level is None or not level["benchmark"]:
        return "unknown", None, None
    low, high = Fraction(level["benchmark"]), Fraction(level["baseline"])
    status = "at_benchmark" if actual <= low else "between" if actual <= high else "below_baseline"
    if actual > 0 and low > 0:
        ratio: Fraction | None = actual / low
    else:
        ratio = low / actual if actual < 0 and low < 0 else None
    return status, None if ratio is None else half_even(ratio), half_even((high - actual) / (high - low))


@dataclass(frozen=True)
class Worked:
    """The service's database after all stages, and the hand's figures."""

    engine: Engine
    url: str
    hand: Hand

    def rows(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(statement), values).all())


@pytest.fixture(scope="module")
def worked(postgres: Postgres) -> Iterator[Worked]:
    name = "city_second_computation"
    postgres.clone_database(TEMPLATE, name)
    url = postgres.dsn(name)
    engine = engine_module.create(url)
    city = City(seed=7)
    _register(engine, url, city)
    _send(engine, city)
    for stage in (rollup, account, benchmark):
        while stage.run(engine, NOW):
            pass
    yield Worked(engine, url, Hand(city))
    engine.dispose()
    postgres.drop_database(name)


def _register(engine: Engine, url: str, city: City) -> None:
    with engine.begin() as connection:
        reference_load.load(connection, NOW)
        file = check_shape(registry_of(city.plan))
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
        outputs.report(connection, CITY, entries, actor="city", now=NOW)


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


def test_ratio_of_every_line(worked: Worked) -> None:
    for month, span in SPANS.items():
        rows = worked.rows(
            "SELECT e.uscc, l.code, r.actual, r.output, r.status, r.ratio, r.position, r.is_provisional FROM ratio r"
            " JOIN production_line l ON l.id = r.line_id JOIN process_unit u ON u.id = l.process_unit_id"
            " JOIN enterprise e ON e.id = u.enterprise_id WHERE r.grain = 'month' AND r.period = :m",
            m=month,
        )
        found = {
            (row.uscc, row.code): (
                rounded(row.actual),
                row.output,
                row.status,
                rounded(row.ratio),
                rounded(row.position),
            )
            for row in rows
        }
        assert found == worked.hand.ratios(span)
        # A few days of a month are a value, and one that is never ranked.
        assert all(row.is_provisional for row in rows)
    statuses = {status for span in SPANS.values() for _, _, status, _, _ in worked.hand.ratios(span).values()}
    assert statuses == {"at_benchmark", "between", "below_baseline", "unknown"}


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


def test_districts_and_the_city_by_the_api(worked: Worked) -> None:
    with worked.engine.begin() as connection:
        key = create_key(connection, "regulator", "regulator")
    app = create_app(Settings(database_url=worked.url), worked.engine)  # type: ignore[arg-type]
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"})

    def kgce(**query: str) -> Decimal:
        answer = client.get("/api/v1/energy", params={"grain": "month", "from": "2026-09", "to": "2026-11", **query})
        assert answer.status_code == 200, answer.text
        return Decimal(answer.json()["total"]["equivalent_kgce"])

    by_month = [worked.hand.district_kgce(span) for span in SPANS.values()]
    expected = {code: by_month[0][code] + by_month[1][code] for code in by_month[0]}
    assert len(expected) == 16
    assert {code: kgce(district=code) for code in expected} == expected
    assert kgce() == sum(expected.values())
