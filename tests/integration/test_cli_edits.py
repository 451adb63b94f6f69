"""`nenghao edits`: what an operator types, what is printed and written; a file comes in as a whole or not at all."""

from pathlib import Path
from typing import Any

import pytest

from ingest.store import Store
from tests.conftest import Nenghao
from tests.integration import ingest_site
from tests.integration.ingest_site import Site, reading

AT, LATER = "2026-03-01T08:00:00+08:00", "2026-03-01T08:15:00"  # the first two quarter hours, the second without a zone
WHY = ("--reason", "misread")


@pytest.fixture
def site(database_url: str) -> Site:
    """A gateway of three points with two readings; the second has two values and is in dispute."""
    made = ingest_site.build_site(database_url, "gw-one")
    store = Store(database_url)
    store.commit([ingest_site.arrival("gw-one", 0, [reading(0, 1.0), reading(1, 2.0)])])
    store.commit([ingest_site.arrival("gw-one", 1, [reading(1, 2.5)])])
    store.close()
    return made


def edits_of(site: Site) -> list[tuple[Any, ...]]:
    return site.query("SELECT value, reason, evidence FROM reading_override WHERE origin = 'edit' ORDER BY ts, rank")


def values(site: Site) -> list[tuple[Any, ...]]:
    return site.query("SELECT value FROM reading_effective ORDER BY point_id, ts")


def test_one_edit_after_a_look_once_and_a_void(nenghao: Nenghao, site: Site) -> None:
    words = ("edits", "enter", "gw-one/E000", AT, "--value", "-1.25", *WHY, "--evidence", "photo 7")
    assert nenghao(*words, "--dry-run")[:2] == (0, "1 would be entered, 0 unchanged, 0 dispute(s) would be decided\n")
    assert edits_of(site) == []
    assert nenghao(*words)[:2] == (0, "1 entered, 0 unchanged, 0 dispute(s) decided\n")
    assert nenghao(*words)[:2] == (0, "0 entered, 1 unchanged, 0 dispute(s) decided\n")
    assert values(site) == [(-1.25,), (None,)]
    assert nenghao("edits", "void", "gw-one/E000", AT, "--reason", "no meter")[0] == 0
    assert edits_of(site) == [(-1.25, "misread", "photo 7"), (None, "no meter", None)]
    assert values(site) == [(None,), (None,)]
    audits = site.query("SELECT actor, action FROM audit WHERE action = 'edits.enter'")
    assert [(actor[:4], action) for actor, action in audits] == [("cli:", "edits.enter")] * 3


def test_a_dispute_is_decided_and_nothing_else(nenghao: Nenghao, site: Site) -> None:
    done, _, said = nenghao("edits", "decide", "gw-one/E000", AT, "--value", "1", *WHY)
    assert (done, "nothing is in dispute" in said, edits_of(site)) == (1, True, [])
    for expected in (
        "1 entered, 0 unchanged, 1 dispute(s) decided\n",
        "0 entered, 1 unchanged, 0 dispute(s) decided\n",
    ):
        assert nenghao("edits", "decide", "gw-one/E000", LATER, "--value", "2.5", *WHY)[:2] == (0, expected)
    assert values(site) == [(1.0,), (2.5,)]
    assert site.query("SELECT count(*) FROM finding WHERE closed_at IS NULL") == [(0,)]


def test_the_list_filters_as_the_api_does(nenghao: Nenghao, site: Site) -> None:
    nenghao("edits", "enter", "gw-one/E000", AT, "--value", "7", *WHY)
    nenghao("edits", "enter", "gw-one/E001", AT, "--value", "8", *WHY)
    span = ("--from", "2026-03-01", "--to", "2026-03-02")
    done, said, _ = nenghao("edits", "list", "gw-one", *span)
    lines = [
        dict(zip(said.splitlines()[0].split("\t"), line.split("\t"), strict=True)) for line in said.splitlines()[1:]
    ]
    assert done == 0
    assert [(line["point"], line["ts"], line["value"], line["counts"]) for line in lines] == [
        ("gw-one/E000", "2026-03-01T08:15:00+08:00", "2", "no"),
        ("gw-one/E000", "2026-03-01T08:15:00+08:00", "2.5", "no"),
        ("gw-one/E000", AT, "1", "no"),
        ("gw-one/E000", AT, "7", "yes"),
        ("gw-one/E001", AT, "8", "yes"),
    ]
    assert [line["reason"] for line in lines] == ["", "", "", "misread", "misread"]
    counted = {
        ("gw-one/E001", *span): 1,
        ("gw-one", "--from", "2026-03-01T08:15", "--to", "2026-03-02"): 2,
        ("gw-one", "--from", "2026-03-01", "--to", "2026-03-01T08:15"): 3,
        ("gw-one", *span, "--limit", "1"): 2,
        ("gw-one", "--to", "2026-03-01T08:00"): 0,
    }
    assert {words: len(nenghao("edits", "list", *words)[1].splitlines()) - 1 for words in counted} == counted
    for words, complaint in (
        (("gw-two",), "gw-two"),
        (("gw-one", "--from", "yesterday"), "is no instant"),
        (("gw-one", "--from", "2026-03-02", "--to", "2026-03-01"), "is after --to"),
    ):
        done, _, said = nenghao("edits", "list", *words)
        assert (done, complaint in said) == (1, True), said


def test_what_is_wrong_is_said_and_nothing_is_written(nenghao: Nenghao, site: Site) -> None:
    for words, complaint in (
        (("gw-one/E404", AT, "--value", "1", *WHY), "edit, point: there is no point gw-one/E404"),
        (
            ("gw-one/E000", "2019-03-01", "--value", "1", *WHY),
            "edit, ts: 2019-03-01T00:00:00+08:00 is before the first",
        ),
        (("gw-one/E000", AT, "--value", "nan", *WHY), "value: "),
        (("gw-one/E000", AT, "--value", "1", "--reason", " "), "reason: "),
        (("gw-one", AT, "--value", "1", *WHY), "point: "),
    ):
        done, _, said = nenghao("edits", "enter", *words)
        assert (done, complaint in said) == (1, True), said
    assert nenghao("edits", "enter", "gw-one/E000", AT, *WHY)[0] == 2  # without a value it is no edit
    assert edits_of(site) == []


def test_a_closed_year_takes_a_reason(nenghao: Nenghao, site: Site) -> None:
    words = ("edits", "enter", "gw-one/E000", "2023-06-01", "--value", "1", *WHY)
    done, _, said = nenghao(*words)
    assert (done, "year 2023 is closed" in said, edits_of(site)) == (1, True, [])
    assert nenghao(*words, "--closed-year-reason", "court order 7")[0] == 0
    detail = site.query("SELECT detail FROM audit WHERE action = 'edits.enter'")[0][0]
    assert detail["closed_years"] == {"2023": "court order 7"}


def write(tmp_path: Path, *lines: str, header: str = "gateway,point,ts,value,reason,evidence") -> str:
    file = tmp_path / "edits.csv"
    file.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8-sig")
    return str(file)


def test_a_file_is_brought_in_after_a_look_and_once(nenghao: Nenghao, site: Site, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        f"gw-one,E000,{AT},null,no meter,",
        f"gw-one,E000,{LATER}+08:00,2.5,site visit,photo 7",
        f"gw-one,E001,{AT},48213.5,copied from the display,",
    )
    looked = nenghao("edits", "import", file, "--dry-run")
    assert looked[:2] == (0, "3 would be entered, 0 unchanged, 1 dispute(s) would be decided\n")
    assert (edits_of(site), site.query("SELECT count(*) FROM audit")) == ([], [(0,)])
    assert nenghao("edits", "import", file)[:2] == (0, "3 entered, 0 unchanged, 1 dispute(s) decided\n")
    assert values(site) == [(None,), (2.5,), (48213.5,)]
    assert nenghao("edits", "import", file)[:2] == (0, "0 entered, 3 unchanged, 0 dispute(s) decided\n")
    assert len(edits_of(site)) == 3


def test_every_bad_line_is_named_and_nothing_is_written(nenghao: Nenghao, site: Site, tmp_path: Path) -> None:
    good = f"gw-one,E000,{AT},1,misread,"
    shapes = write(
        tmp_path,
        good,
        f"gw-one,E000,{LATER},1,misread,",
        f"gw-one,E001,{AT},,misread,",
        f"gw-one,E001,{AT},inf,misread,",
        f"gw-one,E001,{AT},1",
        f"gw-one,E001,{AT},1,,",
    )
    done, _, said = nenghao("edits", "import", shapes)
    places = [line.split(":")[0].strip() for line in said.splitlines()[1:]]
    assert done == 1
    assert places == ["line 3, ts", "line 4, value", "line 5, value", "line 6", "line 7, reason"]
    meanings = write(tmp_path, good, f"gw-one,E404,{AT},1,misread,", f"gw-one,E001,2999{AT[4:]},1,misread,", good)
    done, _, said = nenghao("edits", "import", meanings)
    assert done == 1
    for complaint in ("line 3, point: there is no", "line 4, ts: 2999", "line 5: the same point and instant as line 2"):
        assert complaint in said
    closed = write(tmp_path, good, f"gw-one,E000,2023{AT[4:]},1,misread,")
    done, _, said = nenghao("edits", "import", closed)
    assert (done, "line 3, ts: year 2023 is closed" in said) == (1, True)
    for header, complaint in (("gateway,point,ts", "has no column value, reason"), ("x", "unknown columns x")):
        assert complaint in nenghao("edits", "import", write(tmp_path, header=header))[2]
    latin = tmp_path / "latin.csv"
    latin.write_bytes("gateway,point,ts,value,reason\n错".encode("gb18030"))
    assert "is not UTF-8" in nenghao("edits", "import", str(latin))[2]
    assert edits_of(site) == []
