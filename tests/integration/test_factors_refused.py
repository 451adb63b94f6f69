"""Rows of factors that are not right: all are listed, nothing is written."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.integration import accounting_city as city
from tests.integration.factor_rows import counts, equal, grid, lines, operator, refused


@pytest.fixture
def client(engine: Engine, database_url: str) -> TestClient:
    return operator(engine, database_url)


WRONG = [
    (equal(factor_key="no_such_key"), "factor_key", "'no_such_key' is no key of this table or of a carrier"),
    (equal(unit="kg"), "unit", "'kg' is not converted to 'kWh', the unit of carrier electricity"),
    (equal(kgce_per_unit="0"), "kgce_per_unit", "0 is not over zero"),
    (equal(kgce_per_unit="-0.3"), "kgce_per_unit", "-0.3 is not over zero"),
    (equal(kgce_per_unit="NaN"), "kgce_per_unit", "NaN is not a number of at most 20 digits"),
    (equal(kgce_per_unit="1e400"), "kgce_per_unit", "1E+400 is not a number of at most 20 digits"),
    (equal(kgce_per_unit=""), "kgce_per_unit", "give the figure: without one, figures would be empty from then on"),
    (equal(confidence="certain"), "confidence", "confidence must be confirmed or recalled"),
    (equal(source=" "), "source", "say where the figures come from"),
    (equal(valid_from=""), "valid_from", "say from when it holds"),
    (equal(valid_to="2026-07-01"), "valid_to", "2026-07-01 is not after valid_from 2026-07-01"),
    (equal(basis="heat value"), "basis", "'heat value' is not that of this key: equal value 等价值"),
    (
        equal(factor_set="city", valid_from="2021-04-01"),
        "valid_from",
        "'GB/T 2589-2020' from 2021-04-01 and 'city' from 2021-04-01 begin on one day: say from when yours holds",
    ),
]


def test_all_bad_rows_are_listed_and_nothing_is_written(engine: Engine, client: TestClient) -> None:
    city.load_reference(engine)
    for row, column, message in WRONG:
        assert refused(engine, lines(row)) == [(f"line 2, {column}", message)]
    rows = [equal(), *(row for row, _, _ in WRONG), equal()]
    found = refused(engine, lines(*rows))
    numbers = {int(location.split(",")[0].removeprefix("line ")) for location, _ in found}
    # The first is right by itself; the one with another set names its rival although the file has other rows.
    assert numbers >= set(range(3, len(rows) + 2)) - {4 + len(WRONG)}
    before = counts(engine)
    answer = client.post("/api/v1/reference/factors/import", content=lines(*rows), headers={"Content-Type": "text/csv"})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, len(found))
    assert counts(engine) == before


@pytest.mark.parametrize(
    ("rows", "location", "message"),
    [
        (
            [equal(valid_from="2026-01-01", valid_to="2027-01-01"), equal(valid_from="2026-07-01")],
            "line 3, valid_from",
            "'GB/T 2589-2020' from 2026-01-01 holds until 2027-01-01, 'GB/T 2589-2020' from 2026-07-01 begins before:"
            " end the one where the other begins",
        ),
        (
            [
                equal(valid_from="2026-01-01", valid_to="2027-01-01"),
                equal(factor_set="city", valid_from="2026-02-01", valid_to="2026-03-01"),
                equal(valid_from="2026-07-01"),
            ],
            "line 4, valid_from",
            "'GB/T 2589-2020' from 2026-01-01 holds until 2027-01-01, 'GB/T 2589-2020' from 2026-07-01 begins before:"
            " end the one where the other begins",
        ),
        (
            [equal(valid_from="2020-01-01", valid_to="2022-01-01")],
            "line 2, valid_to",
            "'GB/T 2589-2020' from 2020-01-01 holds until 2022-01-01, 'GB/T 2589-2020' from 2021-04-01 begins before:"
            " end the one where the other begins",
        ),
        (
            [equal(valid_from="2025-01-01"), equal(valid_from="2026-01-01", valid_to="2027-01-01")],
            "line 3, valid_from",
            "'GB/T 2589-2020' from 2025-01-01 has no end and would hold again after 2027-01-01: give it a valid_to",
        ),
    ],
)
def test_two_rows_of_one_day_are_refused(
    engine: Engine, rows: list[dict[str, str]], location: str, message: str
) -> None:
    city.load_reference(engine)
    assert refused(engine, lines(*rows)) == [(location, message)]


@pytest.mark.parametrize(
    ("more", "column"),
    [
        ({"year": ""}, "year"), ({"year": "2031"}, "year"), ({"factor_value": ""}, "factor_value"),
        ({"factor_unit": "tCO2/GJ"}, "factor_unit"), ({"factor_key": "CN-999999"}, "factor_key"),
        ({"factor_value": "Infinity"}, "factor_value"),
    ],
)  # fmt: skip
def test_wrong_rows_of_the_grid(engine: Engine, more: dict[str, str], column: str) -> None:
    city.load_reference(engine)
    assert [location for location, _ in refused(engine, grid(**more))] == [f"line 2, {column}"]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", lines(), lines(equal(note="\0"))])
def test_a_file_that_is_none_is_refused(engine: Engine, content: str) -> None:
    assert refused(engine, content) == []


def test_a_cell_that_does_not_end_is_named_by_its_line(engine: Engine) -> None:
    assert [place for place, _ in refused(engine, lines(equal(note="x" * 200_000)))] == ["line 2"]
