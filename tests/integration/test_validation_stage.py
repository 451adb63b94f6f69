"""Validation by the real stages: findings with a clock, one per breach, closed when the breach is gone."""

from datetime import date, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from app.domain.calendar import day_start
from app.pipeline import validate
from tests.integration import rollup_site as site
from tests.integration.validated_site import (
    DAY,
    NOVEMBER,
    OCTOBER,
    QUARTER,
    found,
    noon_after,
    one_finding,
    read_day,
    settle,
)


@pytest.fixture
def plant(engine: Engine) -> site.Site:
    with engine.begin() as connection:
        return site.add_site(connection)


def test_a_day_with_86_of_96_windows_is_incomplete_until_the_rest_arrives(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        read_day(connection, plant, point_id, DAY, count=87)
        read_day(connection, plant, point_id, DAY + timedelta(days=1), first=96)
    settle(engine, noon_after(DAY) - timedelta(seconds=1))
    assert {row[3] for row in found(engine)} == {DAY - timedelta(days=1)}  # this day a gateway may still deliver
    settle(engine, noon_after(DAY))
    # 86 quarters, then a gap of ten to the next midnight: split by estimate, so not received.
    assert found(engine)[1:] == [("E001", "incomplete", "day", DAY)]
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM finding WHERE from_at < :at"), {"at": day_start(DAY)})
    finding = one_finding(engine, "incomplete")
    assert finding["detail"] == {"expected": 96, "received": 86, "share": "89.58 %", "calendar": "weekends only"}
    assert (finding["found_at"], finding["due_on"]) == (noon_after(DAY), DAY + timedelta(days=6))  # Wed -> Mon
    with engine.begin() as connection:
        read_day(connection, plant, point_id, DAY, count=88)
    settle(engine, noon_after(DAY) + timedelta(days=1))
    assert [row for row in found(engine) if row[3] == DAY] == []
    finding = one_finding(engine, "incomplete")
    assert (finding["closed_by"], finding["note"]) == ("validation", "no longer so")


def test_nothing_at_all_is_incomplete_too(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
    settle(engine, noon_after(DAY))
    assert found(engine) == [("E001", "incomplete", "day", DAY)]
    settle(engine, noon_after(DAY) + timedelta(days=2))
    assert [row[3] for row in found(engine)] == [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]


def test_a_month_is_judged_when_it_is_published_though_none_of_its_days_changes(
    engine: Engine, plant: site.Site
) -> None:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
    months = []
    for day in (OCTOBER + timedelta(days=29 + n) for n in range(7)):  # 30 October to 5 November, a worker that runs on
        settle(engine, noon_after(day))
        months.append([row[3] for row in found(engine) if row[2] == "month"])
    assert months == [[]] * 5 + [[OCTOBER]] * 2  # the 4th is closed at noon of the 5th: October is published
    with engine.connect() as connection:
        detail = connection.execute(text("SELECT detail FROM finding WHERE grain = 'month'")).scalar_one()
    assert (detail["expected"], detail["received"]) == (31 * 96, 0)


def test_judging_again_makes_no_second_finding_and_keeps_the_clock(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
    settle(engine, noon_after(DAY))
    before = one_finding(engine, "incomplete")
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO stale (stage, subject_id, from_at, to_at) VALUES ('validate', :g, :f, :t)"),
            {"g": plant.gateway_id, "f": day_start(DAY), "t": day_start(DAY) + timedelta(days=1)},
        )
    settle(engine, noon_after(DAY) + timedelta(hours=5))
    assert one_finding(engine, "incomplete") == before


def test_a_breach_that_comes_back_opens_its_row_with_a_new_clock_and_a_closed_one_stays(
    engine: Engine, plant: site.Site
) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        read_day(connection, plant, point_id, DAY)
    settle(engine, noon_after(DAY))
    assert found(engine) == []

    def void(instant: datetime, value: float | None, rank: int) -> None:
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO reading_override (point_id, ts, rank, value, origin, actor, reason)"
                    " VALUES (:p, :at, :rank, :v, 'edit', 'x', 'y')"
                ),
                {"p": point_id, "at": instant, "v": value, "rank": rank},
            )
            site.mark(connection, plant, (day_start(DAY), day_start(DAY) + timedelta(days=1)))

    start = day_start(DAY)
    void(start, None, 1_000_000)
    settle(engine, noon_after(DAY) + timedelta(hours=1))
    assert found(engine) == [("E001", "no_day_start", "day", DAY)]
    first = one_finding(engine, "no_day_start")
    void(start, 0.0, 1_000_001)
    settle(engine, noon_after(DAY) + timedelta(hours=2))
    assert found(engine) == []
    void(start, None, 1_000_002)
    settle(engine, noon_after(DAY) + timedelta(days=2))
    again = one_finding(engine, "no_day_start")
    assert again["id"] == first["id"]
    assert (again["closed_at"], again["found_at"]) == (None, noon_after(DAY) + timedelta(days=2))
    assert (first["due_on"], again["due_on"]) == (date(2026, 11, 9), date(2026, 11, 11))
    with engine.begin() as connection:
        connection.execute(text("UPDATE finding SET closed_at = now(), closed_by = 'li' WHERE reason = 'no_day_start'"))
        site.mark(connection, plant, (start, start + timedelta(days=1)))
    void(start, None, 1_000_003)
    settle(engine, noon_after(DAY) + timedelta(days=2, hours=1))
    assert one_finding(engine, "no_day_start")["closed_by"] == "li"


@pytest.mark.parametrize(("offset_s", "is_breach"), [(60, False), (-60, False), (61, True)])
def test_a_day_start_within_a_minute(engine: Engine, plant: site.Site, offset_s: int, is_breach: bool) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        start = day_start(DAY)
        rows = [(start + timedelta(seconds=offset_s) + i * QUARTER, float(i), 0) for i in range(98)]
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, (start - timedelta(hours=1), start + timedelta(days=1, hours=1)))
    settle(engine, noon_after(DAY))
    expected = [("E001", "no_day_start", "day", DAY)] if is_breach else []
    assert [row for row in found(engine) if row[3] == DAY and row[1] == "no_day_start"] == expected


def test_values_outside_the_range_of_the_point(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "P001", signal="gauge", unit="kW")
        connection.execute(text("UPDATE point SET value_min = -5, value_max = 100 WHERE id = :p"), {"p": point_id})
        rows = [(day_start(DAY) + i * QUARTER, {10: 100.0, 20: 100.5, 30: -5.0}.get(i, 50.0 + i), 0) for i in range(49)]
        site.insert_readings(connection, point_id, rows)
        site.mark(connection, plant, (day_start(DAY), day_start(DAY) + timedelta(days=1)))
    settle(engine, noon_after(DAY))
    detail = one_finding(engine, "out_of_range")["detail"]
    assert (detail["value_min"], detail["value_max"]) == ("-5", "100")
    assert (detail["lowest"], detail["highest"]) == ("-5", "100.5")
    with engine.begin() as connection:
        connection.execute(text("UPDATE reading SET value = 60 WHERE value = 100.5"))
        site.mark(connection, plant, (day_start(DAY), day_start(DAY) + timedelta(days=1)))
    settle(engine, noon_after(DAY) + timedelta(hours=1))
    assert one_finding(engine, "out_of_range")["closed_by"] == "validation"


def test_a_register_that_stands_still_though_its_tuesdays_moved(engine: Engine, plant: site.Site) -> None:
    tuesdays = [DAY - timedelta(weeks=n) for n in (2, 1, 0)]
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "E001")
        for number, tuesday in enumerate(tuesdays):
            read_day(connection, plant, point_id, tuesday, first=1000.0 * (number + 1), rise=float(tuesday != DAY))
        read_day(connection, plant, point_id, DAY - timedelta(days=1), first=3000.0, rise=0.0)  # Mondays are unknown
    settle(engine, noon_after(DAY))
    frozen = [row for row in found(engine) if row[1] == "frozen"]
    assert frozen == [("E001", "frozen", "day", DAY)]
    assert one_finding(engine, "frozen")["detail"] == {"windows": 96, "weeks_moved": 2, "calendar": "weekends only"}
    # A Tuesday before turns out to have stood still as well: then it does not always move.
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE reading SET value = 2000 WHERE ts >= :f AND ts <= :t"),
            {"f": day_start(tuesdays[1]), "t": day_start(tuesdays[1]) + timedelta(days=1)},
        )
        site.mark(connection, plant, (day_start(tuesdays[1]), day_start(tuesdays[1]) + timedelta(days=1)))
    settle(engine, noon_after(DAY) + timedelta(hours=1))
    assert one_finding(engine, "frozen")["closed_by"] == "validation"


def test_a_load_that_does_not_change(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        point_id = site.add_point(connection, plant, "P001", signal="gauge", unit="kW")
        for weeks in (2, 1, 0):
            day = DAY - timedelta(weeks=weeks)
            rows = [(day_start(day) + i * QUARTER, 50.0 + (i % 5 if weeks else 0), 0) for i in range(97)]
            site.insert_readings(connection, point_id, rows)
            site.mark(connection, plant, (day_start(day), day_start(day) + timedelta(days=1, hours=1)))
    settle(engine, noon_after(DAY))
    assert [row for row in found(engine) if row[1] == "frozen"] == [("P001", "frozen", "day", DAY)]


def test_days_against_the_monthly_value(engine: Engine, plant: site.Site) -> None:
    """Example 10.1: 94,800 against 100,000 is 5.2 %."""
    with engine.begin() as connection:
        daily = site.add_point(connection, plant, "E001", signal="interval", interval_s=86_400)
        monthly = site.add_point(connection, plant, "M001", signal="interval", interval_s=2_678_400)
        connection.execute(
            text("UPDATE point_assignment SET checks_point_id = :d, in_boundary = false WHERE point_id = :m"),
            {"d": daily, "m": monthly},
        )
        days = [OCTOBER + timedelta(days=n) for n in range(31)]
        site.insert_readings(
            connection, daily, [(day_start(d), 3000.0 if n else 4800.0, 0) for n, d in enumerate(days)]
        )
        site.insert_readings(connection, monthly, [(day_start(OCTOBER) + timedelta(hours=20), 100_000.0, 0)])
        site.mark(connection, plant, (day_start(OCTOBER), day_start(NOVEMBER)))
    settle(engine, noon_after(DAY))
    assert [row for row in found(engine) if row[1] == "monthly_deviation"] == [
        ("E001", "monthly_deviation", "month", OCTOBER)
    ]
    detail = one_finding(engine, "monthly_deviation")["detail"]
    assert (detail["deviation"], detail["checked_by"], float(detail["day_sum"])) == ("5.20 %", "M001", 94_800)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE reading SET value = 5000 WHERE point_id = :p AND ts = :at"),
            {"p": daily, "at": day_start(OCTOBER)},
        )
        site.mark(connection, plant, (day_start(OCTOBER), day_start(OCTOBER) + timedelta(hours=1)))
    settle(engine, noon_after(DAY) + timedelta(hours=1))
    assert one_finding(engine, "monthly_deviation")["closed_by"] == "validation"


def test_a_feeder_against_its_sub_meters(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        feeder = site.add_point(connection, plant, "E001")
        subs = [site.add_point(connection, plant, code) for code in ("E011", "E012")]
        connection.execute(
            text("UPDATE point_assignment SET parent_point_id = :f, in_boundary = false WHERE point_id = ANY(:s)"),
            {"f": feeder, "s": subs},
        )
        read_day(connection, plant, feeder, DAY, rise=100)
        read_day(connection, plant, subs[0], DAY, rise=60)
        read_day(connection, plant, subs[1], DAY, rise=34)
    settle(engine, noon_after(DAY))
    assert [row for row in found(engine) if row[1] == "feeder_deviation"] == [
        ("E001", "feeder_deviation", "month", NOVEMBER)
    ]
    assert one_finding(engine, "feeder_deviation")["detail"]["deviation"] == "6.00 %"
    # The sub-meter's multiplier was wrong: the registry's change reaches the sum.
    with engine.begin() as connection:
        connection.execute(text("UPDATE meter_installation SET multiplier = 1.1 WHERE point_id = :p"), {"p": subs[1]})
        site.mark(connection, plant, (day_start(DAY), day_start(DAY) + timedelta(days=1)))
    settle(engine, noon_after(DAY) + timedelta(hours=1))
    assert one_finding(engine, "feeder_deviation")["closed_by"] == "validation"


def test_a_sum_that_is_no_sum_any_more_is_closed(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        feeder, sub = (site.add_point(connection, plant, code) for code in ("E001", "E011"))
        connection.execute(
            text("UPDATE point_assignment SET parent_point_id = :f WHERE point_id = :s"), {"f": feeder, "s": sub}
        )
        for point_id, rise in ((feeder, 100), (sub, 60)):
            read_day(connection, plant, point_id, DAY, rise=rise)
    settle(engine, noon_after(DAY))
    assert one_finding(engine, "feeder_deviation")["closed_at"] is None
    with engine.begin() as connection:
        connection.execute(text("UPDATE point_assignment SET parent_point_id = NULL"))
        connection.execute(
            text("INSERT INTO stale (stage, subject_id, point_id, from_at, to_at, cause)"
                 " VALUES ('rollup', :g, :s, :f, :t, 'registry')"),
            {"g": plant.gateway_id, "s": sub, "f": day_start(DAY), "t": day_start(DAY) + timedelta(days=1)},
        )  # fmt: skip
    settle(engine, noon_after(DAY) + timedelta(hours=1))
    assert one_finding(engine, "feeder_deviation")["closed_by"] == "validation"


def send(connection: Connection, plant: site.Site, seq: int, sent_at: datetime, received_at: datetime) -> None:
    connection.execute(
        text(
            "INSERT INTO receipt (gateway_id, epoch, lane, seq, message_digest, rows_digest, accepted, duplicate,"
            " disputed, sent_at, received_at, committed_at) VALUES (:g, 'e', 0, :seq, '', '', 1, 0, 0, :s, :r, :r)"
        ),
        {"g": plant.gateway_id, "seq": seq, "s": sent_at, "r": received_at},
    )


@pytest.mark.parametrize(
    ("delays", "skew"),
    [((1, 2, 900, 3), None), ((-70, 1, 2, 3), 70), ((95, 900, 120, 92), -92), ((95, 900, 61), None)],
)
def test_a_clock_that_is_off(engine: Engine, plant: site.Site, delays: tuple[int, ...], skew: int | None) -> None:
    noon = day_start(DAY) + timedelta(hours=12)
    with engine.begin() as connection:
        for seq, delay in enumerate(delays):
            at = noon + seq * QUARTER
            send(connection, plant, seq, at - timedelta(seconds=delay), at)
    settle(engine, noon_after(DAY))
    rows = found(engine)
    assert rows == ([] if skew is None else [(None, "clock_skew", "day", DAY)])
    if skew is not None:
        assert one_finding(engine, "clock_skew")["detail"]["skew_s"] == skew
    settle(engine, noon_after(DAY) + timedelta(days=1))
    assert len(found(engine)) == len(rows)


def test_a_reported_clock(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO gateway_state (gateway_id, is_online, seen_at, clock_skew_s) VALUES (:g, true, :at, 75)"),
            {"g": plant.gateway_id, "at": day_start(DAY) + timedelta(hours=20)},
        )  # fmt: skip
    settle(engine, noon_after(DAY))
    assert one_finding(engine, "clock_skew")["detail"]["skew_s"] == 75


def test_days_missed_by_a_worker_are_made_up_for(engine: Engine, plant: site.Site) -> None:
    with engine.begin() as connection:
        site.add_point(connection, plant, "E001")
    settle(engine, noon_after(DAY))
    settle(engine, noon_after(DAY) + timedelta(days=40))
    with engine.connect() as connection:
        days = connection.execute(text("SELECT min(day), max(day), count(*) FROM validated_day")).one()
    assert tuple(days) == (DAY, DAY + timedelta(days=40), 32)
    assert ("E001", "incomplete", "month", NOVEMBER) in found(engine)


def test_more_than_one_transaction_should_hold_is_marked_again(
    engine: Engine, plant: site.Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "MOST_POINT_DAYS", 3)
    with engine.begin() as connection:
        for code in ("E001", "E002"):
            site.add_point(connection, plant, code)
        connection.execute(
            text("INSERT INTO stale (stage, subject_id, from_at, to_at) VALUES ('validate', :g, :f, :t)"),
            {"g": plant.gateway_id, "f": day_start(DAY) - timedelta(days=4), "t": day_start(DAY)},
        )
    assert validate.run(engine, noon_after(DAY)) == 1
    assert len(found(engine)) == 3
    while validate.run(engine, noon_after(DAY)):
        pass
    assert len([row for row in found(engine) if row[2] == "day"]) == 8
