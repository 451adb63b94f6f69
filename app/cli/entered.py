"""What people bring in beside the meters, from CSV: key-unit lists, energy managers, figures, targets, budgets."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from app.cli.terminal import actor, commands, database, file_text, now, out, working
from app.db.scope import CITY
from app.intake import entered, key_units, rows, working_days
from app.intake.registry_file import Entry
from app.intake.registry_file import Path as EntryPath

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV file, UTF-8, with a header line")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and show, write nothing 只检查")]
Bring = Callable[[Connection, Sequence[Any], Mapping[EntryPath, str]], rows.Report]


def import_key_units(file: File, dry_run: DryRun = False) -> None:
    """Key units: year, uscc, tier, two_high, source. The file is the whole list of its years 导入名单."""
    _bring(
        file, "key_units", key_units.KeyUnitEntry, dry_run,
        lambda connection, entries, places: key_units.report_list(
            connection, CITY, entries, actor=actor(), places=places, is_dry_run=dry_run
        ),
    )  # fmt: skip


def import_managers(file: File, dry_run: DryRun = False) -> None:
    """Energy managers: uscc, holder, title, appointed_on, expires_on, filed_on 导入能源管理负责人."""
    _bring(
        file, "energy_managers", key_units.EnergyManagerEntry, dry_run,
        lambda connection, entries, places: key_units.report_managers(
            connection, CITY, entries, actor=actor(), places=places, is_dry_run=dry_run
        ),
    )  # fmt: skip


def import_figures(file: File, dry_run: DryRun = False) -> None:
    """Figures: district_code or uscc, kind, year, value, unit, price_base_year, source 导入统计数据."""
    _bring(
        file, "figures", entered.FigureEntry, dry_run,
        lambda connection, entries, places: entered.report_figures(
            connection, CITY, entries, actor=actor(), now=now(), places=places, is_dry_run=dry_run
        ),
    )  # fmt: skip


def import_targets(file: File, dry_run: DryRun = False) -> None:
    """Targets: district_code, target_key, base_year, target_year, reduction_pct, source, confidence 导入各区目标."""
    _bring(
        file, "targets", entered.TargetEntry, dry_run,
        lambda connection, entries, places: entered.report_targets(
            connection, CITY, entries, actor=actor(), now=now(), places=places, is_dry_run=dry_run
        ),
    )  # fmt: skip


def import_budgets(file: File, dry_run: DryRun = False) -> None:
    """Budgets: uscc, year, method, source, and budget_tce, or outputs and unit_kgce, or past_tce and factor (several
    in a cell as 26000|24000) 导入用能预算.
    """
    _bring(
        file, "budgets", entered.BudgetEntry, dry_run,
        lambda connection, entries, places: entered.report_budgets(
            connection, CITY, entries, actor=actor(), now=now(), places=places, is_dry_run=dry_run
        ),
    )  # fmt: skip


def import_calendar(file: File, dry_run: DryRun = False) -> None:
    """Working days: day, is_workday, name_zh, source, edition, confidence, valid_from 导入工作日历."""
    _bring(
        file, "calendar", working_days.CalendarEntry, dry_run,
        lambda connection, entries, places: working_days.report(
            connection, entries, actor=actor(), places=places, is_dry_run=dry_run
        ),
    )  # fmt: skip


def _bring(file: Path, list_name: str, entry_type: type[Entry], is_dry_run: bool, bring: Bring) -> None:
    entries, places = rows.parse_csv(file_text(file), list_name, entry_type)
    with database() as engine, working(f"bringing in {len(entries)} rows"), engine.begin() as connection:
        report = bring(connection, entries, places)
    for line in report.changes if is_dry_run else report.changes[:20]:
        out.print(line, markup=False)
    if not is_dry_run and len(report.changes) > 20:
        out.print(f"… and {len(report.changes) - 20} more")
    verb = "would be " if is_dry_run else ""
    counts = f"{report.added} {verb}added, {report.changed} {verb}changed, {report.removed} {verb}removed"
    out.print(f"{counts}, {report.unchanged} unchanged")


def register(app: typer.Typer) -> None:
    """Add the groups to the program, each with its `import`."""
    for name, text, command, short in (
        (
            "key-units",
            "Key energy-using units 重点用能单位.",
            import_key_units,
            "Import the whole list of a year 导入名单.",
        ),
        (
            "energy-managers",
            "Holders of the energy-management post 能源管理负责人.",
            import_managers,
            "Import energy managers 导入能源管理负责人.",
        ),
        (
            "figures",
            "GDP, value added and other entered figures 统计数据.",
            import_figures,
            "Import figures 导入统计数据.",
        ),
        ("targets", "Targets of regions 各区目标.", import_targets, "Import targets 导入各区目标."),
        ("budgets", "Energy budgets of enterprises 用能预算.", import_budgets, "Import budgets 导入用能预算."),
        ("calendar", "Working days, for fault clocks 工作日历.", import_calendar, "Import working days 导入工作日历."),
    ):
        group = commands(text)
        group.command("import", short_help=short)(command)
        # A group of one command would be that command; a callback keeps `import` a word of its own.
        group.callback()(lambda: None)
        app.add_typer(group, name=name, help=text)
