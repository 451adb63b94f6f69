"""Bring PostgreSQL 17 with TimescaleDB, and Mosquitto 2, onto this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.debian_tree import SUITE, SYSTEM, Recipe, ensure_tree

POSTGRES_BIN = "usr/lib/postgresql/17/bin"
PLUGIN = "usr/lib/*/mosquitto_dynamic_security.so"
MOSQUITTO_TOOLS = ("mosquitto_ctrl", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub")
SERVERS = Recipe(
    name="servers",
    number=1,
    what="PostgreSQL 17, TimescaleDB and Mosquitto 2",
    size="94 MB to fetch, 420 MB on the disk",
    packages=("postgresql-17-timescaledb", "mosquitto", "mosquitto-clients"),
    needed=(
        f"{POSTGRES_BIN}/postgres",
        "usr/lib/postgresql/17/lib/timescaledb.so",
        "usr/share/postgresql/17/extension/btree_gist.control",
        "usr/sbin/mosquitto",
        "usr/bin/mosquitto_ctrl",
        PLUGIN,
    ),
    programs=(f"{POSTGRES_BIN}/*", "usr/sbin/mosquitto", *(f"usr/bin/{name}" for name in MOSQUITTO_TOOLS)),
)


@dataclass(frozen=True)
class ServerPrograms:
    """Where the programs are; they find their libraries and shared files by themselves."""

    postgres_bin: Path
    mosquitto: Path
    mosquitto_ctrl: Path
    mosquitto_passwd: Path
    dynamic_security_plugin: Path
    origin: str


def ensure_servers(folder: Path, say: Callable[[str], None]) -> ServerPrograms:
    """The server programs: those of Debian 13, else a tree in `folder`, made on the first call."""
    root = ensure_tree(SERVERS, folder, say)
    is_installed = root == SYSTEM
    return ServerPrograms(
        postgres_bin=root / POSTGRES_BIN,
        mosquitto=root / "usr/sbin/mosquitto",
        mosquitto_ctrl=root / "usr/bin/mosquitto_ctrl",
        mosquitto_passwd=root / "usr/bin/mosquitto_passwd",
        dynamic_security_plugin=min(root.glob(PLUGIN)),
        origin="the packages of this Debian 13" if is_installed else f"Debian {SUITE} packages unpacked in {root}",
    )
