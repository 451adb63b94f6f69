"""`nenghao … import` for key units, energy managers, figures, targets and budgets: dry run, row errors, repeat."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from app import cli, settings
from tests.integration.region_site import Region, Works, add_works, build

FILES = {
    "key-units": ("key_unit_list", "year,uscc,tier,two_high,source\n2025,{uscc},10000_tce,true,名单\n"),
    "energy-managers": ("energy_manager", "uscc,holder,appointed_on,expires_on\n{uscc},李某,2025-01-01,\n"),
    "figures": (
        "entered_figure",
        "district_code,uscc,kind,year,value,unit,price_base_year,source\n"
        "120110,,gdp,2025,9104200,10^4 yuan,2020,统计公报\n,{uscc},new_renewable_energy,2025,12.5,tce,,绿证\n",
    ),
    "targets": (
        "intensity_target",
        "district_code,base_year,target_year,reduction_pct,source\n120110,2020,2025,14,文件\n",
    ),
    "budgets": (
        "energy_budget",
        "uscc,year,method,past_tce,factor,outputs,unit_kgce,source\n"
        "{uscc},2026,historical,26000|24000,0.98,,,核定\n{uscc},2027,baseline,,,985000|10,102|50,核定\n",
    ),
}


@pytest.fixture
def region(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    monkeypatch.setenv("NENGHAO_DATABASE_URL", database_url)
    settings.load.cache_clear()
    yield build(engine, database_url)
    settings.load.cache_clear()


def write(tmp_path: Path, content: str, works: Works) -> str:
    file = tmp_path / "rows.csv"
    file.write_text(content.replace("{uscc}", works.uscc), encoding="utf-8-sig")
    return str(file)


def rows(region: Region, table: str) -> int:
    with region.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


@pytest.mark.parametrize("group", FILES)
def test_import_after_a_look_and_once(region: Region, tmp_path: Path, group: str) -> None:
    table, content = FILES[group]
    file, wanted = write(tmp_path, content, add_works(region, 1)), content.count("\n") - 1
    looked = CliRunner().invoke(cli.app, [group, "import", file, "--dry-run"])
    assert looked.exit_code == 0, looked.output
    assert (f"{wanted} would be added" in looked.output, rows(region, table)) == (True, 0)
    assert looked.output.count("+ ") == wanted
    done = CliRunner().invoke(cli.app, [group, "import", file])
    assert (f"{wanted} added" in done.output, rows(region, table)) == (True, wanted)
    again = CliRunner().invoke(cli.app, [group, "import", file])
    assert f"0 added, 0 changed, 0 removed, {wanted} unchanged" in again.output
    assert rows(region, table) == wanted


@pytest.mark.parametrize("group", FILES)
def test_a_bad_row_is_named_by_its_line_and_nothing_is_written(
    region: Region, tmp_path: Path, group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, content = FILES[group]
    last = content.splitlines()[-1]
    bad = last.replace("2025", "1925").replace("2027", "1927") if group != "energy-managers" else "nobody,x,2025-01-01,"
    file = write(tmp_path, f"{content}{bad}\n", add_works(region, 1))
    monkeypatch.setattr("sys.argv", ["nenghao", group, "import", file])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert f"line {content.count(chr(10)) + 1}, " in capsys.readouterr().err
    assert rows(region, table) == 0
