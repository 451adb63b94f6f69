"""What every command shares: the terminal, the database, the present, and who types."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from app import settings
from app.db import engine as engine_module
from app.domain.calendar import BUSINESS_ZONE, local
from app.errors import Invalid

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def actor() -> str:
    """Return who types, for the audit."""
    return f"cli:{os.environ.get('SUDO_USER') or os.environ.get('USER') or 'operator'}"


@contextmanager
def database() -> Iterator[Engine]:
    """Open the database for one command."""
    engine = engine_module.create(settings.load().database_url.get_secret_value())
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is under way, where a person is watching; yields a way to say what is next."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what)
        yield lambda now: progress.update(task, description=now)


def now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


def file_text(file: Path) -> str:
    """Return what a file says, with or without a byte order mark. Raises Invalid where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{file} is not UTF-8 ({error.reason} at byte {error.start}): in Excel, save it as CSV UTF-8",
            detail_zh=f"{file} 不是 UTF-8 文本：在 Excel 中请另存为 CSV UTF-8",
        ) from error


def instant(value: str) -> datetime:
    """Return an instant as an operator types it; without a zone it is the city's. Raises Invalid."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise Invalid(
            f"{value!r} is no instant: write 2026-10-01T10:30:00+08:00",
            detail_zh=f"{value!r} 不是时间：请写成 2026-10-01T10:30:00+08:00",
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=BUSINESS_ZONE)


def records(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows under the names of their columns.

    Tabs rather than a drawn table: a line is a record, however narrow the terminal, and can be cut and counted. Not by
    the console, which would turn tabs into blanks.
    """
    typer.echo("\t".join(columns))
    for row in rows:
        typer.echo("\t".join(_cell(row[column]) for column in columns))


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return local(value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def commands(text: str) -> typer.Typer:
    """Return an empty group of commands with its help text."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
