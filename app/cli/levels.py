"""`nenghao levels`: editions of benchmark and baseline, of quota limits and of their corrections."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.terminal import actor, commands, database, file_text, now, out, working
from app.intake import levels
from app.intake.levels import EditionReport

group = commands("Editions of levels and quota limits 标杆、基准与限额.")


@group.command("import", short_help="Import an edition, all or nothing 导入新版本.")
def levels_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, columns as in app/reference")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and show what would change, write nothing")] = False,
) -> None:
    """Bring in an edition; all bad rows are listed, nothing is written unless all are right 导入新版本."""
    content = file_text(file)
    with database() as engine, working(f"importing {file.name}"), engine.begin() as connection:
        report = levels.bring_in(connection, content, actor=actor(), now=now(), is_dry_run=dry_run)
    _show(report)


def _show(report: EditionReport) -> None:
    for change in report.changes:
        before = f"{change.before} → " if change.before else ""
        out.print(f"{change.name}: {before}{change.after}", markup=False)
        for statuses, months in change.statuses.items():
            out.print(f"  {statuses}: {months} month(s)", markup=False)
    verb = "would be " if report.is_dry_run else ""
    out.print(
        f"{report.table}: {report.inserted} row(s) {verb}inserted, {report.superseded} {verb}superseded,"
        f" {report.unchanged} unchanged; {report.months} month(s) of {report.lines} line(s)"
        f" {verb or 'are to be '}computed again"
    )
