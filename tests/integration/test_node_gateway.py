"""A gateway in another language, written against the AsyncAPI document alone, gets its acks; also all over TLS."""

import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.broker import Broker
from deploy.local.folder import local_folder
from tests.integration.ingest_site import Site, build_site
from tests.integration.test_ingest_service import make_accounts, running, settings_of

SOURCE = Path(__file__).resolve().parents[1] / "node_gateway"
READINGS = 23

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="this machine has no Node.js")


@pytest.fixture(scope="session")
def program() -> Path:
    """The Node gateway with its pinned packages, installed once into a git-ignored folder."""
    folder = local_folder() / "node_gateway"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "gateway.mjs"):
        shutil.copy(SOURCE / name, folder / name)
    lock = (folder / "package-lock.json").read_bytes()
    stamp = folder / "installed-lock.json"
    if not stamp.exists() or stamp.read_bytes() != lock:
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)
        stamp.write_bytes(lock)
    return folder / "gateway.mjs"


@pytest.fixture
def code() -> str:
    return f"gw-node-{secrets.token_hex(4)}"


@pytest.fixture
def site(database_url: str, code: str) -> Site:
    return build_site(database_url, code)


def _run(
    program: Path, url: str, code: str, password: str, authority: Path | None = None
) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ)
    if authority is not None:
        env["NODE_EXTRA_CA_CERTS"] = str(authority / "ca.crt")
    words = ["node", str(program), url, code, password, "E000", str(READINGS)]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=90, check=False)


def _check(done: subprocess.CompletedProcess[str], site: Site) -> None:
    assert done.returncode == 0, done.stderr
    acks = json.loads(done.stdout)["acks"]
    assert sorted(ack["seq"] for ack in acks) == [0, 1, 2, 3, 4]
    assert sum(ack["accepted"] for ack in acks) == READINGS
    assert all(ack["lane"] == "live" and ack["rejected"] == [] for ack in acks)
    assert site.query("SELECT count(*), min(value), max(value) FROM reading") == [(READINGS, 1000.0, 1022.0)]
    assert site.query("SELECT count(*) FROM receipt") == [(5,)]


def test_its_packages_are_pinned_without_an_address() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text())
    packages = {name: facts for name, facts in lock["packages"].items() if name}
    assert all("integrity" in facts and "resolved" not in facts for facts in packages.values())
    assert lock["packages"][""]["dependencies"] == {"mqtt": packages["node_modules/mqtt"]["version"]}


def test_it_gets_its_acks(program: Path, broker: Broker, site: Site, code: str) -> None:
    password = make_accounts(site.url, broker, code)[code]
    with running(settings_of(site.url, broker)):
        _check(_run(program, f"mqtt://127.0.0.1:{broker.port}", code, password), site)


def test_it_gets_its_acks_over_tls(program: Path, tls_broker: Broker, authority: Path, site: Site, code: str) -> None:
    assert tls_broker.tls is not None
    password = make_accounts(site.url, tls_broker, code)[code]
    url = f"mqtts://localhost:{tls_broker.tls.port}"
    secure = {"broker_host": "localhost", "broker_port": tls_broker.tls.port, "broker_ca_file": authority / "ca.crt"}
    with running(settings_of(site.url, tls_broker).model_copy(update=secure)):
        refused = _run(program, url, code, password)
        assert refused.returncode != 0
        assert "certificate" in refused.stderr
        _check(_run(program, url, code, password, authority), site)


def test_a_wrong_password_is_refused(program: Path, broker: Broker, site: Site, code: str) -> None:
    make_accounts(site.url, broker, code)
    done = _run(program, f"mqtt://127.0.0.1:{broker.port}", code, "wrong")
    assert done.returncode == 2
    assert "not authorized" in done.stderr.lower()
