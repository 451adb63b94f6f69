"""Every figure can be derived again from its raw rows, and a figure that was tampered with does not agree."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from app.db import stale
from app.db.scope import CITY, Scope
from app.domain import calendar
from app.errors import NotFound
from app.pipeline import account, benchmark, explain, rollup
from tests.integration import accounting_city as city

OCTOBER = date(2026, 10, 1)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def made(engine: Engine) -> tuple[city.Plant, int]:
    """A kiln burning 200 kg of coal an hour through October, rolled up, accounted and judged."""
    city.load_reference(engine)
    from_at, to_at = calendar.month_bounds(OCTOBER)
    with engine.begin() as connection:
        plant = city.add_plant(connection)
        point_id = city.add_point(connection, plant, "COAL", "raw_coal", "kg", from_at=from_at)
        city.report(connection, plant, OCTOBER, "744")
        receipt = city.one(
            connection,
            "INSERT INTO receipt (gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted, duplicate,"
            " disputed, received_at, committed_at) VALUES (:g, 'e1', 1, 7, '', '', 744, 0, 0, now(), now())"
            " RETURNING id",
            g=plant.gateway_id,
        )
        connection.execute(
            text(
                "INSERT INTO reading (ts, point_id, value, quality, receipt_id) SELECT at, :p, 200, 0, :r"
                " FROM generate_series(CAST(:f AS timestamptz), :t, interval '1 hour') AS at"
            ),
            {"p": point_id, "r": receipt, "f": from_at, "t": to_at - timedelta(hours=1)},
        )
        stale.mark(connection, "rollup", plant.gateway_id, from_at, to_at, cause="reading")
    while rollup.run(engine, NOW) or account.run(engine, NOW) or benchmark.run(engine, NOW):
        pass
    return plant, point_id


def test_usage_down_to_the_receipt(engine: Engine, made: tuple[city.Plant, int]) -> None:
    _plant, point_id = made
    with engine.connect() as connection:
        day = explain.usage(connection, CITY, point_id, "day", date(2026, 10, 10))
        month = explain.usage(connection, CITY, point_id, "month", OCTOBER)
        hour = explain.usage(connection, CITY, point_id, "hour", datetime(2026, 10, 10, 3, tzinfo=UTC))
    assert (day["derived"]["quantity"], day["agrees"]) == (Decimal(4800), True)
    assert [part["quantity"] for part in day["parts"]] == [200] * 24
    assert [step["quantity_inside"] for step in day["steps"]] == [200] * 24
    inside = [r for r in day["readings"] if r["ts"] >= datetime(2026, 10, 9, 16, tzinfo=UTC)]
    assert {(r["gateway_code"], r["epoch"], r["lane"], r["seq"], r["value"], r["counts"]) for r in inside} == {
        ("gw-001", "e1", 1, 7, 200, True)
    }
    assert [meter["serial"] for meter in day["installations"]] == ["S1"]
    assert [row["process_unit"] for row in day["assignments"]] == ["kiln"]
    assert (month["derived"]["quantity"], month["agrees"], len(month["parts"])) == (Decimal(148800), True, 31)
    assert (hour["derived"]["quantity"], hour["agrees"], len(hour["steps"])) == (Decimal(200), True, 1)


def test_energy_names_points_and_factors(engine: Engine, made: tuple[city.Plant, int]) -> None:
    plant, point_id = made
    with engine.connect() as connection:
        found = explain.energy(connection, CITY, plant.kiln_id, "raw_coal", "in", "month", OCTOBER)
    assert found["agrees"]
    assert found["derived"]["quantity"] == 148800
    assert found["derived"]["equivalent_kgce"] == found["derived"]["equal_kgce"] == Decimal("106287.84")
    assert [(p["point_id"], p["quantity"]) for p in found["points"]] == [(point_id, Decimal(148800))]
    (stretch,) = found["conversions"]
    assert stretch["coefficients"].equivalent == stretch["equivalent_factor"]["kgce_per_unit"] == Decimal("0.7143")
    assert stretch["equivalent_factor"]["source"]
    assert stretch["emission_factor"]["factor_key"] == "bituminous"
    assert stretch["measured_lots"] == []


def test_a_ratio_names_its_level_outputs_and_energy(engine: Engine, made: tuple[city.Plant, int]) -> None:
    plant, _point_id = made
    with engine.connect() as connection:
        found = explain.ratio(connection, CITY, plant.line_id, OCTOBER, NOW)
    assert found["agrees"]
    assert found["derived"]["actual"] == Decimal("142.86")
    assert (found["level"]["benchmark"], found["level"]["baseline"]) == (100, 117)
    assert found["level"]["confidence"] == "confirmed"
    assert [row["value"] for row in found["outputs"]] == [744]
    assert [(row["carrier_key"], row["sign"], row["equivalent_kgce"]) for row in found["parts"]] == [
        ("raw_coal", 1, Decimal("106287.84"))
    ]
    assert found["indicator"]["conversion"] == "equivalent"


def test_a_tampered_figure_does_not_agree(engine: Engine, made: tuple[city.Plant, int]) -> None:
    plant, point_id = made
    with engine.begin() as connection:
        connection.execute(text("UPDATE usage_day SET quantity = quantity + 1 WHERE day = '2026-10-10'"))
        connection.execute(text("UPDATE energy_month SET equivalent_kgce = equivalent_kgce + 1"))
        connection.execute(text("UPDATE ratio SET status = 'at_benchmark'"))
    with engine.connect() as connection:
        assert not explain.usage(connection, CITY, point_id, "day", date(2026, 10, 10))["agrees"]
        assert not explain.energy(connection, CITY, plant.kiln_id, "raw_coal", "in", "month", OCTOBER)["agrees"]
        assert not explain.ratio(connection, CITY, plant.line_id, OCTOBER, NOW)["agrees"]


def test_outside_the_scope_there_is_nothing(engine: Engine, made: tuple[city.Plant, int]) -> None:
    plant, point_id = made
    other = Scope(district_code="120119")
    with engine.connect() as connection:
        for ask in (
            lambda: explain.usage(connection, other, point_id, "month", OCTOBER),
            lambda: explain.energy(connection, other, plant.kiln_id, "raw_coal", "in", "month", OCTOBER),
            lambda: explain.ratio(connection, other, plant.line_id, OCTOBER, NOW),
        ):
            with pytest.raises(NotFound):
                ask()
