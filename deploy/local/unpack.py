"""Bring PostgreSQL 17 with TimescaleDB, and Mosquitto 2, onto this machine.

On Debian 13 the installed packages are used. Elsewhere the same packages are unpacked, with all their
libraries, into the folder, and their programs are patched to find those libraries there.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.debian_tools import DebianTools, debian_tools, run_or_fail
from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import prepare_folder, write_atomically

# Raise the recipe's number when the packages or the patching change: the tree is then made anew.
RECIPE = 1
SUITE = "trixie"
PACKAGES = ("postgresql-17-timescaledb", "mosquitto", "mosquitto-clients")
POSTGRES_BIN = "usr/lib/postgresql/17/bin"
MOSQUITTO_TOOLS = ("mosquitto_ctrl", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub")
STAMP = "nenghao-recipe.json"


@dataclass(frozen=True)
class ServerPrograms:
    """Where the programs are; they find their libraries and shared files by themselves."""

    postgres_bin: Path
    mosquitto: Path
    mosquitto_ctrl: Path
    mosquitto_passwd: Path
    dynamic_security_plugin: Path
    origin: str


def _programs_below(root: Path, origin: str) -> ServerPrograms | None:
    """The programs of a Debian 13 tree, or None when one of them is not there."""
    plugins = sorted((root / "usr/lib").glob("*/mosquitto_dynamic_security.so"))
    needed = [
        root / POSTGRES_BIN / "postgres",
        root / "usr/lib/postgresql/17/lib/timescaledb.so",
        root / "usr/share/postgresql/17/extension/btree_gist.control",
        root / "usr/sbin/mosquitto",
        root / "usr/bin/mosquitto_ctrl",
    ]
    if not plugins or not all(path.exists() for path in needed):
        return None
    return ServerPrograms(
        postgres_bin=root / POSTGRES_BIN,
        mosquitto=root / "usr/sbin/mosquitto",
        mosquitto_ctrl=root / "usr/bin/mosquitto_ctrl",
        mosquitto_passwd=root / "usr/bin/mosquitto_passwd",
        dynamic_security_plugin=plugins[0],
        origin=origin,
    )


def _installed_programs() -> ServerPrograms | None:
    """Only Debian 13's own packages count: others have another edition or another plugin."""
    release = Path("/etc/os-release")
    lines = release.read_text().splitlines() if release.exists() else []
    if "ID=debian" not in lines or 'VERSION_ID="13"' not in lines:
        return None
    return _programs_below(Path("/"), "the packages of this Debian 13")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two starts at once: the second waits for the first, then finds the tree ready."""
    with (folder / "servers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stamp(tree: Path) -> dict[str, object]:
    try:
        content = json.loads((tree / STAMP).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_stamp(tree: Path, final: Path) -> None:
    """The place is part of the stamp, because it is written into the programs."""
    write_atomically(tree / STAMP, json.dumps({"recipe": RECIPE, "place": str(final)}) + "\n", 0o644)


def _patch_programs(tree: Path, final: Path, patchelf: str) -> None:
    """Make each program use the loader and the libraries of the tree at its final place."""
    loaders = sorted((tree / "usr/lib").glob("*/ld-linux*.so.*"))
    if not loaders:
        raise LocalRuntimeError(f"no dynamic loader below {tree}: is this machine's architecture one of Debian's?")
    libraries = final / loaders[0].parent.relative_to(tree)
    servers = [*(tree / POSTGRES_BIN).iterdir(), tree / "usr/sbin/mosquitto"]
    programs = [*servers, *(tree / "usr/bin" / name for name in MOSQUITTO_TOOLS)]
    binaries = [str(path) for path in programs if path.read_bytes()[:4] == b"\x7fELF"]
    loader = str(libraries / loaders[0].name)
    words = [patchelf, "--set-interpreter", loader, "--force-rpath", "--set-rpath", str(libraries)]
    run_or_fail([*words, *binaries], "patching the programs")


def _unpack(tree: Path, final: Path, tools: DebianTools, say: Callable[[str], None]) -> None:
    say(f"unpacking PostgreSQL 17, TimescaleDB and Mosquitto 2 into {final} (94 MB to fetch, 420 MB on the disk, once)")
    shutil.rmtree(tree, ignore_errors=True)
    words = ["--variant=extract", f"--include={','.join(PACKAGES)}", SUITE, str(tree)]
    run_or_fail([*tools.mmdebstrap, *words], "unpacking the servers with mmdebstrap", path=tools.path)
    tree.chmod(0o755)
    if _programs_below(tree, "") is None:
        raise LocalRuntimeError(f"the packages in {tree} lack a program that is needed; remove it and try again")
    _patch_programs(tree, final, tools.patchelf)
    _write_stamp(tree, final)


def _make_ready(folder: Path, tree: Path, say: Callable[[str], None]) -> None:
    """Unpack, or patch again after the folder was moved, or find that all is done."""
    stamp = _stamp(tree)
    if stamp.get("recipe") == RECIPE and stamp.get("place") == str(tree):
        return
    tools = debian_tools(folder, say)
    if stamp.get("recipe") == RECIPE:
        _patch_programs(tree, tree, tools.patchelf)
        _write_stamp(tree, tree)
        return
    draft = folder / "servers.new"
    _unpack(draft, tree, tools, say)
    shutil.rmtree(tree, ignore_errors=True)
    os.rename(draft, tree)


def ensure_servers(folder: Path, say: Callable[[str], None]) -> ServerPrograms:
    """The server programs: those of Debian 13, else a tree in `folder`, made on the first call."""
    installed = _installed_programs()
    if installed is not None:
        return installed
    place = folder.resolve()
    prepare_folder(place)
    with _only_one(place):
        _make_ready(place, place / "servers", say)
    programs = _programs_below(place / "servers", f"Debian {SUITE} packages unpacked in {place / 'servers'}")
    if programs is None:
        raise LocalRuntimeError(f"{place / 'servers'} is damaged: remove it and start again")
    return programs
