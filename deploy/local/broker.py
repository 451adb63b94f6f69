"""One Mosquitto broker with accounts that change while it runs, in the folder, on its own port."""

import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.account import check_reach, give, server_account
from deploy.local.dynamic_security import ADMINISTRATOR, first_state
from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import log_path, log_tail, prepare_folder, secret, secret_path, write_atomically
from deploy.local.ports import LOOPBACK, is_free
from deploy.local.processes import end, end_left_behind, spawn, wait_until
from deploy.local.unpack import ServerPrograms

PASSWORD_NAME = "broker-admin.password"  # noqa: S105 - the name of the file, not the password
READY_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
SETTINGS_FILE = "mosquitto.conf"
ACCOUNTS_FILE = "dynamic-security.json"

# What each number is for stands beside it: the defaults of Mosquitto lose messages without a word.
SETTINGS = """\
per_listener_settings false
allow_anonymous false
# A packet over 256 KiB is refused with a disconnect, which its sender notices.
max_packet_size 262144
# Unacknowledged messages in each direction, for clients that announce no Receive Maximum of their own
# (the default is 20). Also what a MQTT 5 client is told it may have under way towards the broker.
max_inflight_messages 1000
# What waits for a client that is away or slow. 0 would not mean "no limit": with some versions it drops
# everything. Whichever limit is reached first drops the newest message; its gateway sends it again.
max_queued_messages 200000
max_queued_bytes 268435456
# No max_keepalive: MQTT 5 clients are cut to it, and 2.0.21 drops a busy client whose keepalive equals it.
persistence true
# SIGTERM saves too; after a crash sessions and retained messages are at most this many seconds old.
autosave_interval 60
persistent_client_expiration 7d
set_tcp_nodelay true
sys_interval 10
connection_messages true
log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S%z
"""


@dataclass(frozen=True)
class TlsFiles:
    """A second listener with TLS: certificate authority, certificate, key and port."""

    cafile: Path
    certfile: Path
    keyfile: Path
    port: int

    def listener(self) -> list[str]:
        """The lines of this listener; the password still decides who the client is."""
        files = [f"cafile {self.cafile}", f"certfile {self.certfile}", f"keyfile {self.keyfile}"]
        return [f"listener {self.port} {LOOPBACK}", *files, "tls_version tlsv1.2"]


def broker_folder(folder: Path) -> Path:
    """Where the broker's settings, accounts and saved messages are."""
    return folder.resolve() / "mosquitto"


def end_leftover_broker(folder: Path) -> list[int]:
    """End a broker that an earlier run left; its process id."""
    return end_left_behind(broker_folder(folder), "mosquitto", signal.SIGTERM, 5)


class Broker:
    """Start, stop and kill one broker. The folder may hold a PostgreSQL beside it."""

    name = "mosquitto"

    def __init__(self, programs: ServerPrograms, folder: Path, port: int, *, tls: TlsFiles | None = None) -> None:
        self.port = port
        self.tls = tls
        self.log = log_path(folder.resolve(), self.name)
        self._programs = programs
        self._folder = folder.resolve()
        self._place = broker_folder(self._folder)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the broker while it runs."""
        return self._process.pid if self._process is not None and self.is_running() else None

    @property
    def password_file(self) -> Path:
        """Where the administrator's password is kept."""
        return secret_path(self._folder, PASSWORD_NAME)

    @property
    def admin_credentials(self) -> tuple[str, str]:
        """Name and password of the account that manages the accounts."""
        return ADMINISTRATOR, secret(self._folder, PASSWORD_NAME)

    def is_running(self) -> bool:
        """Whether the broker that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the broker and wait until it accepts connections."""
        if self.is_running():
            return
        self.clear_leftovers()
        account = server_account()
        check_reach(self._programs.mosquitto, account)
        self._configure()
        give(self._place, account)
        check_reach(self._place, account)
        self._check_ports()
        words = [str(self._programs.mosquitto), "-c", str(self._place / SETTINGS_FILE)]
        self._process = spawn(words, self.log, prefix=account.prefix, cwd=self._place)
        self.wait_ready(READY_TIMEOUT_S)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the broker accepts connections, or tell why it does not."""
        ready = wait_until(lambda: not self.is_running() or self._accepts(), timeout_s)
        if not self.is_running():
            raise LocalRuntimeError(f"Mosquitto did not start; {log_tail(self.log)}")
        if not ready:
            raise LocalRuntimeError(f"Mosquitto is not ready after {timeout_s:.0f} s; {log_tail(self.log)}")

    def stop(self) -> None:
        """Stop it; sessions, queues and retained messages are saved first."""
        if self._process is not None:
            end(self._process, signal.SIGTERM, STOP_TIMEOUT_S)
        self.clear_leftovers()

    def kill(self) -> None:
        """SIGKILL, as a crash would: what came since the last save is lost, accounts are not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def clear_leftovers(self) -> None:
        """End a broker that an earlier run left in this folder."""
        if not self.is_running():
            end_leftover_broker(self._folder)

    def _accepts(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _check_ports(self) -> None:
        for port in (self.port, *([self.tls.port] if self.tls else [])):
            if not is_free(port):
                raise LocalRuntimeError(f"another program listens on port {port}; Mosquitto cannot start there")

    def _configure(self) -> None:
        """Settings are written at each start, accounts only the first time: then they are the plugin's."""
        prepare_folder(self._folder)
        self._place.mkdir(mode=0o700, exist_ok=True)
        accounts = self._place / ACCOUNTS_FILE
        if not accounts.exists():
            write_atomically(accounts, first_state(self.admin_credentials[1]))
        lines = [
            f"persistence_location {self._place}/",
            f"plugin {self._programs.dynamic_security_plugin}",
            f"plugin_opt_config_file {accounts}",
            f"listener {self.port} {LOOPBACK}",
            *(self.tls.listener() if self.tls else []),
        ]
        write_atomically(self._place / SETTINGS_FILE, SETTINGS + "\n".join(lines) + "\n")
