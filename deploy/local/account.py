"""Under which account a server runs.

PostgreSQL refuses to run as root, and a broker should not either. A user namespace gives it another
user id without any account and without a change of owner. Where the kernel or the container forbids
namespaces, the account `nobody` takes over, which then must own the server's files.
"""

import functools
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import LocalRuntimeError

ACCOUNT = "nobody"


@dataclass(frozen=True)
class Account:
    """The words to put before a command, and who must own the files (None: who they belong to now)."""

    prefix: tuple[str, ...]
    owner: tuple[int, int] | None
    note: str


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@functools.cache
def server_account() -> Account:
    """The least privileged account this process can give to a server."""
    if os.geteuid() != 0:
        return Account((), None, "")
    entry = pwd.getpwnam(ACCOUNT)
    namespace = ("unshare", "--user", f"--map-user={entry.pw_uid}", f"--map-group={entry.pw_gid}", "--")
    if shutil.which("unshare") and _succeeds([*namespace, "true"]):
        return Account(namespace, None, "")
    if shutil.which("setpriv") is None:
        raise LocalRuntimeError(
            "PostgreSQL does not run as root, and neither unshare nor setpriv (package util-linux) is there "
            "to give it another account. Install util-linux, or start as an ordinary user."
        )
    words = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--")
    note = f"user namespaces are forbidden here: the servers run as the account {ACCOUNT} and their files are its own"
    return Account(words, (entry.pw_uid, entry.pw_gid), note)


def give(path: Path, account: Account) -> None:
    """Make the account the owner of a folder and what is in it."""
    if account.owner is None:
        return
    for item in (path, *path.rglob("*")):
        os.chown(item, *account.owner, follow_symlinks=False)


def check_reach(path: Path, account: Account) -> None:
    """A folder under a closed home directory cannot be entered by another account: say so."""
    if account.owner is None:
        return
    if not _succeeds([*account.prefix, "test", "-r", str(path)]):
        raise LocalRuntimeError(
            f"the account {ACCOUNT} cannot read {path}. Set NENGHAO_LOCAL_DIR to a folder below directories "
            "that everyone may enter, for example /var/tmp/nenghao, or start as an ordinary user."
        )
