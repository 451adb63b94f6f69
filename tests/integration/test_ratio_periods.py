"""Outputs of every kind, figures of every period, many lines at once, an enterprise's index, the share of capacity."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text

from app.api.access import now as api_now
from app.db import ratio_inputs, stale
from app.db.access import create_key
from app.domain import calendar
from app.main import create_app
from app.pipeline import benchmark, rollup
from app.settings import Settings
from tests.integration import accounting_city as city

D = Decimal
NOW = datetime(2027, 1, 20, tzinfo=UTC)
MONTHS = [date(2026, month, 1) for month in range(1, 13)]
KGCE_PER_KG = D("0.7143")
ALUMINIUM = "ndrc723-25-molten-aluminium"


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    """The API as an operator sees it in January 2027."""
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[api_now] = lambda: NOW
    with engine.begin() as connection:
        key = create_key(connection, "operator", "operator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})


def output(connection: Connection, line_id: int, period: date, value: str, *, kind: str = "production",
           grain: str = "month", unit: str = "t") -> None:  # fmt: skip
    connection.execute(
        text(
            "INSERT INTO output (line_id, kind, grain, period, revision, value, unit, reported_by)"
            " VALUES (:l, :k, :g, :p, 1, :v, :u, 'test')"
        ),
        {"l": line_id, "k": kind, "g": grain, "p": period, "v": D(value), "u": unit},
    )


def rows(engine: Engine, statement: str, **values: object) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), values)]


def kiln(engine: Engine, number: int, per_hour: str, months: list[date] = MONTHS, **more: Any) -> city.Plant:
    """A kiln that burns so much coal an hour and makes a tonne an hour, settled."""
    with engine.begin() as connection:
        plant = city.add_plant(connection, number, **more)
        coal = city.add_point(connection, plant, "COAL", "raw_coal", "kg")
        for month in months:
            output(connection, plant.line_id, month, str(city.use_month(connection, coal, month, per_hour)))
    city.mark_account(engine, plant.kiln_id, calendar.month_bounds(months[0])[0], calendar.month_bounds(months[-1])[1])
    return plant


def test_month_quarter_and_year_are_stored_and_running_periods_are_made(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    plant = kiln(engine, 1, "150")
    city.settle(engine, NOW)
    with engine.begin() as connection:  # May is put right: a late reading, a corrected output
        point_id = connection.execute(text("SELECT id FROM point")).scalar_one()
        city.use(connection, point_id, calendar.month_bounds(date(2026, 5, 1))[0], ["1650.123456"])
    city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(date(2026, 5, 1)))
    city.settle(engine, NOW)
    hours = {month: int((calendar.month_bounds(month)[1] - calendar.month_bounds(month)[0]) / timedelta(hours=1))
             for month in MONTHS}  # fmt: skip
    energy = {month: KGCE_PER_KG * 150 * hours[month] for month in MONTHS}
    energy[date(2026, 5, 1)] += KGCE_PER_KG * D("1500.123456")

    def expected(months: list[date]) -> tuple[Decimal, Decimal, Decimal]:
        total, made = sum(energy[m] for m in months), sum(hours[m] for m in months)
        return total, D(made), round(D(total) / D(made), 12)

    stored = {(grain, period): values for grain, period, *values in rows(
        engine, "SELECT grain, period, energy, output, actual FROM ratio")}  # fmt: skip
    assert len(stored) == 12 + 4 + 1
    for month in MONTHS:
        assert tuple(stored["month", month]) == expected([month])
    for first in (1, 4, 7, 10):
        assert tuple(stored["quarter", date(2026, first, 1)]) == expected(MONTHS[first - 1 : first + 2])
    assert tuple(stored["year", MONTHS[0]]) == expected(MONTHS)

    def asked(grain: str, month: str, **more: str) -> dict[str, Any]:
        answer = client.get("/api/v1/ratios/period", params={"grain": grain, "month": month, **more})
        assert answer.status_code == 200, answer.text
        (item,) = answer.json()["items"]
        return dict(item)

    for grain, month, months in (
        ("year_to_date", "2026-05", MONTHS[:5]), ("rolling_12_months", "2026-12", MONTHS), ("year", "2026-03", MONTHS),
        ("quarter", "2026-05", MONTHS[3:6]), ("month", "2026-05", MONTHS[4:5]),
    ):  # fmt: skip
        found = asked(grain, month)
        total, made, actual = expected(months)
        assert (D(found["energy"]), D(found["output"]), D(found["actual"])) == (total, made, actual), grain
        assert (found["status"], found["reason"], found["is_provisional"]) == ("between", None, False)
        assert (found["quota_grade"], found["level_edition"], found["months"]) == ("3", "2021/2023", len(months))
    rolling = asked("rolling_12_months", "2026-06")  # half of it lies before the first reading
    assert (rolling["reason"], rolling["is_provisional"], rolling["months"]) == ("missing_months", True, 6)
    # What the year was before May was put right: the months as they were known then.
    before = rows(engine, "SELECT count(*) FROM figure_revision WHERE kind = 'ratio'")
    assert before[0][0] > 0
    quarters = client.get("/api/v1/ratios", params={"grain": "quarter"}).json()["items"]
    assert [row["period"] for row in quarters] == ["2026-10-01", "2026-07-01", "2026-04-01", "2026-01-01"]


def test_a_long_period_as_it_was_known(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    known = datetime(2026, 7, 6, tzinfo=UTC)
    plant = kiln(engine, 1, "150", MONTHS[:6])
    city.settle(engine, known)
    later = datetime(2026, 9, 1, tzinfo=UTC)
    with engine.begin() as connection:
        connection.execute(text("UPDATE output SET value = value * 2 WHERE period = '2026-02-01'"))
        stale.mark(connection, "benchmark", plant.line_id, *calendar.month_bounds(MONTHS[1]), cause="output")
    city.settle(engine, later)
    asked = {"grain": "year_to_date", "month": "2026-06"}
    now = client.get("/api/v1/ratios/period", params=asked).json()["items"][0]
    then = client.get("/api/v1/ratios/period", params={**asked, "as_of": known.isoformat()}).json()["items"][0]
    assert D(then["actual"]) == 150 * KGCE_PER_KG
    assert D(now["output"]) - D(then["output"]) == 28 * 24
    early = client.get("/api/v1/ratios/period", params={**asked, "as_of": "2026-06-30T00:00:00+08:00"})
    assert (early.status_code, early.json()["type"]) == (422, "/problems/invalid")


def test_output_value_and_value_added_are_indicators_of_their_own(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    plant = kiln(engine, 1, "150", MONTHS[:3])
    reported = [
        {"line_id": plant.line_id, "kind": kind, "grain": "month", "period": f"2026-0{month}", "value": value,
         "unit": "10^4 yuan"}
        for kind, value in (("output_value", "200"), ("value_added", "50")) for month in (1, 2, 3)
    ]  # fmt: skip
    assert client.post("/api/v1/outputs", json={"outputs": reported}).json() == {"accepted": 6, "unchanged": 0}
    city.settle(engine, NOW)
    tce = KGCE_PER_KG * 150 * 744 / 1000
    found = rows(engine, "SELECT variant_key, actual, unit, status, level_id FROM ratio WHERE grain = 'month'"
                         " AND period = '2026-01-01' ORDER BY 1")  # fmt: skip
    assert [row[0] for row in found] == [city.CLINKER, "unit-output-value", "unit-value-added"]
    assert found[1][1:] == (tce / 200, "tce/10^4 yuan", "unknown", None)
    assert found[2][1:] == (tce / 50, "tce/10^4 yuan", "unknown", None)
    index = client.get(
        f"/api/v1/enterprises/{plant.enterprise_id}/index", params={"grain": "quarter", "month": "2026-01"}
    ).json()
    hours = (31 + 28 + 31) * 24
    assert D(index["unit_output_value"]["actual"]) == round(KGCE_PER_KG * 150 * hours / 1000 / 600, 12)
    assert index["unit_value_added"]["lines"] == [plant.line_id]
    lines = client.get(f"/api/v1/enterprises/{plant.enterprise_id}").json()["lines"]
    assert [line["variant_key"] for line in lines] == [city.CLINKER]  # a line's own product is what it is shown by


def test_index_of_an_enterprise_with_several_products(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    plant = kiln(engine, 1, "150")  # 107.145 kgce/t against 100
    with engine.begin() as connection:
        unit = city.one(
            connection,
            "INSERT INTO process_unit (enterprise_id, parent_id, scope, code, name_zh) VALUES (:e, :p, 2, 'mill', 'm')"
            " RETURNING id",
            e=plant.enterprise_id, p=plant.plant_id,
        )  # fmt: skip
        add = (
            "INSERT INTO production_line (process_unit_id, code, name_zh, variant_key, from_on)"
            " VALUES (:u, :c, :c, :v, '2020-01-01') RETURNING id"
        )
        bricks = city.one(connection, add, u=unit, c="coke", v="ndrc723-2-top-charging-coke-oven")
        metal = city.one(connection, add, u=unit, c="pots", v=ALUMINIUM)
        nothing = city.one(connection, add, u=unit, c="urea", v="ndrc723-27-urea")
        power = city.add_point(connection, plant, "E1", process_unit_id=unit)
        for month in MONTHS:
            hours = city.use_month(connection, power, month, "1000")
            output(connection, bricks, month, str(hours))
            output(connection, metal, month, str(D(hours) / 10))
            output(connection, nothing, month, str(hours))
    city.mark_account(engine, unit, calendar.month_bounds(MONTHS[0])[0], calendar.month_bounds(MONTHS[-1])[1])
    city.settle(engine, NOW)
    found = client.get(f"/api/v1/enterprises/{plant.enterprise_id}/index", params={"grain": "year", "month": "2026-12"})
    indexes = {one["energy_unit"]: one for one in found.json()["indexes"]}
    # Electricity of the pots is counted in kWh: it is never added to standard coal.
    assert set(indexes) == {"kWh", "kgce, equivalent"}
    of_coal = indexes["kgce, equivalent"]
    actual = 150 * Fraction(KGCE_PER_KG) + 1000 * Fraction("0.1229")
    assert Fraction(of_coal["index"]) == round(actual / (100 + 110), 12)
    assert of_coal["lines"] == [plant.line_id, bricks]
    assert of_coal["left_out"] == [{"line_id": nothing, "because": "no_level"}]
    assert (indexes["kWh"]["lines"], D(indexes["kWh"]["index"])) == ([metal], round(D(10000) / D(13000), 12))


def belt_scale(engine: Engine, plant: city.Plant, month: date) -> int:
    """Give the line a scale that weighs two tonnes every hour of a month, rolled up."""
    bounds = calendar.month_bounds(month)
    with engine.begin() as connection:
        belt = city.one(
            connection,
            "INSERT INTO point (gateway_id, code, signal, unit) VALUES (:g, 'BELT', 'interval', 't') RETURNING id",
            g=plant.gateway_id,
        )
        for statement in (
            "INSERT INTO meter_installation (point_id, from_at, serial) VALUES (:p, :at, 'S1')",
            "INSERT INTO point_assignment (point_id, from_at, process_unit_id, flow, expected_interval_s, line_id,"
            " output_kind) VALUES (:p, :at, :u, 'out', 3600, :l, 'production')",
            "INSERT INTO receipt (id, gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted, duplicate,"
            " disputed, received_at, committed_at) VALUES (1, :g, 'e', 0, 1, '', '', 1, 0, 0, now(), now())",
            "INSERT INTO reading SELECT t, :p, 2, 0, 1 FROM generate_series(CAST(:a AS timestamptz),"
            " CAST(:b AS timestamptz) - interval '1 hour', '1 hour') t",
        ):
            connection.execute(
                text(statement),
                {"p": belt, "at": city.START, "u": plant.kiln_id, "l": plant.line_id, "g": plant.gateway_id,
                 "a": bounds[0], "b": bounds[1]},
            )  # fmt: skip
        stale.mark(connection, "rollup", plant.gateway_id, *bounds, point_id=belt, cause="reading")
    while rollup.run(engine, NOW):
        pass
    return belt


def test_metered_outputs_fill_the_days_that_nobody_reports(engine: Engine) -> None:
    city.load_reference(engine)
    month = date(2026, 10, 1)
    with engine.begin() as connection:
        plant = city.add_plant(connection)
        city.use_month(connection, city.add_point(connection, plant, "COAL", "raw_coal", "kg"), month, "140")
    belt = belt_scale(engine, plant, month)
    assert rows(engine, "SELECT DISTINCT subject_id FROM stale WHERE stage = 'benchmark'") == [(plant.line_id,)]
    city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(month))

    def made(*changes: tuple[date, str, str]) -> tuple[Any, ...]:
        with engine.begin() as connection:
            for period, value, grain in changes:
                output(connection, plant.line_id, period, value, grain=grain)
            stale.mark(connection, "benchmark", plant.line_id, *calendar.month_bounds(month), cause="output")
        city.settle(engine, NOW)
        return rows(engine, "SELECT output, output_source, reason, windows_expected FROM ratio WHERE grain = 'month'"
                            " AND period = :m", m=month)[0]  # fmt: skip

    assert made() == (1488, "metered", None, 744)
    # A reported day goes before what the scale weighed.
    assert made((date(2026, 10, 7), "40", "day")) == (1480, "both", None, 744)
    with engine.begin() as connection:  # four days of the scale are gone: 90 % of its month is not there
        connection.execute(
            text("UPDATE usage_day SET windows_received = 0 WHERE point_id = :p AND day >= :d"),
            {"p": belt, "d": date(2026, 10, 28)},
        )
    assert made()[2] == "incomplete_output"
    # A figure of the whole month goes before them all.
    assert made((month, "1400", "month")) == (1400, "reported", None, 744)


def report_csv(client: TestClient, *lines: str) -> Any:
    content = "\n".join(["uscc,process_unit,line,kind,grain,period,value,unit", *lines, ""])
    asked = {"closed_year_reason": "capacity of the licence"}  # 2025 is closed
    return client.post("/api/v1/outputs/csv", content=content, params=asked, headers={"Content-Type": "text/csv"})


def four_kilns(engine: Engine) -> dict[str, city.Plant]:
    """The kilns of example 4.1 of the rules in January, by their kgce/t: output is 0.7143 t for each kg of coal."""
    city.load_reference(engine)
    plants = {}
    for number, kgce in enumerate(("98.5", "104", "100", "119"), start=1):
        with engine.begin() as connection:
            district = "120110" if number < 4 else "120119"
            plant = plants[kgce] = city.add_plant(connection, number, district_code=district)
            coal = city.add_point(connection, plant, "COAL", "raw_coal", "kg")
            hours = city.use_month(connection, coal, MONTHS[0], kgce)
            output(connection, plant.line_id, MONTHS[0], str(hours * KGCE_PER_KG))
        city.mark_account(engine, plant.kiln_id, *calendar.month_bounds(MONTHS[0]))
    city.settle(engine, NOW)
    return plants


def report_capacity(client: TestClient, day: str, **capacity: str) -> Any:
    """Report what kilns number 1 to 4 can make from a day on."""
    lines = [f"9112000{int(n[1:]):011d},kiln,kiln-1,capacity,day,{day},{value}" for n, value in capacity.items()]
    return report_csv(client, *lines)


def share_of_clinker(client: TestClient, month: str = "2026-01", **more: str) -> dict[str, Any]:
    """The share in t/d of domain 15."""
    asked = {"grain": "month", "month": month, "domain": "15", **more}
    found = client.get("/api/v1/capacity-share", params=asked)
    assert found.status_code == 200, found.text
    assert (found.json()["target"]["operator"], found.json()["target"]["value"]) == (">", "30")
    return dict(next(item for item in found.json()["items"] if item["capacity_unit"] == "t/d"))


def test_capacity_share_of_example_4_1(engine: Engine, client: TestClient) -> None:
    plants = four_kilns(engine)
    reported = report_capacity(client, "2025-07-01", n1="5000,t/d", n2="4000,t/d", n3="2500,t/d", n4="2000,t/d")
    assert reported.json() == {"accepted": 4, "unchanged": 0}, reported.text
    found = share_of_clinker(client)
    assert (found["capacity"], found["capacity_at_benchmark"], found["capacity_unit"]) == ("13500", "7500", "t/d")
    assert round(D(found["share_pct"]), 2) == D("55.56")
    assert found["is_target_met"] is True
    assert found["lines_by_status"] == {"at_benchmark": 2, "between": 1, "below_baseline": 1, "unknown": 0}
    # 4,000 t/d move the share more than 2,000 t/d do, however far they are.
    assert [(m["line_id"], m["distance"], m["share_points"][:5]) for m in found["movers"]] == [
        (plants["104"].line_id, "4", "29.62"), (plants["119"].line_id, "19", "14.81"),
    ]  # fmt: skip
    assert share_of_clinker(client, district="120119")["is_target_met"] is False
    assert share_of_clinker(client, "2025-12")["lines_by_status"]["unknown"] == 4  # nothing was computed then


def test_a_share_of_exactly_30_percent_is_not_met_and_capacity_holds_from_its_day(
    engine: Engine, client: TestClient
) -> None:
    four_kilns(engine)
    report_capacity(client, "2025-07-01", n1="5000,t/d", n2="4000,t/d", n4="2000,t/d")
    report_capacity(client, "2026-01-31", n1="1800,t/d", n2="2200,t/d")
    found = share_of_clinker(client)
    assert (found["share_pct"], found["is_target_met"], found["lines"]) == ("30", False, 3)
    report_capacity(client, "2026-01-31", n1="1801,t/d")  # put right
    found = share_of_clinker(client)
    assert (found["share_pct"][:7], found["is_target_met"]) == ("30.0116", True)
    assert share_of_clinker(client, "2025-12")["capacity"] == "11000"


def test_a_csv_with_bad_rows_lists_them_all_and_reports_nothing(engine: Engine, client: TestClient) -> None:
    four_kilns(engine)
    report_capacity(client, "2025-07-01", n1="5000,t/d")
    refused = report_capacity(client, "2026-01-01", n1="1,t/a", n2="1,t/d", n9="1,t/d")
    assert [e["location"] for e in refused.json()["errors"]] == ["line 2, unit", "line 4, line"]
    assert rows(engine, "SELECT count(*) FROM output WHERE kind = 'capacity'") == [(1,)]


def test_units_of_capacity_are_not_mixed_and_provisional_reaches_nothing(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    plants = [kiln(engine, number, "130", MONTHS[:1]) for number in (1, 2, 3)]  # 92.859 kgce/t
    with engine.begin() as connection:
        for plant, unit in zip(plants, ("t/d", "t/a", "t/d"), strict=True):
            output(connection, plant.line_id, date(2026, 1, 1), "100", kind="capacity", grain="day", unit=unit)
        city.add_point(connection, plants[2], "SILENT", "raw_coal", "kg")
    city.settle(engine, NOW)
    with engine.begin() as connection:
        recalled = text("UPDATE ratio SET level_confidence = 'recalled' WHERE line_id = :l")
        connection.execute(recalled, {"l": plants[0].line_id})
    found = client.get("/api/v1/capacity-share", params={"grain": "month", "month": "2026-01", "domain": "15"}).json()
    counted = ("share_pct", "lines", "lines_provisional", "lines_with_recalled_level")
    shares = {item["capacity_unit"]: tuple(item[name] for name in counted) for item in found["items"]}
    assert shares == {"t/a": ("100", 1, 0, 0), "t/d": ("50", 2, 1, 1)}


def test_many_lines_at_once_are_what_each_would_be_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    city.load_reference(engine)
    for number in range(1, 9):
        variant = ALUMINIUM if number == 3 else city.CLINKER
        kiln(engine, number, str(100 + number * 7), MONTHS[: 3 + number % 3], variant_key=variant)

    def computed(most_lines: int) -> list[tuple[Any, ...]]:
        monkeypatch.setattr(benchmark, "MOST_LINES", most_lines)
        bounds = (calendar.month_bounds(MONTHS[0])[0], calendar.month_bounds(MONTHS[4])[1])
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE ratio"))
            for line_id in connection.execute(text("SELECT id FROM production_line")).scalars().all():
                stale.mark(connection, "benchmark", line_id, *bounds, cause="again")
        city.settle(engine, NOW)
        return rows(engine, "SELECT * FROM ratio ORDER BY line_id, variant_key, grain, period")

    together = computed(256)
    assert len(together) == 8 * (5 + 2 + 1)
    assert computed(1) == together
    assert computed(3) == together


def test_a_line_that_fails_is_found_and_the_others_go_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    city.load_reference(engine)
    plants = [kiln(engine, number, "150", MONTHS[:1]) for number in (1, 2, 3, 4, 5)]
    bad = plants[2].line_id
    read = ratio_inputs.lines

    def failing(connection: Connection, line_ids: Any) -> Any:
        if bad in line_ids:
            raise ValueError("a row that cannot be read")
        return read(connection, line_ids)

    while city.account.run(engine, NOW):
        pass
    monkeypatch.setattr(ratio_inputs, "lines", failing)
    monkeypatch.setattr(benchmark, "MOST_LINES", 4)
    for _ in range(20):
        try:
            if not benchmark.run(engine, NOW):
                break
        except ValueError:
            assert stale.last_claimed("benchmark") == bad
            stale.leave_alone("benchmark", bad, 60)
    done = {line_id for (line_id,) in rows(engine, "SELECT DISTINCT line_id FROM ratio")}
    assert done == {plant.line_id for plant in plants} - {bad}
    assert rows(engine, "SELECT DISTINCT subject_id FROM stale WHERE stage = 'benchmark'") == [(bad,)]
