"""The registry as a folder of CSV files (or one of them), one per kind of entry, assembled into the same tree.

Every file has a column `uscc`; points name their `gateway`, installations and assignments also their `point`. The
other columns are the fields of the entry. Errors name the file and the line.
"""

from pathlib import Path as FilePath
from typing import Any

from app.errors import Invalid
from app.intake.registry_file import Path, RegistryFile, check_shape
from app.intake.rows import CsvFile

# file name: (list it fills, columns that lead to its owner)
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "enterprises.csv": ("enterprises", ()),
    "enterprise_assignments.csv": ("assignments", ("uscc",)),
    "process_units.csv": ("process_units", ("uscc",)),
    "lines.csv": ("lines", ("uscc",)),
    "gateways.csv": ("gateways", ("uscc",)),
    "points.csv": ("points", ("uscc", "gateway")),
    "installations.csv": ("installations", ("uscc", "gateway", "point")),
    "assignments.csv": ("assignments", ("uscc", "gateway", "point")),
}
LISTS = {"uscc": ("enterprises", "uscc"), "gateway": ("gateways", "code"), "point": ("points", "code")}
_Owner = tuple[dict[str, Any], Path]


class _Tree:
    """The nested entries under construction, and the file and line that each came from."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {"enterprises": []}
        self.places: dict[Path, str] = {}
        self._owners: dict[tuple[str, ...], _Owner] = {(): (self.content, ())}

    def owner(self, keys: tuple[str, ...], columns: tuple[str, ...], place: str) -> _Owner:
        """Return the entry that owns a row, made by its key where the files have no row of its own."""
        if keys not in self._owners:
            list_name, key_name = LISTS[columns[-1]]
            above = self.owner(keys[:-1], columns[:-1], place)
            self._owners[keys] = self._append(above, list_name, {key_name: keys[-1]}, place)
        return self._owners[keys]

    def add(self, file_name: str, row: dict[str, str], place: str) -> None:
        """Put one row into the tree."""
        list_name, columns = FILES[file_name]
        keys = tuple(row.pop(column) for column in columns)
        added = self._append(self.owner(keys, columns, place), list_name, row, place)
        for owned_list, key_name in LISTS.values():
            if list_name == owned_list:
                self._owners.setdefault((*keys, row.get(key_name, "")), added)

    def _append(self, owner: _Owner, list_name: str, entry: dict[str, str], place: str) -> _Owner:
        entries = owner[0].setdefault(list_name, [])
        path = (*owner[1], list_name, len(entries))
        entries.append(entry)
        self.places[path] = place
        return entry, path


def parse_folder(source: FilePath) -> tuple[RegistryFile, dict[Path, str]]:
    """Return the entries of a folder of CSV files, or of one such file, and the file and line of each."""
    files = [source / name for name in FILES if (source / name).exists()] if source.is_dir() else [source]
    if not files or files[0].name not in FILES:
        raise Invalid(f"{source}: expected CSV files named {', '.join(FILES)}", errors=[])
    tree = _Tree()
    for file in files:
        _read(file, tree)
    return check_shape(tree.content, tree.places), tree.places


def _read(file: FilePath, tree: _Tree) -> None:
    records = CsvFile(file.read_text(encoding="utf-8-sig"))
    missing = {*FILES[file.name][1], "uscc"} - set(records.columns)
    if missing:
        raise Invalid(f"{file.name}: no column {', '.join(sorted(missing))}", errors=[])
    for line, row in records:
        place = f"{file.name} {line}"
        if None in row or None in row.values():
            raise Invalid(f"{place}: not as many cells as the header has columns", errors=[])
        tree.add(file.name, row, place)
