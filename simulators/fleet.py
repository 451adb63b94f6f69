"""The city's gateways in one process: history through the backfill lane, then live by the wall clock."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from simulators.console import ProgressBar, complain, say
from simulators.faults import Faults
from simulators.gateway import ZONE, Ack, Broker, Gateway
from simulators.journal import Hole, Journal
from simulators.loop import Loop
from simulators.outputs import OutputReporter
from simulators.plan import INSTALLED_ON
from simulators.sampling import Body, Sampler, window_readings
from simulators.stop import Stop
from simulators.store import Store
from simulators.totals import STORE_FILE, summary
from simulators.truth import QUARTER_S, City, day_number, day_start_s, number_of

MOST_MISSED_TICKS = 96  # further behind (a suspended machine), the past comes through the backfill lane
HELD_TICKS = 4  # live samples that an out-of-order gateway holds
LATE_S = 3_600


class FleetError(Exception):
    """The fleet cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What `fleet run` was asked for. `passwords` by gateway code; `from_on` None: the previous month's first day."""

    passwords: dict[str, str]
    broker: Broker
    state: Path
    api_url: str | None = None
    api_key: str | None = None
    speed_up: int = 1
    faults: frozenset[str] = frozenset()
    seed: int = 1
    from_on: date | None = None


def first_of_previous_month(at_s: float) -> date:
    """Return the first day of the month before an instant's month."""
    today = datetime.fromtimestamp(at_s, ZONE).date()
    return date(today.year - (today.month == 1), (today.month - 2) % 12 + 1, 1)


class Fleet:
    """All gateways of the city for which there are passwords. One thread; `step` is called over and over."""

    def __init__(self, options: FleetOptions, now_s: float) -> None:
        self.options, self.city = options, City(options.seed)
        self.store = Store(options.state / STORE_FILE)
        _same_city(self.store, options.seed)
        self.journal = Journal(self.store)
        codes = [e.gateway for e in self.city.plan if e.gateway in options.passwords]
        if not codes:
            raise FleetError("no password fits a gateway of this city: import its registry, then use those credentials")
        self.faults = Faults(options.faults, options.seed, codes)
        self.samplers = {
            e.gateway: Sampler([self.city.meters[e.gateway, p.code] for p in e.points], self.faults)
            for e in self.city.plan
            if e.gateway in options.passwords
        }
        self.gateways = [
            Gateway(code, options.passwords[code], self.store, options.broker, on_ack=self._on_ack) for code in codes
        ]
        self.loop = Loop(self.store, self.gateways)
        self.interval_s = max(1, QUARTER_S // options.speed_up)
        self.history_done = 0  # readings of the backfill lane answered in this run
        self._held: dict[str, list[Body]] = {code: [] for code in codes}
        self._begin(codes, now_s)

    def _begin(self, codes: list[str], now_s: float) -> None:
        self.tick_s = int(now_s) // self.interval_s * self.interval_s
        from_on = self.options.from_on or first_of_previous_month(now_s)
        if not INSTALLED_ON <= from_on <= datetime.fromtimestamp(now_s, ZONE).date():
            raise FleetError(
                f"--from {from_on}: history begins between {INSTALLED_ON}, when the meters came, and today"
            )
        self.first_day = int(self.store.remember("first_day", str(number_of(from_on))))
        self.history_total = sum(self.store.waiting_readings(code, "backfill") for code in codes)
        for code in codes:
            self.journal.begin(code, day_start_s(self.first_day), self.tick_s)
            for hole in self.journal.holes(code):
                self.history_total += self._expected(hole.gateway, hole.from_s, hole.to_s)
        self._parts = self._history_parts(self.tick_s)
        self.is_history_written = False

    def _expected(self, code: str, from_s: int, to_s: int) -> int:
        return window_readings(from_s, to_s) * len(self.samplers[code].meters)

    @property
    def is_history_answered(self) -> bool:
        """Whether the whole past was written and every message of it acknowledged."""
        return self.is_history_written and self.history_done >= self.history_total

    def _history_parts(self, until_s: int) -> Iterator[tuple[Hole, int]]:
        """Yield (hole, end of the part to write now): the previous months of all first, then this month.

        One gateway after the other within each, so that the first enterprises have whole months early.
        """
        this_month = datetime.fromtimestamp(until_s, ZONE).date().replace(day=1)
        for pass_end_s in (day_start_s(number_of(this_month)), until_s):
            for gateway in self.gateways:
                for hole in self.journal.holes(gateway.code):
                    from_s = hole.from_s
                    while from_s < min(hole.to_s, pass_end_s):
                        midnight_s = day_start_s(day_number(from_s + 1) + 1)
                        part_end_s = min(hole.to_s, pass_end_s, midnight_s)
                        yield Hole(hole.rowid, hole.gateway, from_s, hole.to_s), part_end_s
                        from_s = part_end_s

    def _on_ack(self, ack: Ack) -> None:
        if ack.lane == "backfill":
            self.history_done += ack.readings
        if ack.reasons:
            complain(
                f"{ack.gateway}: {ack.answer.rejected} readings of message {ack.lane}/{ack.seq} rejected: {ack.reasons}"
            )

    def step(self, now_s: float) -> None:
        """Write what is due, then let the gateways work; returns after at most half a second."""
        self._write_history()
        while self.tick_s + self.interval_s <= now_s:
            if now_s - self.tick_s > MOST_MISSED_TICKS * self.interval_s:
                self.tick_s = int(now_s) // self.interval_s * self.interval_s
                for code in self.samplers:
                    self._send_as_history(code, self.tick_s)
                break
            self.tick_s += self.interval_s
            for code in self.samplers:
                self._write_live(code, self.tick_s)
        until_tick_s = self.tick_s + self.interval_s - now_s
        self.loop.turn(0.0 if not self.is_history_written else max(0.0, min(0.5, until_tick_s)))

    def _write_history(self) -> None:
        part = next(self._parts, None)
        self.is_history_written = part is None
        if part is not None:
            hole, to_s = part
            body = self.samplers[hole.gateway].window(hole.from_s, to_s)
            self.journal.write_window(hole, to_s, body)
            self.history_total += body.readings - self._expected(hole.gateway, hole.from_s, to_s)

    def _send_as_history(self, code: str, at_s: int) -> None:
        """Send what a gateway has not written up to an instant through the backfill lane."""
        from_s = self.journal.live_through_s(code)
        if from_s is not None and from_s < at_s:
            self.journal.begin(code, at_s, at_s)
            self.history_total += self._expected(code, from_s, at_s)
            self._parts = self._history_parts(at_s)

    def _write_live(self, code: str, at_s: int) -> None:
        if self.faults.befalls("silent", code):
            self._fall_silent(code)
            return
        if self.faults.befalls("late", code):
            if at_s % LATE_S == 0:
                self._send_as_history(code, at_s)
            return
        body = self.samplers[code].sample(at_s)
        if self.faults.befalls("out-of-order", code):
            self._held[code].insert(0, body)
            if len(self._held[code]) == HELD_TICKS:
                self.journal.write_live(code, self._held[code], at_s)
                self._held[code] = []
            return
        self.journal.write_live(code, [body], at_s, copies=2 if self.faults.befalls("duplicated", code) else 1)

    def _fall_silent(self, code: str) -> None:
        if self.is_history_answered:
            next(gateway for gateway in self.gateways if gateway.code == code).fall_silent()

    def close(self) -> None:
        """Disconnect and let go of the store."""
        self.loop.close()
        self.store.close()


def _same_city(store: Store, seed: int) -> None:
    kept = store.remember("seed", str(seed))
    if kept != str(seed):
        raise FleetError(
            f"this state belongs to the city of seed {kept}, not {seed}: use --seed {kept} or another --state"
        )


def run_fleet(options: FleetOptions, stop: Stop) -> None:
    """Run until stopped; prints progress, notices and a summary line."""
    fleet = Fleet(options, time.time())
    reporter = _reporter(fleet)
    say(
        f"{len(fleet.gateways)} gateways, sampling every {fleet.interval_s} s;"
        f" {fleet.history_total:,} readings of the past to send"
    )
    problems: set[str] = set()
    try:
        with ProgressBar("history 历史数据", fleet.history_total) as bar:
            while not stop.is_set and not fleet.is_history_answered:
                fleet.step(time.time())
                bar.show(fleet.history_done, fleet.history_total)
                _look_after(fleet, reporter, problems)
        while not stop.is_set:
            fleet.step(time.time())
            _look_after(fleet, reporter, problems)
    finally:
        if reporter is not None:
            reporter.stop()
        fleet.loop.close()
        say(summary(fleet.store))
        fleet.store.close()


def _reporter(fleet: Fleet) -> OutputReporter | None:
    options = fleet.options
    return OutputReporter(fleet.city, options.api_url, options.api_key) if options.api_url and options.api_key else None


def _look_after(fleet: Fleet, reporter: OutputReporter | None, problems: set[str]) -> None:
    """Have finished days reported; say each problem once while it lasts, and when all are over."""
    current = {gateway.refusal for gateway in fleet.gateways if gateway.refusal is not None}
    if reporter is not None:
        _report_outputs(fleet, reporter)
        current |= {reporter.problem} if reporter.problem is not None else set()
    for problem in sorted(current - problems):
        complain(problem)
    if problems and not current:
        say("all is well again 已恢复正常")
    problems.clear()
    problems |= current


def _report_outputs(fleet: Fleet, reporter: OutputReporter) -> None:
    noted = int(fleet.store.noted("outputs_through") or fleet.first_day)
    if reporter.reported_through is not None and reporter.reported_through > noted:
        noted = reporter.reported_through
        fleet.store.note("outputs_through", str(noted))
    reporter.ask_once(noted, day_number(fleet.tick_s))


def read_credentials(path: Path) -> dict[str, str]:
    """Return the passwords by gateway code of a file {"gateways": [{"code", "password"}]}."""
    try:
        body = json.loads(path.read_text("utf-8"))
        return {str(entry["code"]): str(entry["password"]) for entry in body["gateways"]}
    except OSError as error:
        raise FleetError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FleetError(
            f'{path}: no credentials of the form {{"gateways": [{{"code", "password"}}]}}; it is the file that'
            " `nenghao registry import --credentials` writes"
        ) from error
