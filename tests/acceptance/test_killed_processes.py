"""SIGKILL for each process in turn while the city streams: all come back, and the totals equal what was sent."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from deploy.local.folder import scratch_folder
from deploy.local.unpack import ServerPrograms
from tests.acceptance.figures import wait_until_figures_are_what_was_sent
from tests.acceptance.installation import Installation, wait_for


@pytest.fixture
def streaming(programs: ServerPrograms) -> Iterator[Installation]:
    """A city that has only just begun to send its history: the kills fall into the heaviest traffic."""
    with scratch_folder() as folder:
        installation = Installation(folder / "city", speed_up=900).start()
        try:
            yield installation
        finally:
            installation.stop()


def _sent(city: Installation) -> int:
    done = city.command("nenghao-sim", "fleet", "totals", "--state", str(city.folder / "fleet"))
    return sum(gateway["handled"] for gateway in json.loads(done.stdout)["gateways"])


def test_kill_each_in_turn(streaming: Installation) -> None:
    for victim in ("ingest", "worker", "api", "mosquitto", "postgres", "ingest", "fleet"):
        killed = streaming.pids(victim)
        assert killed, f"no {victim} to kill"
        for pid in killed[:1] if victim == "postgres" else killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(f"{victim} to come back", lambda v=victim, k=killed: set(streaming.pids(v)) - set(k), 30)
        wait_for("the API to be ready", lambda: streaming.get("/health/ready"), 60)
        before = _sent(streaming)
        wait_for(f"readings after {victim} came back", lambda b=before: _sent(streaming) > b, 60)
    wait_until_figures_are_what_was_sent(streaming, 120)
