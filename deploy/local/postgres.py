"""One PostgreSQL server with TimescaleDB, in the folder, on its own port."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from deploy.local.account import check_reach, give, server_account
from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import log_path, log_tail, prepare_folder, secret, secret_path, write_atomically
from deploy.local.ports import LOOPBACK, is_free
from deploy.local.processes import end, end_left_behind, spawn, wait_until, working_in
from deploy.local.unpack import ServerPrograms

SUPERUSER = "postgres"
PASSWORD_NAME = "postgres.password"  # noqa: S105 - the name of the file, not the password
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
SOCKET_PATH_LIMIT = 107 - len("/.s.PGSQL.65535.lock")

# For a development machine with two cores. Durability keeps its defaults: a commit is on the disk.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    # The Apache edition has no policies to run. Without workers no scheduler holds a connection to a
    # database, so that a template database can be cloned and a database dropped at any time.
    "timescaledb.max_background_workers": "0",
    "shared_buffers": "512MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "wal_compression": "lz4",
    "checkpoint_timeout": "15min",
    "max_worker_processes": "8",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    # A query that touches every chunk of a hypertable locks each chunk and each of its indexes.
    "max_locks_per_transaction": "256",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "log_lock_waits": "on",
    "password_encryption": "scram-sha-256",
}
# A crash of the machine (not of the server) loses the data: only for databases that tests throw away.
FAST_UNSAFE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # With the data folder goes its shared memory, even after a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
    "min_wal_size": "80MB",
    "max_wal_size": "512MB",
}
HOST_RULES = f"local all all scram-sha-256\nhost all all {LOOPBACK}/32 scram-sha-256\n"


def data_folder(folder: Path) -> Path:
    """Where the databases are."""
    return folder.resolve() / "postgres" / "data"


def end_leftover_postgres(folder: Path) -> list[int]:
    """End a server, or its orphaned backends, that an earlier run left; their process ids."""
    return end_left_behind(data_folder(folder), "postgres", signal.SIGINT, 10)


class Postgres:
    """Start, stop, kill and ask one server. The folder may hold a broker beside it."""

    name = "postgres"

    def __init__(self, programs: ServerPrograms, folder: Path, port: int, *, fast_unsafe: bool = False) -> None:
        self.port = port
        self.log = log_path(folder.resolve(), self.name)
        self._programs = programs
        self._folder = folder.resolve()
        self._data = data_folder(self._folder)
        self._place = self._data.parent
        self._fast_unsafe = fast_unsafe
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster while it runs."""
        return self._process.pid if self._process is not None and self.is_running() else None

    @property
    def password_file(self) -> Path:
        """Where the superuser's password is kept."""
        return secret_path(self._folder, PASSWORD_NAME)

    def is_running(self) -> bool:
        """Whether the server that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers; the first time, make its data folder."""
        if self.is_running():
            return
        self.clear_leftovers()
        account = server_account()
        check_reach(self._programs.postgres_bin / "postgres", account)
        if not self._data.exists():
            self._initialise()
        self._configure()
        give(self._place, account)
        check_reach(self._data, account)
        if not is_free(self.port):
            raise LocalRuntimeError(f"another program listens on port {self.port}; PostgreSQL cannot start there")
        program = str(self._programs.postgres_bin / "postgres")
        words = [program, "-D", str(self._data)]
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for its clients.
        self._process = spawn(words, self.log, prefix=account.prefix, env=_plain_env(), death_signal=signal.SIGINT)
        self.wait_ready(READY_TIMEOUT_S)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the server accepts connections, or tell why it does not."""
        ready = wait_until(lambda: not self.is_running() or self._says_ready(), timeout_s)
        if not self.is_running():
            raise LocalRuntimeError(f"PostgreSQL did not start; {log_tail(self.log)}")
        if not ready:
            raise LocalRuntimeError(f"PostgreSQL is not ready after {timeout_s:.0f} s; {log_tail(self.log)}")

    def stop(self) -> None:
        """Fast shutdown: clients are cut off, everything committed is on the disk."""
        if self._process is not None:
            end(self._process, signal.SIGINT, STOP_TIMEOUT_S)
        self.clear_leftovers()

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would; its backends notice and end by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def clear_leftovers(self) -> None:
        """End what an earlier run left in this data folder.

        A backend that outlives its postmaster still uses the shared memory, and the next start is refused.
        """
        if not self.is_running():
            end_leftover_postgres(self._folder)
            self._drop_stale_pid_file()

    def dsn(self, database: str = "nenghao", user: str = SUPERUSER, password: str | None = None) -> str:
        """The address of a database. Only the superuser's password is known here."""
        if password is None and user == SUPERUSER:
            password = secret(self._folder, PASSWORD_NAME)
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        return f"postgresql://{login}@{LOOPBACK}:{self.port}/{quote(database, safe='')}"

    def ensure_database(self, name: str) -> None:
        """Create a database unless it is there."""
        if not self._database_exists(name):
            self._execute(f"CREATE DATABASE {_identifier(name)}")

    def clone_database(self, template: str, name: str) -> None:
        """Copy a database that nobody is connected to; 20 ms in memory, up to 400 ms on a busy ext4.

        Copying through the write-ahead log spares the two checkpoints of a file copy.
        """
        words = f"CREATE DATABASE {_identifier(name)} TEMPLATE {_identifier(template)} STRATEGY wal_log"
        self._execute(words)

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting off whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def _database_exists(self, name: str) -> bool:
        statement = f"SELECT count(*) FROM pg_database WHERE datname = {_literal(name)}"  # noqa: S608
        return self._execute(statement) == "1"

    def _execute(self, statement: str) -> str:
        """Run one statement as the superuser with psql, which comes with the server."""
        psql = str(self._programs.postgres_bin / "psql")
        words = [
            psql,
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            LOOPBACK,
            "-p",
            str(self.port),
            "-U",
            SUPERUSER,
        ]
        env = {**_plain_env(), "PGPASSWORD": secret(self._folder, PASSWORD_NAME), "PGDATABASE": "postgres"}
        result = subprocess.run(
            [*words, "-c", statement], check=False, env=env, capture_output=True, text=True, timeout=120
        )
        if result.returncode != 0:
            raise LocalRuntimeError(f"{statement}: {result.stderr.strip()}")
        return result.stdout.strip()

    def _initialise(self) -> None:
        """Make the data folder beside its place and move it there when it is complete."""
        prepare_folder(self._folder)
        self._place.mkdir(mode=0o700, exist_ok=True)
        account = server_account()
        draft = self._place / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self._place / "initial-password"
        write_atomically(password, secret(self._folder, PASSWORD_NAME) + "\n")
        give(self._place, account)
        check_reach(self._place, account)
        command = [
            *account.prefix,
            str(self._programs.postgres_bin / "initdb"),
            *_initdb_words(draft, password),
        ]
        if self._fast_unsafe:
            command.append("--no-sync")
        result = subprocess.run(
            command,
            check=False,
            cwd=self._place,
            env=_plain_env(),
            capture_output=True,
            text=True,
            start_new_session=True,
        )
        password.unlink()
        if result.returncode != 0:
            raise LocalRuntimeError(f"PostgreSQL's data folder could not be made: {result.stderr.strip()}")
        draft.rename(self._data)

    def _configure(self) -> None:
        """Write the settings anew at each start; ALTER SYSTEM still has the last word."""
        socket_folder = str(self._place) if len(str(self._place)) <= SOCKET_PATH_LIMIT else ""
        settings = {
            **SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": socket_folder,
            "unix_socket_permissions": "0700",
            **(FAST_UNSAFE if self._fast_unsafe else {}),
        }
        lines = [f"{name} = {_literal(value)}" for name, value in settings.items()]
        write_atomically(self._data / "postgresql.conf", "\n".join(lines) + "\n")
        write_atomically(self._data / "pg_hba.conf", HOST_RULES)

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _says_ready(self) -> bool:
        """PostgreSQL writes its state into the eighth line; pg_ctl looks there as well."""
        lines = self._pid_file_lines()
        mine = self._process is not None and lines[:1] == [str(self._process.pid)]
        return mine and len(lines) >= 8 and lines[7].strip() == "ready"

    def _drop_stale_pid_file(self) -> None:
        """After a crash the id in the file may belong to a stranger, and PostgreSQL would refuse to start.

        If the id is nobody's, PostgreSQL itself sees that the file is stale, with more checks than here.
        """
        lines = self._pid_file_lines()
        taken = bool(lines) and lines[0].isdigit() and Path(f"/proc/{lines[0]}").exists()
        if taken and not working_in(self._data, "postgres"):
            (self._data / "postmaster.pid").unlink()


def _plain_env() -> dict[str, str]:
    """Settings of another PostgreSQL in the caller's environment must not reach this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LANG": "C"}


def _initdb_words(data: Path, password: Path) -> list[str]:
    """PostgreSQL's own C.UTF-8 sorts the same on every machine and needs no locale package."""
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    access = [f"--username={SUPERUSER}", f"--pwfile={password}", "--auth=scram-sha-256"]
    return ["-D", str(data), *locale, *access, "--data-checksums"]


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
