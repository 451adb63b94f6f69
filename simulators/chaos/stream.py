"""One process of gateways that stream a timeline of their own, as fast as they are told, until they are told to finish.

A gateway's timeline begins in the past and is a function of (seed, gateway's number, tick) alone, so that a killed
process goes on where it was. Now and then a stretch comes on the backfill lane, or a message is written twice. What the
process is told comes as JSON lines on its standard input, the first of which is its Order. When the input ends, so
does the process.
"""

import json
import queue
import sys
import threading
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simulators.chaos.ledger import Ledger
from simulators.chaos.site import site_plan
from simulators.faults import Faults
from simulators.gateway import Ack, Broker, Gateway
from simulators.loop import Loop
from simulators.sampling import Body, Sampler
from simulators.shapes import draw
from simulators.store import Store
from simulators.truth import DAY_S, INSTALLED_DAY, QUARTER_S, Meter, day_number, day_start_s

START_S = day_start_s(INSTALLED_DAY + 2)  # a clock set back stays behind the installation
BACKFILL_ONE_IN, TWICE_ONE_IN = 12, 15
LONGEST_STRETCH = 24  # quarter hours of a stretch on the backfill lane
JUMPED_TICKS = 6  # messages until a moved clock is set right


@dataclass(frozen=True, slots=True)
class Order:
    """What a stream is to do: its gateways of the site `name` (of `site_size`), the pace, the broker.

    Each gateway writes `ticks_per_s` messages a second (0: sends what its queue holds, and finishes), each with
    `quarters` instants of all its points. Where `is_live_only`, no stretch comes on the backfill lane.
    """

    name: str
    site_size: int
    passwords: dict[str, str]
    store: str
    host: str
    port: int
    seed: int = 1
    ticks_per_s: float = 4.0
    quarters: int = 1
    is_live_only: bool = False

    def line(self) -> str:
        """Return it as the first line of the process's input."""
        return json.dumps(asdict(self))


class Stream:
    """The gateways of an Order. One thread; `step` is called over and over."""

    def __init__(self, order: Order, now_s: float) -> None:
        self.order = order
        self.store = Store(Path(order.store))
        self.ledger = Ledger(self.store)
        plan = [one for one in site_plan(order.name, order.site_size) if one.gateway in order.passwords]
        nothing = Faults(frozenset(), order.seed, [])
        self.samplers = {e.gateway: Sampler([Meter(p, order.seed) for p in e.points], nothing) for e in plan}
        broker = Broker(order.host, order.port)
        self.gateways = {
            code: Gateway(code, order.passwords[code], self.store, broker, on_ack=self._on_ack)
            for code in self.samplers
        }
        self.loop = Loop(self.store, list(self.gateways.values()))
        self.is_finishing = order.ticks_per_s == 0
        self.acks: list[Ack] = []
        self._next_tick_at_s = dict.fromkeys(self.samplers, now_s)
        self._jumps: dict[str, tuple[int, int]] = {}  # gateway: (offset, messages left)

    def step(self, now_s: float) -> None:
        """Write what is due, then let the gateways work for at most a tenth of a second."""
        if self.is_finishing:
            self.loop.turn(0.1)
            return
        period_s = 1 / self.order.ticks_per_s
        for code, due_at_s in self._next_tick_at_s.items():
            if due_at_s <= now_s:
                self._tick(code)
                self._next_tick_at_s[code] = max(due_at_s + period_s, now_s - 5 * period_s)
        wait_s = min(self._next_tick_at_s.values()) - now_s
        self.loop.turn(max(0.0, min(0.1, wait_s)))

    def obey(self, command: dict[str, Any]) -> None:
        """Do what a line of the input says."""
        if command["do"] == "finish":
            self.is_finishing = True
        elif command["do"] == "cut":
            self.gateways[command["gateway"]].abort()
        elif command["do"] == "clock":
            self._move_clock(command["gateway"], command["offset_s"])

    @property
    def is_done(self) -> bool:
        """Whether nothing more is written and everything is answered."""
        return self.is_finishing and not any(self.store.depth(code) for code in self.gateways)

    def close(self) -> None:
        """Disconnect in good order and let go of the store."""
        self.loop.close()
        self.store.close()

    def _on_ack(self, ack: Ack) -> None:
        self.ledger.note(ack)
        self.acks.append(ack)

    def _move_clock(self, code: str, offset_s: int | None) -> None:
        through_s, _ = self.ledger.progress(code, START_S)
        if offset_s is None:  # tomorrow
            offset_s = int(time.time()) // QUARTER_S * QUARTER_S + DAY_S - through_s
        self._jumps[code] = (offset_s, JUMPED_TICKS)
        self.gateways[code].clock = lambda: time.time() + offset_s

    def _chance(self, code: str, ticks: int) -> int:
        """Draw by the gateway's number: its name differs from run to run."""
        _, _, number = code.rpartition("-")
        return draw(zlib.crc32(f"{self.order.seed}/{number}".encode()), ticks)

    def _tick(self, code: str) -> None:
        """Write one live message, or a stretch on the backfill lane; with a moved clock, the timeline stands still."""
        through_s, ticks = self.ledger.progress(code, START_S)
        offset_s, left = self._jumps.pop(code, (0, 0))
        if left:
            self.ledger.write(code, [("live", self._live(code, through_s + offset_s)[0])], through_s, ticks + 1)
            if left > 1:
                self._jumps[code] = (offset_s, left - 1)
            else:
                self.gateways[code].clock = time.time
            return
        if through_s > time.time() - 2 * DAY_S:
            return  # the timeline has come to the present: nothing more to tell
        chance = self._chance(code, ticks)
        if chance % BACKFILL_ONE_IN == 0 and not self.order.is_live_only:
            quarters = max(self.order.quarters, 1 + chance // BACKFILL_ONE_IN % LONGEST_STRETCH)
            lane, (body, to_s) = "backfill", self._window(code, through_s, quarters)
        else:
            lane, (body, to_s) = "live", self._live(code, through_s)
        copies = 2 if chance % TWICE_ONE_IN == 0 else 1
        self.ledger.write(code, [(lane, body)] * copies, to_s, ticks + 1)

    def _live(self, code: str, from_s: int) -> tuple[Body, int]:
        if self.order.quarters > 1:
            return self._window(code, from_s, self.order.quarters)
        return self.samplers[code].sample(from_s + QUARTER_S), from_s + QUARTER_S

    def _window(self, code: str, from_s: int, quarters: int) -> tuple[Body, int]:
        """Return the readings of the next `quarters`, or of what is left of the business day, and where they end."""
        to_s = min(from_s + quarters * QUARTER_S, day_start_s(day_number(from_s + 1) + 1))
        return self.samplers[code].window(from_s, to_s), to_s


def _listen(commands: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def main() -> None:
    """Run the stream of the Order on standard input; exits 0 when it was told to finish and everything is answered."""
    stream = Stream(Order(**json.loads(sys.stdin.readline())), time.monotonic())
    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    try:
        while not stream.is_done:
            stream.step(time.monotonic())
            stream.acks.clear()
            while not commands.empty():
                command = commands.get()
                if command is None:
                    sys.exit(1)  # whoever gave the order is gone
                stream.obey(command)
    finally:
        stream.close()


if __name__ == "__main__":
    main()
