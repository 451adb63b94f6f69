"""Loopback ports: chosen once, kept in a file, so that a second start uses the same ones."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path

from deploy.local.folder import prepare_folder, write_atomically

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen there now (a socket in TIME_WAIT does not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on: all are held open until the last one is known."""
    probes = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_port() -> int:
    """One port that nobody listens on."""
    return free_ports(1)[0]


def _remembered(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(name): port for name, port in content.items() if isinstance(port, int)}


def kept_ports(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """The port of each name: the remembered one while it is free, else a new one, remembered.

    Call it when no server of this folder runs, or its own port counts as taken.
    """
    prepare_folder(folder)
    path = folder / "ports.json"
    ports = _remembered(path)
    missing = [name for name in names if name not in ports or not is_free(ports[name])]
    if missing:
        ports.update(zip(missing, free_ports(len(missing)), strict=True))
        write_atomically(path, json.dumps(ports, indent=2, sort_keys=True) + "\n", 0o644)
    return {name: ports[name] for name in names}
