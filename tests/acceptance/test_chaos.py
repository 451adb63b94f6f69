"""Kills, cuts and moved clocks while gateways stream: nothing is lost, nothing is counted twice."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.folder import scratch_folder
from deploy.local.unpack import ServerPrograms
from simulators.chaos.ledger import Ledger
from simulators.chaos.site import store_path
from simulators.store import Store
from tests.acceptance.installation import Installation

KILLS = int(os.environ.get("NENGHAO_CHAOS_KILLS", "12"))
SEED = int(os.environ.get("NENGHAO_CHAOS_SEED", "1"))
STREAMS = 3
STORED = """
    SELECT g.code, p.code, extract(epoch FROM r.ts)::bigint, r.value
    FROM reading r JOIN point p ON p.id = r.point_id JOIN gateway g ON g.id = p.gateway_id
    WHERE g.code LIKE %s
"""


@pytest.fixture
def service(programs: ServerPrograms) -> Iterator[Installation]:
    """The service without its simulated city: the gateways of the run are the only ones."""
    with scratch_folder() as folder:
        installation = Installation(folder / "service", environment={"NENGHAO_CITY": "off"}).start()
        try:
            yield installation
        finally:
            installation.stop()


def _chaos(service: Installation, state: Path) -> dict[str, Any]:
    words = [
        *("chaos", "--kills", str(KILLS), "--seed", str(SEED), "--streams", str(STREAMS), "--state", str(state)),
        *("--processes", str(service.folder / "processes.json"), "--key", service.key),
        *("--api", f"http://127.0.0.1:{service.ports['api']}", "--port", str(service.ports["mosquitto"])),
    ]
    done = service.command("nenghao-sim", *words, check=False, timeout_s=120 + 30 * KILLS)
    print(done.stdout, done.stderr)
    assert done.returncode in (0, 1), done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _acknowledged(state: Path) -> dict[tuple[str, str, int], float]:
    """Every reading that a gateway was told is accepted or duplicate, with its value."""
    found = {}
    for number in range(STREAMS):
        store = Store(store_path(state, number), is_read_only=True)
        found |= Ledger(store).counted()
        store.close()
    return found


@pytest.mark.slow
@pytest.mark.timeout(240 + 30 * max(0, KILLS - 12))
def test_kills_cuts_and_moved_clocks_lose_nothing(service: Installation, tmp_path: Path) -> None:
    result = _chaos(service, tmp_path / "chaos")
    assert sum(result["kills"].values()) == KILLS
    assert set(result["kills"]) == {"ingest-1", "ingest-2", "worker", "postgres", "mosquitto"} | {
        f"gateways-{number + 1}" for number in range(STREAMS)
    }
    assert result["cuts"] > 0
    assert result["clock_jumps"] > 0
    # Everything is answered; what was refused is the readings of a clock that went to tomorrow, nothing else.
    assert result["waiting_messages"] == 0
    assert set(result["reasons"]) <= {"in_future"}
    assert result["disputed"] == 0
    assert result["unequal"] == []
    assert result["holds"]
    acknowledged = _acknowledged(tmp_path / "chaos")
    assert len(acknowledged) > 1000
    with psycopg.connect(service.settings()["NENGHAO_DATABASE_URL"]) as connection:
        rows = connection.execute(STORED, [f"gw-{result['site']}-%"]).fetchall()
    stored = {(gateway, point, at_s): value for gateway, point, at_s, value in rows}
    assert len(stored) == len(rows)
    assert stored == acknowledged
    if service.command("nenghao", "verify", "--help", check=False).returncode == 0:
        service.command("nenghao", "verify")
