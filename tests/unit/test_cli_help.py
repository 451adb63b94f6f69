"""`--help` of the program and of each group: every summary is whole, in both languages, on one line of a terminal."""

import re
import unicodedata

import pytest
import typer.main
from typer.testing import CliRunner

from app.cli import app

PROGRAM = typer.main.get_command(app)
GROUPS = [name for name, command in PROGRAM.commands.items() if hasattr(command, "commands")]  # type: ignore[attr-defined]


def _columns(line: str) -> int:
    """How many columns of a terminal a line takes; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("group", [None, *GROUPS])
def test_every_summary_is_whole_and_in_both_languages(group: str | None, width: int) -> None:
    words = [group, "--help"] if group else ["--help"]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": str(width)}).stdout
    lines = shown.split("Commands:\n")[1].rstrip("\n").split("\n")
    known = PROGRAM.commands[group].commands if group else PROGRAM.commands  # type: ignore[attr-defined]
    assert len(lines) == len(known), "a summary takes one line"
    for line in lines:
        assert re.search(r"[\u4e00-\u9fff]", line), line
        assert re.search(r"  [A-Z][a-zA-Z]+.* ", line), line
        assert "..." not in line, line
        assert _columns(line) <= 80, line


def test_there_are_groups_to_look_at() -> None:
    assert {"edits", "events", "explain", "budgets", "gateways"} <= set(GROUPS)
