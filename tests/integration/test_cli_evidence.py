"""`nenghao verify` and `drop-readings` from the shell: what they print and how they end."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine

from app import telemetry
from app.pipeline import seal
from ingest.store import Store
from tests.conftest import Nenghao
from tests.integration.ingest_site import Site, arrival, build_site, reading


@pytest.fixture
def site(database_url: str, engine: Engine) -> Site:
    site = build_site(database_url, "gw-one", "gw-two")
    store = Store(database_url)
    store.commit([arrival(code, seq, [reading(seq, seq + 0.5)]) for code in ("gw-one", "gw-two") for seq in range(3)])
    store.close()
    while seal.run(engine, datetime.now(UTC)):
        pass
    return site


def test_untouched_evidence_ends_with_0(nenghao: Nenghao, site: Site) -> None:
    status, out, _ = nenghao("verify")
    assert (status, out) == (0, "2 gateways, 6 links, 0 breaches, 0 receipts not sealed yet\n")
    status, out, _ = nenghao("verify", "--gateway", "gw-two", "--details", "--from", "2020-01-01", "--to", "2021-01-01")
    assert status == 0
    assert out.splitlines()[0] == "gw-two: 0 links, 0 receipts not sealed yet"
    status, _, err = nenghao("verify", "--gateway", "gw-nobody")
    assert (status, "no gateway 'gw-nobody' is registered" in err) == (1, True)


def test_an_altered_and_a_deleted_reading_are_named_and_end_with_1(nenghao: Nenghao, site: Site) -> None:
    site.query("UPDATE reading SET value = 99 WHERE value = 0.5 AND point_id = (SELECT min(id) FROM point)")
    site.query("DELETE FROM reading WHERE value = 1.5 AND point_id = (SELECT min(id) FROM point)")
    status, out, _ = nenghao("verify")
    altered, removed, total = out.splitlines()
    assert status == 1
    assert altered.startswith(
        "gw-one: reading_altered: E000 at 2026-03-01T08:00:00+08:00 = 0.5 (good) was sealed, stored is 99.0 (good);"
        " receipt 1 (epoch e1, live, seq 0, "
    )
    assert removed.startswith(
        "gw-one: reading_removed: E000 at 2026-03-01T08:15:00+08:00 = 1.5 (good) was sealed and is gone; receipt "
    )
    assert total == "2 gateways, 6 links, 2 breaches, 0 receipts not sealed yet"


@pytest.fixture
def logging() -> Iterator[None]:
    """Undo what a test sets up: the log goes to the standard error of that moment."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging")
def test_a_logged_head_must_stand(
    nenghao: Nenghao, site: Site, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure_logging("worker")
    seal.log_heads(engine)
    log = tmp_path / "worker.log"
    log.write_text(capsys.readouterr().err, "utf-8")
    status, out, _ = nenghao("verify", "--heads", str(log))
    assert (status, "2 logged heads, 0 breaches" in out) == (0, True)
    site.query("DELETE FROM seal WHERE chain_no = 3")
    assert nenghao("verify")[0] == 0  # the tail is merely not sealed yet, as far as the database tells
    status, out, _ = nenghao("verify", "--heads", str(log))
    assert (status, out.count("head_differs: link 3 was ")) == (1, 2)
    log.write_text("another log\n")
    status, _, said = nenghao("verify", "--heads", str(log))
    assert (status, "holds no chain head" in said) == (1, True)


def test_old_readings_are_shown_then_dropped(nenghao: Nenghao, site: Site) -> None:
    status, out, _ = nenghao("drop-readings", "--before", "2026-03-20")
    assert (status, out.splitlines()[-1]) == (0, "1 chunks")
    status, _, err = nenghao("drop-readings", "--before", "2099-01-01")
    assert (status, "with --yes this is refused: readings after" in err) == (0, True)
    status, _, err = nenghao("drop-readings", "--before", "2099-01-01", "--yes")
    assert (status, "devices deliver up to 6 months late" in err) == (1, True)
    assert site.count("reading") == 6
    early = datetime(2020, 3, 1, tzinfo=UTC)
    site.query("INSERT INTO reading SELECT %s, min(point_id), 1, 0, min(receipt_id) FROM reading", early)
    status, _, err = nenghao("drop-readings", "--before", "2021-01-01", "--yes")
    assert (status, "gw-one has 1 breach(es), nothing was dropped" in err) == (1, True)
