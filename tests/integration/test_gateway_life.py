"""A gateway's life end to end: account, password, switched off and on, missing messages; real broker, real ingest."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import broker as accounts
from app import cli, settings
from app.settings import Settings as AppSettings
from deploy.local.broker import Broker
from simulators.gateway import Broker as Address
from simulators.gateway import Gateway as Device
from simulators.loop import Loop
from simulators.store import Store
from tests.integration.ingest_site import Site, build_site, reading
from tests.integration.registry_site import session
from tests.integration.test_ingest_service import (
    PASSWORD,
    eventually,
    make_accounts,
    opened,
    running,
    settings_of,
)

Nenghao = Callable[..., str]


@pytest.fixture
def code() -> str:
    return f"gw-life-{secrets.token_hex(4)}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened_store = Store(tmp_path / "store.sqlite")
    yield opened_store
    opened_store.close()


@pytest.fixture
def site(database_url: str, code: str) -> Site:
    return build_site(database_url, code)


def _nenghao(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    settings.load.cache_clear()
    monkeypatch.setattr("sys.argv", ["nenghao", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    return capsys.readouterr().out.strip()


@pytest.fixture
def nenghao(
    database_url: str, broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Nenghao]:
    user, password = broker.admin_credentials
    monkeypatch.setenv("NENGHAO_DATABASE_URL", database_url)
    monkeypatch.setenv("NENGHAO_BROKER_PORT", str(broker.port))
    monkeypatch.setenv("NENGHAO_BROKER_ADMIN_USER", user)
    monkeypatch.setenv("NENGHAO_BROKER_ADMIN_PASSWORD", password)
    yield lambda *words: _nenghao(monkeypatch, capsys, *words)
    settings.load.cache_clear()


def _app_settings(broker: Broker, **more: object) -> AppSettings:
    user, password = broker.admin_credentials
    given = {"database_url": "postgresql://unused", "broker_port": broker.port, "broker_admin_user": user}
    return AppSettings(**{**given, "broker_admin_password": password, **more})  # type: ignore[arg-type]


def test_an_account_is_rotated_disabled_and_enabled(
    nenghao: Nenghao, site: Site, broker: Broker, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.store.ladder.BELIEVED_S", 0.0)
    admin = _app_settings(broker)
    accounts.ensure_service_account(admin, PASSWORD)
    passwords = {code: nenghao("gateways", "rotate", code).split()[-1]}  # one without account gets one
    with running(settings_of(site.url, broker)):
        with opened(code, passwords, broker) as gateway:
            gateway.send(0, [reading(0, 1.0)])
            gateway.wait(10)
            assert gateway.acks[0][0]["accepted"] == 1
        old = passwords[code]
        passwords[code] = nenghao("gateways", "rotate", code).split()[-1]
        with session(admin, code, old) as refused:
            assert not refused.is_connected
        assert nenghao("gateways", "disable", code) == f"{code} is disabled"
        with session(admin, code, passwords[code]) as refused:
            assert not refused.is_connected
        # Even where the broker lets it in, by mistake or for a moment longer, its readings are not taken.
        accounts.set_enabled(admin, code, is_enabled=True)
        with opened(code, passwords, broker) as gateway:
            gateway.send(1, [reading(1, 2.0)])
            gateway.wait(10)
            assert gateway.acks[1][0]["rejected"] == [{"index": None, "reason": "gateway_disabled"}]
        assert nenghao("gateways", "enable", code) == f"{code} is enabled"
        with opened(code, passwords, broker) as gateway:
            gateway.send(2, [reading(2, 3.0)])
            gateway.wait(10)
            assert gateway.acks[2][0]["accepted"] == 1
    assert site.query("SELECT value FROM reading ORDER BY ts") == [(1.0,), (3.0,)]


def test_missing_messages_are_asked_for_and_come_or_are_lost(
    site: Site, broker: Broker, code: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 80 messages do not come: one the device still has, the other it lost for good."""
    monkeypatch.setattr("ingest.service.GAPS_EVERY_S", 0.2)
    monkeypatch.setattr("ingest.service.HOUSEKEEPING_S", 0.2)
    password = make_accounts(site.url, broker, code)[code]
    device = Device(code, password, store, Address(port=broker.port))
    bodies = [(f'"readings":[{json.dumps(reading(n, float(n)))}]', 1) for n in range(80)]
    store.append(code, "live", bodies)
    store.commit()
    first = store.connection.execute("SELECT min(seq) FROM message").fetchone()[0]
    late, lost = first + 5, first + 9
    kept = store.connection.execute("SELECT * FROM message WHERE seq = ?", (late,)).fetchone()
    store.connection.execute("DELETE FROM message WHERE seq IN (?, ?)", (late, lost))
    store.commit()
    loop = Loop(store, [device])
    with running(settings_of(site.url, broker)):
        assert loop.run_until(lambda: site.count("receipt") == 78, 20)
        store.connection.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", kept)
        store.commit()
        closed = "SELECT from_seq, to_seq, outcome, request_count FROM sequence_gap WHERE outcome IS NOT NULL"
        end_s = time.monotonic() + 20
        while len(site.query(closed)) < 2:
            loop.turn(0.1)
            assert time.monotonic() < end_s, site.query("SELECT * FROM sequence_gap")
    loop.close()
    assert sorted(site.query(closed)) == [(late, late, "received", 1), (lost, lost, "lost", 1)]
    assert site.count("reading") == 79


def test_everything_goes_over_tls(tls_broker: Broker, authority: Path, site: Site, code: str, store: Store) -> None:
    """The service's account management, ingest and a device, on the listener with a certificate."""
    assert tls_broker.tls is not None
    port, ca_file = tls_broker.tls.port, authority / "ca.crt"
    admin = _app_settings(tls_broker, broker_host="localhost", broker_port=port, broker_ca_file=ca_file)
    accounts.ensure_service_account(admin, PASSWORD)
    password = accounts.ensure_gateway_accounts(admin, [code])[code]
    store.append(code, "live", [(f'"readings":[{json.dumps(reading(n, float(n)))}]', 1) for n in range(200)])
    store.commit()
    secure = {"broker_host": "localhost", "broker_port": port, "broker_ca_file": ca_file}
    with running(settings_of(site.url, tls_broker).model_copy(update=secure)):
        stranger = Device(code, password, store, Address("localhost", port, Path(__file__)))
        stranger.connect(time.monotonic())
        assert stranger.refusal is not None  # a file that holds no authority is told, not ignored
        loop = Loop(store, [Device(code, password, store, Address("localhost", port, ca_file))])
        assert loop.run_until(lambda: store.depth(code) == 0, 20)
        loop.close()
    eventually(lambda: site.count("reading") == 200)
