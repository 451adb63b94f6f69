"""Events entered late, through the API and the real stages: what they repair, what stays, what is refused."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from app.errors import Invalid
from app.intake import registry
from app.intake.registry_file import EnterpriseEntry, RegistryFile
from app.settings import Settings
from tests.integration import accounting_city as city
from tests.integration import rollup_site as site
from tests.integration.events_site import (
    ENTERED,
    EXCHANGED,
    HOUR,
    HOURS,
    QUARTER,
    REPLACEMENT,
    START,
    USCC,
    Works,
    assert_nothing_written,
    plain,
    replaced,
)

D = Decimal


@pytest.fixture
def works(engine: Engine, database_url: str) -> Works:
    return Works(engine, database_url, ENTERED)


def test_a_forgotten_replacement_entered_two_weeks_later_repairs_the_figures(works: Works) -> None:
    replaced(works)
    assert works.hours() == [320] * 10 + [240] + [320] * 9
    assert works.open_findings() == {"reset"}
    answer = works.enter("replacement", EXCHANGED, **REPLACEMENT, evidence="work order 7")
    assert answer.status_code == 200, answer.text
    assert answer.json()["is_new"] is True
    works.settle()
    assert works.hours() == [320] * HOURS
    assert works.open_findings() == set()
    energy = works.energy()
    assert energy[works.plant.kiln_id, EXCHANGED] == 320
    with works.engine.connect() as connection:
        kept = connection.execute(text("SELECT count(*), sum(value) FROM reading")).one()
        revised = set(connection.execute(text("SELECT cause FROM figure_revision WHERE revision > 0")).scalars())
    assert tuple(kept) == (81, sum(range(100, 141)) + sum(range(1, 41)))
    assert revised == {"registry"}


def test_a_replacement_with_another_multiplier(works: Works) -> None:
    replaced(works)
    works.enter("replacement", EXCHANGED, **REPLACEMENT, multiplier="120", rated_load="6000")
    works.settle()
    assert works.hours() == [320] * 10 + [480] * 10


def test_the_example_of_section_9(works: Works) -> None:
    """88,400.0 to 88,421.6, then 0.0 to 13.4 with M 120: 3,336 kWh."""
    works.deliver([(START, 88_400.0), (START + 12 * HOUR, 13.4)])
    works.enter("replacement", EXCHANGED, final_register="88421.6", initial_register="0", serial="S2", multiplier="120")
    works.settle()
    assert sum(q for q in works.hours() if q is not None) == 3336


def test_a_register_that_is_not_known_leaves_its_side_empty(works: Works) -> None:
    replaced(works)
    works.enter("replacement", EXCHANGED, final_register=None, initial_register="0", serial="S2")
    works.settle()
    assert works.hours() == [320] * 9 + [240] + [320] * 10


def test_a_multiplier_corrected_afterwards_recomputes_from_raw(works: Works) -> None:
    plain(works)
    before = works.hours()
    answer = works.enter("meter_correction", START + 5 * HOUR, multiplier="8", rated_load="400")
    assert answer.status_code == 200, answer.text
    works.settle()
    assert before == [320] * HOURS
    assert works.hours() == [32] * HOURS
    assert works.energy()[works.plant.kiln_id, START] == 32


def test_a_multiplier_changed_at_an_instant_leaves_what_was_before(works: Works) -> None:
    plain(works)
    changed = START + 10 * HOUR
    assert works.enter("multiplier_change", changed, multiplier="160", rated_load="8000").status_code == 200
    works.settle()
    assert works.hours() == [320] * 10 + [640] * 10
    # Between two readings the register must be said; here it stood a third of the way.
    between = START + 15 * HOUR + timedelta(minutes=5)
    refused = works.enter("multiplier_change", between, multiplier="80")
    assert refused.status_code == 422
    assert "what the meter showed then" in refused.json()["detail"]
    exact = START + 15 * HOUR
    assert works.enter("multiplier_change", between, multiplier="80", register_at="160.25").status_code == 200
    works.settle()
    assert exact < between
    assert works.hours() == [320] * 10 + [640] * 5 + [D("340")] + [320] * 4


def test_a_point_moved_from_a_date_leaves_the_figures_before_alone(works: Works) -> None:
    plain(works)
    before = works.energy()
    moved_at = START + 10 * HOUR
    answer = works.enter("move", moved_at, process_unit="plant")
    assert answer.status_code == 200, answer.text
    with works.engine.connect() as connection:
        spans = connection.execute(
            text("SELECT stage, min(from_at) FROM stale WHERE stage IN ('rollup', 'account') GROUP BY stage")
        ).all()
        assert {(stage, since) for stage, since in spans} == {("rollup", moved_at), ("account", moved_at)}
    works.settle()
    assert works.hours() == [320] * HOURS
    after = works.energy()
    kiln, plant = works.plant.kiln_id, works.plant.plant_id
    assert set(before) == {(kiln, START + i * HOUR) for i in range(HOURS)}
    expected = {(kiln if i < 10 else plant, START + i * HOUR): D(320) for i in range(HOURS)}
    assert after == expected
    with works.engine.connect() as connection:
        causes = set(connection.execute(text("SELECT cause FROM figure_revision WHERE revision > 0")).scalars())
        units = connection.execute(text("SELECT process_unit_id, quantity FROM energy_day ORDER BY 1")).all()
    assert causes == {"registry"}
    assert [tuple(row) for row in units] == sorted([(kiln, D(3200)), (plant, D(3200))])


def test_only_what_the_event_touches_is_stale(works: Works) -> None:
    replaced(works)
    works.enter("replacement", EXCHANGED, **REPLACEMENT)
    with works.engine.connect() as connection:
        (since,) = connection.execute(text("SELECT min(from_at) FROM stale WHERE stage = 'rollup'")).one()
    assert since == EXCHANGED


def test_bad_events_are_refused_clearly_and_nothing_is_written(works: Works) -> None:
    plain(works)
    early, late = city.START - HOUR, ENTERED + HOUR
    cases = [
        (works.enter("replacement", early, **REPLACEMENT), 422, "before the first meter of this point"),
        (works.enter("move", early, process_unit="plant"), 422, "before the first assignment"),
        (works.enter("meter_correction", early, multiplier="2"), 422, "before the first meter of this point"),
        (works.enter("replacement", city.START, **REPLACEMENT), 422, "nothing came before it"),
        (works.enter("replacement", late, **REPLACEMENT), 422, "in the future"),
        (works.enter("move", EXCHANGED, process_unit="mill"), 422, "not right"),
        (works.enter("move", EXCHANGED, process_unit="kiln"), 422, "already"),
        (works.enter("meter_correction", EXCHANGED), 422, "nothing is corrected"),
        (works.enter("meter_correction", EXCHANGED, final_register="5"), 422, "still in place"),
        (works.enter("replacement", EXCHANGED, **REPLACEMENT, point="E404"), 404, "no point"),
        (works.enter("replacement", EXCHANGED, **REPLACEMENT, gateway="gw-404"), 404, "no gateway"),
        (works.enter("replacement", EXCHANGED, serial="S2"), 422, ""),
        (works.enter("replacement", EXCHANGED, **REPLACEMENT, multiplier="0"), 422, ""),
        (works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"final_register": "-1"})), 422, ""),
        (works.enter("replacement", EXCHANGED, **REPLACEMENT, colour="red"), 422, ""),
        (works.enter("exchange", EXCHANGED, **REPLACEMENT), 422, ""),
        (works.enter("replacement", EXCHANGED, role="regulator", **REPLACEMENT), 403, "operator"),
    ]
    for answer, status, words in cases:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in answer.json()["detail"]
    assert_nothing_written(works)


def test_what_retention_dropped_is_not_changed_by_an_event(works: Works) -> None:
    """Raw registers are gone: figures of then cannot be computed again, and would differ from the registry for ever."""
    plain(works)
    covers = {"from": city.START.isoformat(), "to": START.isoformat(), "receipts": []}
    with works.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO seal (gateway_id, chain_no, kind, covers, digest, committed_at, sealed_at) VALUES"
                " (:g, 1, 'tombstone', CAST(:covers AS jsonb), '', :n, :n)"
            ),
            {"g": works.plant.gateway_id, "covers": json.dumps(covers), "n": ENTERED},
        )
        connection.execute(text("DELETE FROM reading WHERE ts < :at"), {"at": START + 8 * QUARTER})
    for kind, stated in (("meter_correction", {"multiplier": "8"}), ("replacement", REPLACEMENT)):
        refused = works.enter(kind, EXCHANGED, **stated)
        assert refused.status_code == 422, refused.text
        assert "dropped by retention" in refused.json()["detail"]
    assert_nothing_written(works)
    # Where it counts is decided by the hours, which stay.
    assert works.enter("move", EXCHANGED, process_unit="plant").status_code == 200
    works.settle()
    assert {unit for unit, at in works.energy() if at >= EXCHANGED} == {works.plant.plant_id}


def test_an_event_without_a_meter_then_is_refused(works: Works) -> None:
    with works.engine.begin() as connection:
        connection.execute(text("UPDATE meter_installation SET to_at = :at"), {"at": EXCHANGED})
    answer = works.enter("replacement", EXCHANGED + HOUR, **REPLACEMENT)
    assert (answer.status_code, "the one before ended at 2026-10-12T10:00" in answer.json()["detail"]) == (422, True)
    with works.engine.begin() as connection:
        connection.execute(text("DELETE FROM meter_installation"))
    answer = works.enter("replacement", EXCHANGED + HOUR, **REPLACEMENT)
    assert (answer.status_code, "never had any meter" in answer.json()["detail"]) == (422, True)


def test_a_dry_run_shows_and_writes_nothing(works: Works) -> None:
    plain(works)
    answer = works.enter("replacement", EXCHANGED, **REPLACEMENT, dry_run=True).json()
    assert answer["is_dry_run"] is True
    assert [change[0] for change in answer["changes"]] == ["+", "~"]
    assert_nothing_written(works)


def test_the_same_event_again_changes_nothing_and_another_one_conflicts(works: Works) -> None:
    replaced(works)
    for is_new in (True, False):
        answer = works.enter("replacement", EXCHANGED, **REPLACEMENT)
        assert (answer.status_code, answer.json()["is_new"]) == (200, is_new)
    answer = works.enter("replacement", EXCHANGED, **(REPLACEMENT | {"serial": "S3"}))
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    with works.engine.connect() as connection:
        serials = connection.execute(text("SELECT serial FROM meter_installation ORDER BY from_at")).scalars().all()
    assert serials == ["S1", "S2"]
    items = works.client("regulator").get("/api/v1/events?gateway=gw-001&point=E001").json()["items"]
    assert [(item["kind"], item["reason"], item["actor"]) for item in items] == [
        ("replacement", "seen on site", "operator")
    ]
    assert items[0]["stated"] == REPLACEMENT


def test_a_replacement_before_a_known_one_takes_the_place_between(works: Works) -> None:
    replaced(works)
    works.enter("replacement", EXCHANGED, **REPLACEMENT)
    between = START + 5 * HOUR
    answer = works.enter("replacement", between, final_register="120", initial_register="120", serial="S1b")
    assert answer.status_code == 200, answer.text
    works.settle()
    assert works.hours() == [320] * HOURS
    with works.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT serial, from_at, to_at, final_register FROM meter_installation ORDER BY from_at")
        ).all()
    assert [tuple(row) for row in rows] == [
        ("S1", city.START, between, 120), ("S1b", between, EXCHANGED, 140), ("S2", EXCHANGED, None, None)
    ]  # fmt: skip


def test_a_closed_year_takes_a_reason(works: Works) -> None:
    plain(works)
    works.now = datetime(2027, 4, 1, tzinfo=UTC)
    refused = works.enter("replacement", EXCHANGED, **REPLACEMENT)
    assert (refused.status_code, "closed_year_reason" in refused.json()["detail"]) == (403, True)
    assert_nothing_written(works)
    allowed = works.enter("replacement", EXCHANGED, **REPLACEMENT, closed_year_reason="court order 2027-7")
    assert allowed.status_code == 200
    with works.engine.connect() as connection:
        (detail,) = connection.execute(text("SELECT detail FROM audit WHERE action = 'event.replacement'")).one()
    assert detail["closed_year_reason"] == "court order 2027-7"


def test_a_move_as_the_year_turns_leaves_the_closed_year_alone(works: Works) -> None:
    plain(works)
    with works.engine.begin() as connection:
        site.insert_readings(connection, works.point_id, [(datetime(2027, 2, 1, tzinfo=UTC), 900.0, 0)])
    works.now = datetime(2027, 4, 1, tzinfo=UTC)
    turn = datetime(2026, 12, 31, 16, tzinfo=UTC)  # midnight of 1 January in Tianjin
    assert works.enter("move", turn - HOUR, process_unit="plant").status_code == 403
    assert works.enter("replacement", turn, **REPLACEMENT).status_code == 403  # the last register of the year
    answer = works.enter("move", turn, process_unit="plant")
    assert answer.status_code == 200, answer.text


def test_a_correction_of_a_meter_that_measured_nothing_in_closed_years_takes_no_reason(works: Works) -> None:
    with works.engine.begin() as connection:
        connection.execute(text("UPDATE meter_installation SET from_at = '2019-01-01'"))
    plain(works)
    assert works.enter("meter_correction", START, multiplier="8").status_code == 200


def test_overlapping_installations_are_a_clear_problem(works: Works) -> None:
    """By a registry entry; an event cannot make them."""
    plain(works)
    entry = {"from_at": EXCHANGED, "serial": "S2"}
    points = [{"code": "E001", "installations": [entry]}]
    content = {"uscc": USCC, "gateways": [{"code": "gw-001", "points": points}]}
    file = RegistryFile(enterprises=[EnterpriseEntry.model_validate(content)])
    settings = Settings(database_url="postgresql://nowhere")  # type: ignore[arg-type]
    with pytest.raises(Invalid) as refused, works.engine.begin() as connection:
        registry.write(connection, file, registry.Report(False), actor="t", now=ENTERED, settings=settings)
    assert "overlaps the one from" in refused.value.extra["errors"][0]["message"]
    assert_nothing_written(works)
