"""The two servers of a folder, ready to be started: what every entry point begins with."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.account import server_account
from deploy.local.broker import Broker, end_leftover_broker
from deploy.local.ports import kept_ports
from deploy.local.postgres import Postgres, end_leftover_postgres
from deploy.local.unpack import ensure_servers

# Several installations on one machine may share one tree of server programs.
SERVERS_VARIABLE = "NENGHAO_SERVERS_DIR"


@dataclass(frozen=True)
class LocalServers:
    """Both servers, not yet started."""

    postgres: Postgres
    broker: Broker


def end_leftover_servers(folder: Path, say: Callable[[str], None]) -> None:
    """After a crash of the supervisor a server may still be there, and hold its port."""
    if end_leftover_postgres(folder) or end_leftover_broker(folder):
        say("ended a server that an earlier run had left behind")


def prepare_servers(folder: Path, say: Callable[[str], None], *, fast_unsafe: bool = False) -> LocalServers:
    """Bring the programs, end leftovers, choose the ports (the same ones as the last time)."""
    programs = ensure_servers(Path(os.environ.get(SERVERS_VARIABLE, folder)), say)
    end_leftover_servers(folder, say)
    note = server_account().note
    if note:
        say(note)
    ports = kept_ports(folder, ["postgres", "mosquitto"])
    postgres = Postgres(programs, folder, ports["postgres"], fast_unsafe=fast_unsafe)
    return LocalServers(postgres, Broker(programs, folder, ports["mosquitto"]))
