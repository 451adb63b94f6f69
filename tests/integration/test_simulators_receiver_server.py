"""The receiver as a program: what it answers over HTTP, prints and logs, and how it ends."""

import base64
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from standardwebhooks import Webhook

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
BODY = json.dumps({"type": "alert.opened", "data": {"period": "2026-10", "actual": "120.9"}})


@contextmanager
def receiver(*more: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    command = [sys.executable, "-m", "simulators", "receiver", "--port", "0", "--secret", SECRET, *more]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def post(url: str, *, message_id: str = "msg_1", secret: str = SECRET) -> httpx2.Response:
    at = datetime.now(UTC)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, BODY),
    }
    return httpx2.post(url, content=BODY, headers=headers, timeout=5, trust_env=False, follow_redirects=False)


def test_it_verifies_refuses_deduplicates_logs_and_ends(tmp_path: Path) -> None:
    log = tmp_path / "received.jsonl"
    other = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    with receiver("--log", str(log)) as (url, process):
        statuses = [post(url).status_code, post(url).status_code, post(url, secret=other).status_code]
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=10)
        assert time.monotonic() - began_s < 2
    assert statuses == [200, 200, 401]
    assert process.returncode == 0
    assert printed.count("签名已验证 signature verified") == 1
    assert "REFUSED" in printed
    outcomes = [json.loads(line)["outcome"].partition(":")[0] for line in log.read_text("utf-8").splitlines()]
    assert outcomes == ["verified", "duplicate", "refused"]


@pytest.mark.parametrize(("fail", "status"), [("500", 500), ("410", 410), ("redirect", 302), ("503", 503)])
def test_it_fails_as_asked_and_then_recovers(fail: str, status: int) -> None:
    with receiver("--fail", fail, "--fail-first", "1") as (url, _):
        assert [post(url).status_code, post(url).status_code] == [status, 200]


def test_it_can_be_slow_and_can_drop_the_connection() -> None:
    with receiver("--fail", "drop") as (url, _), pytest.raises(httpx2.HTTPError):
        post(url)
    with receiver("--fail", "slow") as (url, process):
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(url, content=BODY, timeout=0.3, trust_env=False)
        process.terminate()
        assert process.wait(timeout=5) == 0
