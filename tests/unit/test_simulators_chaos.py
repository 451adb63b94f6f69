"""Chaos can be repeated from its seed, kills only whom it means, and keeps an account that can be trusted."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from simulators.chaos.blows import draw_blows
from simulators.chaos.ledger import Key, Ledger
from simulators.chaos.processes import Victim, VictimError, Victims, kill
from simulators.chaos.site import site_plan
from simulators.chaos.stream import START_S, Order, Stream
from simulators.chaos.verdict import own_sums
from simulators.gateway import Ack
from simulators.sampling import Body
from simulators.store import Store, Tally
from simulators.truth import QUARTER_S

VICTIMS, GATEWAYS = ["ingest-1", "postgres", "gateways-1"], ["gw-1", "gw-2"]


def test_blows_repeat_with_their_seed_and_nobody_is_spared() -> None:
    blows = draw_blows(12, 7, VICTIMS, GATEWAYS)
    assert blows == draw_blows(12, 7, VICTIMS, GATEWAYS)
    assert blows != draw_blows(12, 8, VICTIMS, GATEWAYS)
    kills = [blow.victim for blow in blows if blow.kind == "kill"]
    assert Counter(kills) == dict.fromkeys(VICTIMS, 4)
    assert {blow.victim for blow in blows if blow.kind == "cut"} == set(GATEWAYS)
    offsets = [blow.offset_s for blow in blows if blow.kind == "clock"]
    assert min(one for one in offsets if one is not None) < 0 < max(one for one in offsets if one is not None)
    assert None in offsets


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_process_that_only_has_the_same_id_is_not_killed(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    file, started = tmp_path / "processes.json", _started(sleeper.pid)
    file.write_text(json.dumps({"old": {"pid": sleeper.pid, "started": started - 1}}))
    with pytest.raises(VictimError, match="no running old"):
        Victims(file).wait_for("old", 0)
    assert not kill(Victim("old", sleeper.pid, started - 1))
    assert sleeper.poll() is None
    file.write_text(json.dumps({"now": {"pid": sleeper.pid, "started": started}}))
    victims = Victims(file)
    victim = victims.wait_for("now", 0)
    assert kill(victim)
    assert sleeper.wait(5) == -9
    assert not victims.is_back(victim)
    with pytest.raises(VictimError, match="no running now"):
        victims.wait_for("now", 0, other_than=victim)


def test_a_list_that_is_not_there_says_where_one_is(tmp_path: Path) -> None:
    with pytest.raises(VictimError, match=r"make run.*processes\.json"):
        Victims(tmp_path / "nowhere.json").names()


def _ack(seq: int, rejected: list[tuple[int | None, str]]) -> Ack:
    return Ack("gw-1", "live", seq, 2, Tally(), {}, rejected, 0.1)


def test_the_ledger_counts_what_was_accepted_and_nothing_else(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "store")) as store:
        ledger = Ledger(store)
        series = '"series":[{"point":"E1","start":"2026-03-01T00:00:00+08:00","step_s":900,"values":[1.0,2.0]}]'
        again = '"readings":[{"point":"E1","ts":"2026-03-01T00:15:00+08:00","value":2.0}]'
        later = again.replace("00:15", "00:45")
        for number, members in enumerate((series, again, later, later.replace("E1", "E2"))):
            ledger.write("gw-1", [("live", Body(members, 1, []))], number, number)
        assert ledger.counted() == {}
        ledger.note(_ack(1, [(0, "in_future")]))
        ledger.note(_ack(2, []))
        ledger.note(_ack(3, [(None, "seq_reused")]))  # the fourth was never answered
        assert ledger.counted() == {("gw-1", "E1", 1_772_295_300): 2.0}
        assert ledger.reasons() == {"in_future": 1, "seq_reused": 1}
        assert ledger.progress("gw-1", 0) == (3, 3)


def _order(folder: Path, name: str) -> Order:
    passwords = {enterprise.gateway: "" for enterprise in site_plan(name, 3)}
    # Nobody listens at port 9 of this machine: everything is written, nothing is sent.
    return Order(name, 3, passwords, str(folder / f"{name}.sqlite"), "127.0.0.1", 9, seed=5, ticks_per_s=1000.0)


def _step(order: Order, ticks: int) -> None:
    """Live for so many ticks: a thousandth of a second each, the first one at once."""
    with closing(Stream(order, 0.0)) as stream:
        for number in range(ticks):
            stream.step(number / 1000 + 1e-9)


def _written(order: Order) -> list[tuple[str, str]]:
    with closing(Store(Path(order.store), is_read_only=True)) as store:
        rows = store.connection.execute("SELECT gateway, lane, members FROM written ORDER BY gateway, lane, seq")
        return [(gateway.removeprefix(f"gw-{order.name}"), lane + members) for gateway, lane, members in rows]


def test_a_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, parts = _order(tmp_path, "whole"), _order(tmp_path, "whole-b")
    _step(whole, 40)
    for ticks in (1, 25, 14):
        _step(parts, ticks)
    lanes = Counter(text.partition('"')[0] for _, text in _written(whole))
    assert lanes.keys() == {"live", "backfill"}
    assert [gateway for gateway, _ in _written(parts)] == [gateway for gateway, _ in _written(whole)]
    instants = [[text.count('"ts"') + text.count(",") for _, text in _written(order)] for order in (whole, parts)]
    assert instants[0] == instants[1]


def test_own_sums_are_what_the_readings_say(tmp_path: Path) -> None:
    order = _order(tmp_path, "sums")
    _step(order, 60)
    with closing(Store(Path(order.store))) as store:
        ledger = Ledger(store)
        for gateway, lane, seq in store.connection.execute("SELECT gateway, lane, seq FROM written").fetchall():
            ledger.note(Ack(gateway, lane, seq, 1, Tally(), {}, [], None))
        counted = ledger.counted()
    plan = site_plan("sums", 3)
    sums = own_sums(plan, order.seed, counted)
    points = {(one.gateway, one.code): one for enterprise in plan for one in enterprise.points}
    assert {points[key].signal for key in sums} == {"register", "interval"}
    for key, usage in sums.items():
        values = _values(counted, *key)
        if points[key].signal == "interval":
            assert usage == sum(values)
        else:
            assert usage == (values[-1] - values[0]) * points[key].multiplier
    assert min(at_s for *_, at_s in counted) in (START_S, START_S + QUARTER_S)


def _values(counted: dict[Key, float], gateway: str, point: str) -> list[Decimal]:
    """The readings of a point in order of time, as exact numbers."""
    return [Decimal(repr(counted[key])) for key in sorted(counted) if key[:2] == (gateway, point)]
