"""The gap ledger counts what should have come against what came, also on days on which nothing did."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from app.db import gaps
from app.domain.calendar import business_day
from app.pipeline import silent_points
from tests.integration import rollup_site as site

NOW = datetime(2026, 10, 4, 4, tzinfo=UTC)
DAY = datetime(2026, 9, 30, 16, tzinfo=UTC)  # 1 October in Shanghai


def test_expected_received_missing_and_messages(engine: Engine) -> None:
    first = business_day(DAY)
    with engine.begin() as connection:
        plant = site.add_site(connection)
        good = site.add_point(connection, plant, "E001")
        site.add_point(connection, plant, "E002")  # never sends
        rows = [(DAY + timedelta(minutes=15 * n), 100.0 + n, 0) for n in range(49)]
        site.insert_readings(connection, good, rows)
        site.mark(connection, plant, (DAY, DAY + timedelta(days=1)))
        for first_seq, last_seq, outcome in ((5, 7, "lost"), (9, 9, None), (20, 24, "received")):
            found_at = DAY + timedelta(hours=3)
            connection.execute(
                text(
                    "INSERT INTO sequence_gap (gateway_id, epoch, lane, from_seq, to_seq, found_at, outcome, closed_at)"
                    " VALUES (:g, 'e', 0, :f, :t, :at, :o, :closed)"
                ),
                {
                    "g": plant.gateway_id,
                    "f": first_seq,
                    "t": last_seq,
                    "at": found_at,
                    "o": outcome,
                    "closed": found_at if outcome else None,
                },
            )
    site.roll_up(engine)
    with engine.connect() as connection:
        days = gaps.ledger(connection, plant.gateway_id, first, first + timedelta(days=2), NOW)
        assert [(row["day"], row["windows_expected"], row["windows_received"]) for row in days] == [
            (first, 192, 48),
            (first + timedelta(days=1), 192, 0),
        ]
        messages = [(row["messages_missing"], row["messages_lost"], row["messages_recovered"]) for row in days]
        assert messages == [(1, 3, 5), (0, 0, 0)]
        assert [(gap["from_seq"], gap["to_seq"]) for gap in gaps.open_gaps(connection, plant.gateway_id, 9)] == [(9, 9)]
        half_a_day = gaps.ledger(
            connection, plant.gateway_id, first, first + timedelta(days=2), DAY + timedelta(hours=12)
        )
        assert [row["windows_expected"] for row in half_a_day] == [96, 0]
        silent = gaps.silent_points(connection, plant.gateway_id, DAY + timedelta(hours=13))
        assert [(row["code"], row["last_at"]) for row in silent] == [("E002", None)]


def test_a_silent_point_has_a_finding_while_it_is_silent(engine: Engine) -> None:
    query = text(
        "SELECT p.code, f.from_at, f.to_at, f.closed_at, f.note FROM finding f JOIN point p ON p.id = f.point_id"
        " WHERE f.reason = 'silent' ORDER BY f.id"
    )

    def found() -> list[tuple[object, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]

    with engine.begin() as connection:
        plant = site.add_site(connection)
        good, quiet = site.add_point(connection, plant, "E001"), site.add_point(connection, plant, "E002")
        site.insert_readings(connection, quiet, [(DAY, 1.0, 0)])
        site.insert_readings(connection, good, [(DAY + timedelta(minutes=15 * n), 100.0 + n, 0) for n in range(4)])
    at = DAY + timedelta(hours=1)
    assert silent_points.look(engine, at) == 0  # three intervals are allowed
    with engine.begin() as connection:
        site.insert_readings(connection, good, [(DAY + timedelta(minutes=75), 105.0, 0)])
    at = DAY + timedelta(minutes=80)
    assert silent_points.look(engine, at) == 1
    assert silent_points.look(engine, at + timedelta(hours=5)) == 0  # the whole gateway silent: nothing new
    assert found() == [("E002", DAY, DAY + timedelta(minutes=75), None, None)]
    with engine.begin() as connection:
        again = DAY + timedelta(hours=6)
        site.insert_readings(connection, quiet, [(again, 2.0, 0)])
    assert silent_points.look(engine, again) == 2  # it sends again, and now the other one is behind
    assert found() == [
        ("E002", DAY, again, again, "sends again"),
        ("E001", DAY + timedelta(minutes=75), again, None, None),
    ]
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE point_assignment SET to_at = :at WHERE point_id = :p"), {"at": again, "p": good}
        )
    assert silent_points.look(engine, again + timedelta(hours=1)) == 1
    assert found()[1][3:] == (again + timedelta(hours=1), "out of service")


def test_one_look_at_a_time(engine: Engine) -> None:
    with engine.begin() as connection:
        assert gaps.try_lock_silence(connection)
        with engine.begin() as other:
            assert not gaps.try_lock_silence(other)
