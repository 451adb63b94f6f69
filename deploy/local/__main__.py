"""`python -m deploy.local run | servers | clean`: everything, the two servers alone, or the way to be rid of it."""

import argparse
import sys
from pathlib import Path

from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import FolderLock, local_folder, remove_folder
from deploy.local.ports import LOOPBACK
from deploy.local.run import run
from deploy.local.servers import end_leftover_servers, prepare_servers
from deploy.local.supervisor import Supervisor


def _say(line: str) -> None:
    print(line, flush=True)


def run_servers(folder: Path) -> None:
    """Both servers in the foreground until Ctrl-C."""
    with Supervisor(_say, folder) as supervisor:
        with supervisor.step("server programs"):
            servers = prepare_servers(folder, _say)
        postgres, broker = servers.postgres, servers.broker
        with supervisor.step("PostgreSQL with TimescaleDB"):
            supervisor.keep(postgres)
            postgres.ensure_database("nenghao")
        with supervisor.step("Mosquitto"):
            supervisor.keep(broker)
        _say(f"database  postgresql://postgres@{LOOPBACK}:{postgres.port}/nenghao")
        _say(f"          password in {postgres.password_file}")
        _say(f"broker    mqtt://{LOOPBACK}:{broker.port}, administrator {broker.admin_credentials[0]}")
        _say(f"          password in {broker.password_file}")
        _say("Ctrl-C stops both.")
        supervisor.run()


def clean(folder: Path) -> None:
    """Remove the folder with all its data, unless something runs in it."""
    if not folder.exists():
        _say(f"{folder} does not exist")
        return
    with FolderLock(folder):
        end_leftover_servers(folder, _say)
        remove_folder(folder)
    _say(f"removed {folder}")


def main() -> int:
    """Errors that the reader can do something about are one message, not a traceback."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("command", choices=["run", "servers", "clean"])
    command = parser.parse_args().command
    try:
        if command == "run":
            run(local_folder())
        elif command == "servers":
            run_servers(local_folder())
        else:
            clean(local_folder())
    except LocalRuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
