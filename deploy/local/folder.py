"""The folder that holds everything of the local runtime: its place, secrets, logs and lock."""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from deploy.local.errors import LocalRuntimeError

FOLDER_VARIABLE = "NENGHAO_LOCAL_DIR"
LOG_ROTATION_BYTES = 5 * 1024 * 1024
LOG_TAIL_BYTES = 4096
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - the folder made there has a random name and is its owner's
ROOM_IN_MEMORY_BYTES = 3 * 1024**3


def local_folder() -> Path:
    """`.local/` at the root of the repository, unless the environment names another folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).resolve() if chosen else Path(__file__).resolve().parents[2] / ".local"


def prepare_folder(folder: Path) -> None:
    """Make the folder, ignored by git wherever it is; others may pass through, secrets are apart."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file as a whole, so that a crash leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def secret_path(folder: Path, name: str) -> Path:
    """Where a secret is kept."""
    return folder / "secrets" / name


def secret(folder: Path, name: str) -> str:
    """A password made at random the first time it is asked for; there is no default one."""
    path = secret_path(folder, name)
    if not path.exists():
        prepare_folder(folder)
        write_atomically(path, secrets.token_urlsafe(24) + "\n")
    return path.read_text().strip()


def log_path(folder: Path, name: str) -> Path:
    """Where a program's output goes."""
    return folder / "logs" / f"{name}.log"


def rotate_log(path: Path) -> None:
    """Set a large log aside (one generation) before its program starts again."""
    if path.exists() and path.stat().st_size > LOG_ROTATION_BYTES:
        path.replace(path.with_name(path.name + ".1"))


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    if not path.exists():
        return f"({path} does not exist)"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return "\n".join([f"last lines of {path}:", *text.splitlines()[-lines:]])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for servers that tests throw away: in memory when there is room.

    There a database is cloned in 20 ms; a file system that is busy with creating and deleting takes up to
    400 ms. Other accounts may pass through it, unlike the temporary folders of pytest, so that the
    servers reach their files where user namespaces are forbidden.
    """
    in_memory = MEMORY_FOLDER.is_dir() and os.access(MEMORY_FOLDER, os.W_OK)
    in_memory = in_memory and shutil.disk_usage(MEMORY_FOLDER).free >= ROOM_IN_MEMORY_BYTES
    parent = MEMORY_FOLDER if in_memory else local_folder() / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nenghao-", dir=parent))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete the whole folder, but only one that this runtime made."""
    if not folder.exists():
        return
    if not (folder / ".gitignore").exists() or not (folder / "secrets").is_dir():
        raise LocalRuntimeError(f"{folder} was not made by the local runtime; it is left as it is")
    shutil.rmtree(folder)


class FolderLock:
    """One supervisor per folder; the kernel frees the lock even after a SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run.lock"
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock or say who holds it."""
        prepare_folder(self._folder)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise LocalRuntimeError(
                f"Nenghao is already running in {self._folder} (process {holder}). Stop it with Ctrl-C "
                f"in its terminal, or choose another folder with {FOLDER_VARIABLE}=/some/folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
