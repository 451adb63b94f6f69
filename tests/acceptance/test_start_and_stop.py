"""`make run` ends every process it started, and a second one finds the data of the first."""

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from deploy.local.folder import scratch_folder
from deploy.local.unpack import ServerPrograms
from tests.acceptance.figures import months_ago
from tests.acceptance.installation import Installation, wait_for

# Servers, set-up and service, on a machine that also runs other tests; alone it takes 5 s.
SECOND_START_S = 30.0
LINES = 28  # of the simulated city; each has a figure of last month in the end


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if _state(pid) not in (None, "Z")]


def _state(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def _ratios(city: Installation) -> dict[int, str]:
    items = city.get(f"/api/v1/ratios?from_month={months_ago(1)}&to_month={months_ago(1)}")["items"]
    return {item["line_id"]: item["actual"] for item in items if item["actual"]}


@pytest.fixture
def city(programs: ServerPrograms) -> Iterator[Installation]:
    with scratch_folder() as folder:
        installation = Installation(folder / "city").start()
        yield installation
        if installation.process is not None and installation.process.poll() is None:
            installation.stop()


def test_ctrl_c_and_sigterm_leave_nothing_and_the_data_stays(city: Installation) -> None:
    wait_for("a ratio of every line that has one", lambda: len(_ratios(city)) == LINES, 90)
    started, before = city.everything(), _ratios(city)
    assert len(started) >= 8
    assert city.pids("postgres")
    assert city.pids("mosquitto")
    assert city.stop(signal.SIGINT) == 0
    assert _alive(started) == []
    assert city.pids("postgres") == city.pids("mosquitto") == []
    begun = time.monotonic()
    city.start()
    assert time.monotonic() - begun < SECOND_START_S
    assert _ratios(city) == before
    asked = subprocess.run(
        ["bash", "-ec", f". {city.folder}/secrets/shell; nenghao verify; curl -sf $NENGHAO_API/../../health/ready"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stdout + asked.stderr
    started = city.everything()
    assert city.stop(signal.SIGTERM) == 0
    assert _alive(started) == []
