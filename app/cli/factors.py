"""`nenghao factors`: conversions to standard coal and CO2 factors that are published year by year."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.terminal import actor, commands, database, file_text, now, out, working
from app.intake import factors
from app.intake.factors import FactorReport

group = commands("Conversion factors 折标系数与排放因子.")


@group.command("import", short_help="Import factors, all or nothing 导入系数.")
def factors_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, columns as in app/reference")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and show what would change, write nothing")] = False,
) -> None:
    """Bring in factors; all bad rows are listed, nothing is written unless all are right 导入系数."""
    content = file_text(file)
    with database() as engine, working(f"importing {file.name}"), engine.begin() as connection:
        report = factors.bring_in(connection, content, actor=actor(), now=now(), is_dry_run=dry_run)
    _show(report)


def _show(report: FactorReport) -> None:
    for change in report.changes:
        before = f"{change.before} → " if change.before else ""
        out.print(f"{change.name}: {before}{change.after}", markup=False)
        carriers = ", ".join(change.carriers) or "no carrier"
        out.print(f"  {carriers}: {change.months} month(s) of {change.process_units} process unit(s)", markup=False)
    verb = "would be " if report.is_dry_run else ""
    out.print(
        f"{report.table}: {report.inserted} row(s) {verb}inserted, {report.superseded} {verb}superseded,"
        f" {report.unchanged} unchanged; {report.months} month(s) of {report.process_units} process unit(s)"
        f" {verb or 'are to be '}computed again"
    )
