"""The local runtime with real servers: what they refuse, and what survives a crash."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
import pytest

from deploy.local.broker import Broker, broker_folder
from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import FolderLock, local_folder, remove_folder, scratch_folder
from deploy.local.ports import free_port, is_free, kept_ports
from deploy.local.postgres import Postgres, data_folder
from deploy.local.processes import working_in
from deploy.local.unpack import ServerPrograms, ensure_servers


@pytest.fixture(scope="module")
def programs() -> ServerPrograms:
    return ensure_servers(local_folder(), print)


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


@pytest.fixture
def postgres(programs: ServerPrograms, folder: Path) -> Iterator[Postgres]:
    server = Postgres(programs, folder, free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker(programs: ServerPrograms, folder: Path) -> Iterator[Broker]:
    server = Broker(programs, folder, free_port())
    server.start()
    yield server
    server.stop()


def wait_for(condition: Callable[[], Any], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# PostgreSQL


def test_postgres_has_timescaledb_and_keeps_its_durability(postgres: Postgres) -> None:
    postgres.ensure_database("nenghao")
    postgres.ensure_database("nenghao")
    with psycopg.connect(postgres.dsn()) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute("CREATE EXTENSION btree_gist")
        connection.execute("CREATE TABLE r (ts timestamptz NOT NULL, v double precision)")
        connection.execute("SELECT create_hypertable('r', 'ts')")
        names = ("fsync", "synchronous_commit", "full_page_writes", "server_encoding", "TimeZone")
        values = [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]
        assert values == ["on", "on", "on", "UTF8", "UTC"]
        assert connection.execute("SHOW timescaledb.license").fetchone() == ("apache",)


def test_postgres_refuses_a_wrong_or_a_missing_password(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn("postgres")):
        pass
    for bad in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.dsn("postgres", "postgres", bad))
    assert postgres.password_file.stat().st_mode & 0o777 == 0o600


def test_postgres_keeps_committed_rows_when_it_is_killed_under_load(postgres: Postgres) -> None:
    postgres.ensure_database("nenghao")
    with psycopg.connect(postgres.dsn()) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    busy = psycopg.connect(postgres.dsn(), autocommit=True)
    thread = threading.Thread(target=_endless_query, args=(busy,))
    thread.start()
    assert wait_for(lambda: _count(postgres, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sqrt%'") > 1)
    postgres.kill()
    began = time.monotonic()
    postgres.start()  # while the busy backend may still be there
    assert time.monotonic() - began < 12
    thread.join()
    busy.close()
    assert _count(postgres, "SELECT count(*) FROM t") == 1000
    assert set(working_in(data_folder(postgres.password_file.parents[1]), "postgres")) >= {postgres.pid}


def _endless_query(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT sum(sqrt(a * b)) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")


def _count(postgres: Postgres, query: str) -> int:
    with psycopg.connect(postgres.dsn()) as connection:
        return int(connection.execute(query).fetchone()[0])


def test_postgres_stops_fast_with_a_client_and_starts_again_on_the_same_data(postgres: Postgres, folder: Path) -> None:
    postgres.ensure_database("kept")
    with closing(psycopg.connect(postgres.dsn("kept"))) as idle:
        idle.execute("SELECT 1")
        began = time.monotonic()
        postgres.stop()
        assert time.monotonic() - began < 5
    assert postgres.pid is None
    assert working_in(data_folder(folder), "postgres") == []
    began = time.monotonic()
    postgres.start()
    assert time.monotonic() - began < 5
    with psycopg.connect(postgres.dsn("kept")):
        pass


def test_postgres_starts_although_a_stranger_has_the_process_id_of_its_stale_file(
    postgres: Postgres, folder: Path
) -> None:
    postgres.kill()
    pid_file = data_folder(folder) / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        postgres.start()
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert postgres.is_running()


def test_a_database_is_cloned_with_its_extension_and_dropped_under_its_clients(postgres: Postgres) -> None:
    postgres.ensure_database("template")
    with psycopg.connect(postgres.dsn("template")) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute("CREATE TABLE r (ts timestamptz NOT NULL, v double precision)")
        connection.execute("SELECT create_hypertable('r', 'ts')")
    for number in range(5):
        postgres.clone_database("template", f"copy {number}")
    with closing(psycopg.connect(postgres.dsn("copy 3"))) as connection:
        connection.execute("INSERT INTO r VALUES (now(), 1), (now() - interval '1 year', 2)")
        connection.commit()
        assert connection.execute("SELECT count(*) FROM r").fetchone() == (2,)
        postgres.drop_database("copy 3")
    postgres.drop_database("copy 3")
    with pytest.raises(LocalRuntimeError, match="already exists"):
        postgres.clone_database("template", "copy 4")


def test_a_taken_port_is_said_and_nothing_stays(programs: ServerPrograms, folder: Path, broker: Broker) -> None:
    with pytest.raises(LocalRuntimeError, match="another program listens"):
        Postgres(programs, folder, broker.port, fast_unsafe=True).start()
    assert working_in(data_folder(folder), "postgres") == []


# Mosquitto


class Client:
    """A connected MQTT 5 client that remembers what it was told."""

    def __init__(self, port: int, credentials: tuple[str, str] | None) -> None:
        self.answers: list[str] = []
        self.messages: list[mqtt.MQTTMessage] = []
        self.inner = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        if credentials:
            self.inner.username_pw_set(*credentials)
        self.inner.on_connect = lambda c, u, f, reason, p: self.answers.append(str(reason))
        self.inner.on_disconnect = lambda c, u, f, reason, p: self.answers.append(str(reason))
        self.inner.on_message = lambda c, u, message: self.messages.append(message)
        self.inner.connect("127.0.0.1", port)
        self.inner.loop_start()
        assert wait_for(lambda: self.answers)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.inner.disconnect()
        self.inner.loop_stop()


def create_account(broker: Broker, name: str, password: str, topic: str) -> None:
    rules = [
        {"acltype": kind, "topic": topic, "allow": True}
        for kind in ("publishClientSend", "publishClientReceive", "subscribePattern")
    ]
    commands = [
        {"command": "createRole", "rolename": name, "acls": rules},
        {"command": "createClient", "username": name, "password": password, "roles": [{"rolename": name}]},
    ]
    with Client(broker.port, broker.admin_credentials) as administrator:
        administrator.inner.subscribe("$CONTROL/dynamic-security/#", 1)
        administrator.inner.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": commands}), 1)
        assert wait_for(lambda: administrator.messages)
        assert b"error" not in administrator.messages[0].payload


def test_broker_refuses_anonymous_clients_and_wrong_passwords(broker: Broker) -> None:
    for credentials in (None, ("admin", "wrong"), ("nobody", broker.admin_credentials[1])):
        with Client(broker.port, credentials) as client:
            assert client.answers[0] == "Not authorized"
    assert broker.password_file.stat().st_mode & 0o777 == 0o600


def test_broker_denies_what_no_role_allows(broker: Broker) -> None:
    create_account(broker, "gateway", "secret", "own/#")
    with Client(broker.port, ("gateway", "secret")) as client, Client(broker.port, broker.admin_credentials) as admin:
        admin.inner.subscribe("#", 0)
        client.inner.subscribe([("own/#", mqtt.SubscribeOptions(1)), ("other/#", mqtt.SubscribeOptions(1))])
        client.inner.publish("other/a", "x", 1)
        client.inner.publish("own/a", "y", 1)
        assert wait_for(lambda: client.messages)
        time.sleep(0.2)
        assert [(message.topic, message.payload) for message in client.messages] == [("own/a", b"y")]
        assert admin.messages == []


def test_broker_refuses_a_packet_over_256_kib_aloud(broker: Broker) -> None:
    create_account(broker, "gateway", "secret", "own/#")
    with Client(broker.port, ("gateway", "secret")) as client:
        client.inner.publish("own/a", b"x" * 262_144, 1)
        assert wait_for(lambda: "Packet too large" in client.answers)


def test_broker_keeps_its_accounts_when_it_is_killed(broker: Broker, folder: Path) -> None:
    create_account(broker, "gateway", "secret", "own/#")
    broker.kill()
    assert not broker.is_running()
    broker.start()
    with Client(broker.port, ("gateway", "secret")) as client:
        assert client.answers == ["Success"]
        client.inner.publish("own/kept", "z", 1, retain=True).wait_for_publish(5)
    broker.stop()
    assert working_in(broker_folder(folder), "mosquitto") == []
    broker.start()
    with Client(broker.port, ("gateway", "secret")) as client:
        client.inner.subscribe("own/#", 1)
        assert wait_for(lambda: client.messages)


def test_a_second_broker_object_ends_the_one_left_behind(
    programs: ServerPrograms, broker: Broker, folder: Path
) -> None:
    left_behind = broker.pid
    second = Broker(programs, folder, broker.port)
    second.start()
    assert second.pid != left_behind
    assert not broker.is_running()
    second.stop()


# The folder


def test_ports_are_the_same_at_the_second_start_and_change_when_taken(folder: Path, broker: Broker) -> None:
    first = kept_ports(folder, ["a", "b"])
    assert kept_ports(folder, ["b", "a", "c"]).items() >= first.items()
    (folder / "ports.json").write_text(json.dumps({"a": broker.port}))
    moved = kept_ports(folder, ["a"])["a"]
    assert moved != broker.port
    assert is_free(moved)


def test_a_folder_is_used_by_one_at_a_time_and_a_foreign_folder_is_not_removed(folder: Path) -> None:
    with FolderLock(folder), pytest.raises(LocalRuntimeError, match=f"already running.*process {os.getpid()}"):
        FolderLock(folder).acquire()
    with FolderLock(folder):
        pass
    foreign = folder / "foreign"
    foreign.mkdir()
    with pytest.raises(LocalRuntimeError, match="was not made by"):
        remove_folder(foreign)
