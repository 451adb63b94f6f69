"""The registry file: what is accepted, and how what is not is named."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.errors import Invalid
from app.intake.registry_csv import parse_folder
from app.intake.registry_file import parse_text
from app.intake.registry_records import Reference, flatten

USCC = "91120000MA0000001Q"
FILE = """
enterprises:
  - uscc: 91120000MA0000001Q
    name_zh: 示例水泥
    name_en: No
    from_on: 2020-01-01
    district_code: 120119
    industry_code: "0611"
    process_units:
      - {code: plant, scope: 1, name_zh: 全厂}
      - {code: kiln, parent: plant, scope: 2, name_zh: 烧成}
    lines:
      - {code: kiln-1, process_unit: kiln, name_zh: 一线, variant_key: ndrc723-15-cement-clinker, from_on: 2020-01-01}
    gateways:
      - code: gw-clinker-01
        points:
          - code: E001
            carrier_key: electricity
            signal: register
            unit: kWh
            installations: [{from_at: 2020-01-01T00:00:00+08:00, to_at: ~, serial: 007, multiplier: 80.50, digits: 8}]
            assignments:
              - {from_at: 2020-01-01T00:00:00+08:00, process_unit: kiln, flow: in, line: kiln-1, parent_point: gw-2/E9}
"""


def errors_of(text: str) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        parse_text(text)
    return {item["location"]: item["message"] for item in caught.value.extra["errors"]}


@pytest.mark.parametrize("text", ['{"a":' * 20_000, "[" * 20_000, "\0", "{", "- ["])
def test_a_text_that_is_neither_yaml_nor_json_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_text(text)


def test_scalars_are_what_was_written() -> None:
    enterprise = parse_text(FILE).enterprises[0]
    assert (enterprise.district_code, enterprise.industry_code, enterprise.name_en) == ("120119", "0611", "No")
    installation = enterprise.gateways[0].points[0].installations[0]
    assert (installation.serial, installation.multiplier, installation.to_at) == ("007", Decimal("80.50"), None)
    assert installation.from_at == datetime(2019, 12, 31, 16, tzinfo=UTC)


def test_records_have_natural_keys_and_references() -> None:
    records = {(r.kind, *r.key[:3]): r for r in flatten(parse_text(FILE))}
    assignment = next(r for r in records.values() if r.kind == "point_assignment")
    assert assignment.given["process_unit_id"] == Reference("process_unit", (USCC, "kiln"))
    assert assignment.given["line_id"] == Reference("production_line", (USCC, "kiln", "kiln-1"))
    assert assignment.given["parent_point_id"] == Reference("point", ("gw-2", "E9"))
    assert assignment.defaults["expected_interval_s"] == 900
    assert assignment.path == ("enterprises", 0, "gateways", 0, "points", 0, "assignments", 0)


@pytest.mark.parametrize(
    ("was", "now", "path", "words"),
    [
        ("91120000MA0000001Q", "91120000MA0000001X", "enterprises[0].uscc", "would be 'Q'"),
        ("2020-01-01T00:00:00+08:00, to_at", "2020-01-01T00:00:00, to_at",
         "enterprises[0].gateways[0].points[0].installations[0].from_at", "with its zone"),
        ("signal: register", "signal: counter", "enterprises[0].gateways[0].points[0].signal", "'counter'"),
        ("multiplier: 80.50", "multiplier: 0", "enterprises[0].gateways[0].points[0].installations[0].multiplier",
         "greater than 0"),
        ("multiplier: 80.50", "multiplier: .nan", "enterprises[0].gateways[0].points[0].installations[0].multiplier",
         "'.nan'"),
        ("digits: 8", "digit: 8", "enterprises[0].gateways[0].points[0].installations[0].digit", "unknown field"),
        ("code: gw-clinker-01", "code: Gw_1", "enterprises[0].gateways[0].code", "'Gw_1'"),
        ("    from_on: 2020-01-01\n    district", "    district", "enterprises[0]", "go together"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_path(was: str, now: str, path: str, words: str) -> None:
    assert FILE.count(was) == 1
    errors = errors_of(FILE.replace(was, now))
    assert list(errors) == [path]
    assert words in errors[path]


def test_all_bad_rows_are_listed() -> None:
    text = FILE.replace("signal: register", "signal: counter").replace("digits: 8", "digits: 99")
    assert len(errors_of(text)) == 2


def test_a_list_is_told_how_a_file_begins() -> None:
    with pytest.raises(Invalid) as refused:
        parse_text("- 1")
    assert "a file begins with `enterprises:`" in refused.value.extra["errors"][0]["message"]


@pytest.mark.parametrize("text", ["enterprises: [", '{"enterprises": [', "just words", "", "- 1"])
def test_what_is_no_registry_file_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "enterprises.csv").write_text(
        f"uscc,name_zh,from_on,district_code,industry_code\n{USCC},示例,2020-01-01,120119,3011\n", encoding="utf-8"
    )
    (tmp_path / "points.csv").write_text(
        "uscc,gateway,code,carrier_key,signal,unit\n"
        f"{USCC},gw-clinker-01,E001,electricity,register,kWh\n{USCC},gw-clinker-01,E002,electricity,register,kWh\n",
        encoding="utf-8",
    )
    (tmp_path / "installations.csv").write_text(
        f"uscc,gateway,point,from_at,to_at,serial\n{USCC},gw-clinker-01,E002,2020-01-01T00:00:00+08:00,,S1\n",
        encoding="utf-8",
    )
    return tmp_path


def test_csv_files_make_the_same_tree(folder: Path) -> None:
    file, places = parse_folder(folder)
    assert [e.uscc for e in file.enterprises] == [USCC]
    points = file.enterprises[0].gateways[0].points
    assert [(p.code, len(p.installations)) for p in points] == [("E001", 0), ("E002", 1)]
    assert "to_at" not in points[1].installations[0].model_fields_set
    assert places["enterprises", 0, "gateways", 0, "points", 1] == "points.csv line 3"


def test_csv_errors_name_file_and_line(folder: Path) -> None:
    points = folder / "points.csv"
    points.write_text(points.read_text(encoding="utf-8").replace("E002,electricity,register", "E002,electricity,x"))
    with pytest.raises(Invalid) as caught:
        parse_folder(folder)
    assert [item["location"] for item in caught.value.extra["errors"]] == ["points.csv line 3, signal"]


def test_csv_without_its_owner_column_is_refused(folder: Path) -> None:
    (folder / "points.csv").write_text("uscc,code\nx,y\n")
    with pytest.raises(Invalid, match=r"points.csv: no column gateway"):
        parse_folder(folder)
