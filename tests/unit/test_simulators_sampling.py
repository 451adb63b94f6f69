"""What gateways write: windows of the past and samples of the present say the same, and faults are as described."""

import json
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulators.faults import KINDS, FaultError, Faults
from simulators.fleet import first_of_previous_month
from simulators.journal import Journal
from simulators.replay import ReplayError, as_register, bodies, read_intervals
from simulators.sampling import Body, Sampler, window_readings
from simulators.store import Store, StoreError
from simulators.truth import DAY_S, QUARTER_S, City, day_start_s, number_of

CITY = City(seed=1)
CODES = [enterprise.gateway for enterprise in CITY.plan]
NONE = Faults(frozenset(), 1, CODES)
START_S = day_start_s(number_of(date(2026, 10, 1)))


def sampler(gateway: str, faults: Faults = NONE) -> Sampler:
    return Sampler([meter for (code, _), meter in CITY.meters.items() if code == gateway], faults)


def flat(body: Body) -> dict[tuple[str, float], float]:
    """Return (point, instant) -> value of a message, whichever way it is written."""
    content: dict[str, Any] = json.loads("{" + body.members + "}")
    values = {
        (r["point"], datetime.fromisoformat(r["ts"]).timestamp()): r["value"] for r in content.get("readings", [])
    }
    for series in content.get("series", []):
        start_s = datetime.fromisoformat(series["start"]).timestamp()
        values |= {
            (series["point"], start_s + place * series["step_s"]): value for place, value in enumerate(series["values"])
        }
    return values


@pytest.mark.parametrize("gateway", ["gw-clinker-01", "gw-tissue-01", "gw-dc-01"])
def test_windows_join_without_gap_or_overlap_and_equal_samples(gateway: str) -> None:
    """However the past is cut, it comes to the same readings as sampling every quarter hour."""
    make = sampler(gateway)
    cuts = [START_S - 1, START_S, START_S + 5 * QUARTER_S, START_S + 5 * QUARTER_S + 137, START_S + DAY_S]
    windows = [make.window(a, b) for a, b in pairwise(cuts)]
    joined: dict[tuple[str, float], float] = {}
    for window in windows:
        assert not joined.keys() & flat(window).keys()
        joined |= flat(window)
    sampled: dict[tuple[str, float], float] = {}
    for at_s in range(START_S, START_S + DAY_S + 1, QUARTER_S):
        sampled |= flat(make.sample(at_s))
    before = {key: value for key, value in sampled.items() if key[1] < START_S}  # the interval that ends at START_S
    assert joined == {key: value for key, value in sampled.items() if key not in before}
    assert sum(window.readings for window in windows) == len(joined)


def test_an_interval_is_sent_only_when_a_quarter_hour_ends() -> None:
    make = sampler("gw-clinker-01")
    assert ("C101", START_S) in flat(make.sample(START_S + QUARTER_S))
    assert "C101" not in {point for point, _ in flat(make.sample(START_S + QUARTER_S + 10))}


def test_values_on_the_wire_are_the_truth_to_the_last_decimal() -> None:
    values = flat(sampler("gw-clinker-01").window(START_S, START_S + DAY_S))
    for at_s in (START_S + QUARTER_S, START_S + DAY_S):
        assert Decimal(repr(values["E101", at_s])) == CITY.register_at("gw-clinker-01", "E101", at_s)


def test_expected_number_of_edges() -> None:
    assert window_readings(START_S - 1, START_S + DAY_S) == 97
    assert window_readings(START_S, START_S + DAY_S) == 96
    assert window_readings(START_S + 1, START_S + 899) == 0


def victim(kind: str) -> tuple[str, Faults]:
    faults = Faults(frozenset({kind}), 1, CODES)
    return next(code for code in CODES if faults.befalls(kind, code)), faults


def test_a_register_starts_again_on_the_tenth() -> None:
    gateway, faults = victim("register-reset")
    reset_s = day_start_s(number_of(date(2026, 10, 10))) + 10 * 3600
    values = flat(sampler(gateway, faults).window(reset_s - 3600, reset_s + 3600))
    point = next(p.code for e in CITY.plan if e.gateway == gateway for p in e.points if p.signal == "register")
    before, after, later = (values[point, at_s] for at_s in (reset_s - QUARTER_S, reset_s, reset_s + QUARTER_S))
    assert before > later > after == 0


def test_a_wrong_unit_lasts_a_day() -> None:
    gateway, faults = victim("wrong-unit")
    noon_s = day_start_s(number_of(date(2026, 10, 15))) + DAY_S // 2
    wrong, right = (flat(sampler(gateway, f).sample(noon_s)) for f in (faults, NONE))
    altered = [key for key in right if wrong[key] != right[key]]
    assert len(altered) == 1
    assert Decimal(repr(wrong[altered[0]])) == 1000 * Decimal(repr(right[altered[0]]))
    assert flat(sampler(gateway, faults).sample(noon_s + DAY_S)) == flat(sampler(gateway).sample(noon_s + DAY_S))


def test_every_fault_befalls_some_gateways_and_an_unknown_one_is_named() -> None:
    faults = Faults(frozenset(KINDS), 1, CODES)
    for kind in KINDS:
        assert 1 <= sum(faults.befalls(kind, code) for code in CODES) <= len(CODES) // 4
    with pytest.raises(FaultError, match="lightning"):
        Faults(frozenset({"lightning"}), 1, CODES)


def test_history_begins_with_the_previous_month() -> None:
    at = datetime.fromisoformat
    assert first_of_previous_month(at("2026-11-24T08:00:00+08:00").timestamp()) == date(2026, 10, 1)
    assert first_of_previous_month(at("2026-01-01T00:00:00+08:00").timestamp()) == date(2025, 12, 1)
    assert first_of_previous_month(at("2026-02-28T23:59:59+08:00").timestamp()) == date(2026, 1, 1)


def test_a_restart_opens_a_hole_exactly_where_writing_stopped(tmp_path: Path) -> None:
    store = Store(tmp_path / "fleet.sqlite")
    journal = Journal(store)
    journal.begin("gw-dc-01", START_S, START_S + DAY_S)
    first = journal.holes("gw-dc-01")[0]
    assert (first.from_s, first.to_s) == (START_S - 1, START_S + DAY_S)
    journal.write_window(first, START_S + 7200, sampler("gw-dc-01").window(first.from_s, START_S + 7200))
    journal.write_live("gw-dc-01", [sampler("gw-dc-01").sample(START_S + DAY_S + 900)], START_S + DAY_S + 900)
    store.close()
    store = Store(tmp_path / "fleet.sqlite")
    journal = Journal(store)
    journal.begin("gw-dc-01", START_S, START_S + 2 * DAY_S)
    assert [(hole.from_s, hole.to_s) for hole in journal.holes()] == [
        (START_S + 7200, START_S + DAY_S),
        (START_S + DAY_S + 900, START_S + 2 * DAY_S),
    ]
    store.close()


def test_a_store_is_used_by_one_process_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "one.sqlite")
    with pytest.raises(StoreError, match="another simulator"):
        Store(tmp_path / "one.sqlite")
    epoch = store.epoch
    store.close()
    again = Store(tmp_path / "one.sqlite")
    assert again.epoch == epoch
    again.close()
    other = Store(tmp_path / "two.sqlite")
    assert other.epoch != epoch
    other.close()


CSV = "interval_start,usage_kwh\n2018-01-01T00:00,3.17\n2018-01-01T00:15,4\n2018-01-01T00:30,0.1\n"


def test_intervals_become_a_register_with_one_more_edge(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    readings = as_register(read_intervals(tmp_path / "a.csv", "usage_kwh", "interval_start"), Decimal("100"))
    assert [str(value) for _, value in readings] == ["100", "103.17", "107.17", "107.27"]
    assert [at.isoformat() for at, _ in readings][-1] == "2018-01-01T00:45:00+08:00"
    members, count = next(bodies(readings, "E001", 50))
    assert count == 4
    assert '"value":107.27' in members


def test_a_gap_in_the_file_is_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV + "2018-01-01T02:00,5\n")
    readings = as_register(read_intervals(tmp_path / "a.csv", "usage_kwh", "interval_start"), Decimal(0))
    assert [f"{at:%H:%M} {value}" for at, value in readings[3:]] == ["00:45 7.27", "02:00 7.27", "02:15 12.27"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval_start,kwh\n2018-01-01T00:00,1\n", "no column usage_kwh; there are: interval_start, kwh"),
        (CSV + "2018-01-01T00:45,much\n", "line 5"),
        (CSV + "2018-01-01T00:45,NaN\n", "no finite number"),
        (CSV + "yesterday,1\n", "line 5"),
        ("interval_start,usage_kwh\n2018-01-01T00:00,1\n", "at least two rows"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ReplayError, match=message):
        read_intervals(tmp_path / "a.csv", "usage_kwh", "interval_start")


def test_more_digits_than_a_double_carries_are_refused() -> None:
    at = datetime.fromisoformat("2018-01-01T00:00:00+08:00")
    with pytest.raises(ReplayError, match="15 significant"):
        list(bodies([(at, Decimal("1234567890.1234567"))], "E001", 50))
