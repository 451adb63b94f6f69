"""Real servers for the tests: one PostgreSQL and one broker per run, one cloned database per test."""

import itertools
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from app import cli, settings
from app.db import engine as engine_module
from app.db import migrations, stale
from deploy.local.broker import Broker, TlsFiles
from deploy.local.folder import local_folder, scratch_folder
from deploy.local.ports import free_port
from deploy.local.postgres import Postgres
from deploy.local.unpack import ServerPrograms, ensure_servers
from tests.browser import Browser, ensure_chromium

TEMPLATE = "nenghao_template"
_numbers = itertools.count()
Nenghao = Callable[..., tuple[int, str, str]]


def pytest_configure() -> None:
    """End a run on SIGTERM as on Ctrl-C: what was started is stopped and removed, instead of being left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def programs() -> ServerPrograms:
    """The unpacked servers; the first run on a machine unpacks them."""
    return ensure_servers(local_folder(), print)


@pytest.fixture(scope="session")
def postgres(programs: ServerPrograms) -> Iterator[Postgres]:
    """A running PostgreSQL with a migrated template database; durability is off, nothing outlives the run."""
    with scratch_folder() as folder:
        server = Postgres(programs, folder, free_port(), fast_unsafe=True)
        try:
            server.start()
            server.ensure_database(TEMPLATE)
            migrations.upgrade(server.dsn(TEMPLATE))
            yield server
        finally:
            server.stop()


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """The address of a fresh, migrated, empty database for one test."""
    name = f"test_{os.getpid()}_{next(_numbers)}_{secrets.token_hex(3)}"
    postgres.clone_database(TEMPLATE, name)
    yield postgres.dsn(name)
    postgres.drop_database(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on this test's database."""
    stale.forget_failures()
    created = engine_module.create(database_url)
    yield created
    created.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """One open transaction on this test's database, rolled back at the end."""
    with engine.connect() as opened:
        yield opened


@pytest.fixture
def nenghao(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Nenghao]:
    """Run a command on this test's database: exit status, standard output, standard error."""
    monkeypatch.setenv("NENGHAO_DATABASE_URL", database_url)
    settings.load.cache_clear()

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["nenghao", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    settings.load.cache_clear()


@pytest.fixture(scope="session")
def broker(programs: ServerPrograms) -> Iterator[Broker]:
    """A running Mosquitto with dynamic security; tests create their own accounts with random names."""
    with scratch_folder() as folder:
        server = Broker(programs, folder, free_port())
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away certificate authority with a certificate for localhost, valid for a day."""
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("authority")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    commands = [
        [*new, "-x509", "-days", "1", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt"],
        [*new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"],
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
         "-days", "1", "-extfile", "names.txt", "-out", "server.crt"],
    ]  # fmt: skip
    (folder / "names.txt").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="session")
def tls_broker(programs: ServerPrograms, authority: Path) -> Iterator[Broker]:
    """A second broker, with a TLS listener beside the plain one."""
    with scratch_folder() as folder:
        for name in ("ca.crt", "server.crt", "server.key"):
            shutil.copy(authority / name, folder / name)
            (folder / name).chmod(0o644)
        files = TlsFiles(folder / "ca.crt", folder / "server.crt", folder / "server.key", free_port())
        server = Broker(programs, folder, free_port(), tls=files)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running headless Chromium; the first test that asks for it unpacks it."""
    started = Browser(ensure_chromium(local_folder(), print), tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


@pytest.fixture
def reference_folder() -> Path:
    """The official tables beside the checkout, for comparison; skipped where they are not there."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the official tables are not beside this checkout")
    return folder
