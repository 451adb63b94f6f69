"""Debian 13 packages unpacked into the folder with all their libraries, their programs patched to find those there.

Nothing is installed on the machine, no package's script runs, and the tree works on other Debian versions too.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.debian_tools import DebianTools, debian_tools, run_or_fail
from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import prepare_folder, write_atomically

SUITE = "trixie"
STAMP = "nenghao-recipe.json"
SYSTEM = Path("/")


@dataclass(frozen=True)
class Recipe:
    """Packages that become a tree `name` in the folder.

    `needed`: patterns below the root, one file of each must be there. `programs` and `libraries`: patterns of what is
    patched, libraries where they name a place of their own. `library_folders`: below that of the loader.
    Raise `number` when the packages or the patching change: the tree is then made anew.
    """

    name: str
    number: int
    what: str
    size: str
    packages: tuple[str, ...]
    needed: tuple[str, ...]
    programs: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    library_folders: tuple[str, ...] = ()

    def is_whole_below(self, root: Path) -> bool:
        """Whether all that is needed is there."""
        return all(any(root.glob(pattern)) for pattern in self.needed)


def is_debian_13() -> bool:
    """Only Debian 13's own packages count as these: others have another edition or another plugin."""
    release = Path("/etc/os-release")
    lines = release.read_text().splitlines() if release.exists() else []
    return "ID=debian" in lines and 'VERSION_ID="13"' in lines


@contextmanager
def _only_one(folder: Path, name: str) -> Iterator[None]:
    """Two starts at once: the second waits for the first, then finds the tree ready."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stamp(tree: Path) -> dict[str, object]:
    try:
        content = json.loads((tree / STAMP).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_stamp(recipe: Recipe, tree: Path, final: Path) -> None:
    """The place is part of the stamp, because it is written into the programs."""
    write_atomically(tree / STAMP, json.dumps({"recipe": recipe.number, "place": str(final)}) + "\n", 0o644)


def _binaries(tree: Path, patterns: Sequence[str]) -> list[str]:
    """The files of the tree itself: a link that leads out of it is the machine's own file."""
    found = {path.resolve() for pattern in patterns for path in tree.glob(pattern) if path.is_file()}
    inside = sorted(path for path in found if path.is_relative_to(tree.resolve()))
    return [str(path) for path in inside if _begins_as_elf(path)]


def _begins_as_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _patch(recipe: Recipe, tree: Path, final: Path, patchelf: str) -> None:
    """Make each program use the loader and the libraries of the tree at its final place."""
    loaders = sorted((tree / "usr/lib").glob("*/ld-linux*.so.*"))
    if not loaders:
        raise LocalRuntimeError(f"no dynamic loader below {tree}: is this machine's architecture one of Debian's?")
    folder = final / loaders[0].parent.relative_to(tree)
    places = ":".join(str(place) for place in (folder, *(folder / name for name in recipe.library_folders)))
    find = ["--force-rpath", "--set-rpath", places]
    programs, libraries = _binaries(tree, recipe.programs), _binaries(tree, recipe.libraries)
    loader = ["--set-interpreter", str(folder / loaders[0].name)]
    run_or_fail([patchelf, *loader, *find, *programs], "patching the programs")
    if libraries:
        run_or_fail([patchelf, *find, *libraries], "patching the libraries")


def _unpack(recipe: Recipe, tree: Path, final: Path, tools: DebianTools, say: Callable[[str], None]) -> None:
    say(f"unpacking {recipe.what} into {final} ({recipe.size}, once)")
    shutil.rmtree(tree, ignore_errors=True)
    words = ["--variant=extract", f"--include={','.join(recipe.packages)}", SUITE, str(tree)]
    run_or_fail([*tools.mmdebstrap, *words], f"unpacking the {recipe.name} with mmdebstrap", path=tools.path)
    tree.chmod(0o755)
    if not recipe.is_whole_below(tree):
        raise LocalRuntimeError(f"the packages in {tree} lack a program that is needed; remove it and try again")
    _patch(recipe, tree, final, tools.patchelf)
    _write_stamp(recipe, tree, final)


def _make_ready(recipe: Recipe, folder: Path, tree: Path, say: Callable[[str], None]) -> None:
    """Unpack, or patch again after the folder was moved, or find that all is done."""
    stamp = _stamp(tree)
    if stamp.get("recipe") == recipe.number and stamp.get("place") == str(tree):
        return
    tools = debian_tools(folder, say)
    if stamp.get("recipe") == recipe.number:
        _patch(recipe, tree, tree, tools.patchelf)
        _write_stamp(recipe, tree, tree)
        return
    draft = folder / f"{recipe.name}.new"
    _unpack(recipe, draft, tree, tools, say)
    shutil.rmtree(tree, ignore_errors=True)
    os.rename(draft, tree)


def ensure_tree(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> Path:
    """Return the root of the packages: this machine's on Debian 13 where all is installed, else a tree in `folder`,
    made on the first call.
    """
    if is_debian_13() and recipe.is_whole_below(SYSTEM):
        return SYSTEM
    place = folder.resolve()
    prepare_folder(place)
    tree = place / recipe.name
    with _only_one(place, recipe.name):
        _make_ready(recipe, place, tree, say)
    if not recipe.is_whole_below(tree):
        raise LocalRuntimeError(f"{tree} is damaged: remove it and start again")
    return tree
