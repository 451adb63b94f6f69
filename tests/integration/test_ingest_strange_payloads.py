"""100,000 strange messages through decoder and store: none breaks them, each is accepted or refused with a reason."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import payload
from ingest.store import Arrival, Outcome, Store
from tests.integration.ingest_site import RECEIVED_AT, Site, build_site
from tests.integration.mutants import mutants
from tests.unit.strange_messages import DOCUMENT

MUTANTS, BATCH = 98_000, 128
EXAMPLES, DOCUMENTS = 100, 20
GATEWAYS = ("gw-strange-1", "gw-strange-2")
SENDERS = (*GATEWAYS * 10, "gw-nobody", "Ünknown\0")


@pytest.fixture
def site(database_url: str) -> Site:
    return build_site(database_url, *GATEWAYS)


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    opened = Store(site.url)
    yield opened
    opened.close()


class Account:
    """What was said of each message, added up."""

    def __init__(self) -> None:
        self.items: Counter[str] = Counter()
        self.refused = self.repeated = self.gone = 0

    def take(self, arrival: Arrival, outcome: Outcome) -> None:
        """Check one answer for itself and add it."""
        ack = outcome.ack
        if ack is None:
            self.gone += 1
            assert b"gone" in arrival.raw
            return
        assert {reason for _, reason in ack.rejected} <= set(payload.REASONS)
        json.loads(payload.encode_ack(ack))
        counts = {"accepted": ack.accepted, "duplicate": ack.duplicate, "disputed": ack.disputed}
        if [index for index, _ in ack.rejected] == [None]:
            assert not any(counts.values())
            self.refused += not outcome.is_repeat
        else:
            self._check_every_item(arrival.raw, sum(counts.values()), [index for index, _ in ack.rejected])
        if outcome.is_repeat:
            self.repeated += 1
            return
        self.items += Counter({**counts, "rejected": sum(index is not None for index, _ in ack.rejected)})

    def _check_every_item(self, raw: bytes, taken: int, rejected: list[int | None]) -> None:
        """A message that any JSON reader reads alike has one answer for each item of `readings`."""
        assert len(rejected) == len(set(rejected))
        document = json.loads(raw, object_pairs_hook=_once, parse_int=float)
        if isinstance(document, dict) and "series" not in document:
            assert taken + len(rejected) == len(document["readings"])


def _once(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    return found if len(found) == len(pairs) else None


def _run(store: Store, account: Account, raws: Iterable[bytes], chance: random.Random) -> int:
    """Give messages to the store in batches, in the name of some gateway; return how many there were."""
    count, rest = 0, iter(raws)
    while batch := list(itertools.islice(rest, BATCH)):
        lane = chance.randrange(2)
        arrivals = [Arrival(chance.choice(SENDERS), lane, raw, RECEIVED_AT) for raw in batch]
        outcomes = store.commit(arrivals)
        assert len(outcomes) == len(arrivals)
        for arrival, outcome in zip(arrivals, outcomes, strict=True):
            assert outcome.gateway_code == arrival.gateway_code
            account.take(arrival, outcome)
        count += len(batch)
    return count


def _check_tables(site: Site, account: Account) -> None:
    """The tables say what the gateways were told: not a reading, a refusal or its raw bytes more or less."""
    sums = site.query("SELECT coalesce(sum(accepted), 0), coalesce(sum(duplicate), 0), sum(disputed) FROM receipt")[0]
    assert sums == (account.items["accepted"], account.items["duplicate"], account.items["disputed"])
    quarantined = dict(site.query("SELECT item_index IS NULL, sum(item_count) FROM quarantine GROUP BY 1"))
    assert quarantined == {True: account.refused, False: account.items["rejected"]}
    assert site.query("SELECT count(*) FROM quarantine WHERE raw = '' AND reason <> 'malformed_json'")[0][0] == 0
    stored = site.query(
        "SELECT count(*) FROM (SELECT point_id, ts FROM reading UNION SELECT point_id, ts FROM reading_override)"
    )[0][0]
    assert stored == site.count("reading") <= account.items["accepted"]


def _quarantined(site: Site) -> int:
    return int(site.query("SELECT coalesce(sum(item_count), 0) FROM quarantine")[0][0])


@pytest.mark.slow
def test_mutants_are_accounted_for(site: Site, store: Store) -> None:
    account = Account()
    assert _run(store, account, mutants(MUTANTS, seed=4), random.Random(4)) == MUTANTS
    _check_tables(site, account)
    assert min(account.items.values()) > 100  # of each kind: accepted, duplicate, disputed, rejected
    assert min(account.refused, account.repeated, account.gone) > 100
    reasons = {reason for (reason,) in site.query("SELECT DISTINCT reason FROM quarantine")}
    assert reasons >= set(payload.REASONS) - {"gateway_disabled", "too_large", "storage_error"}


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(DOCUMENT, min_size=DOCUMENTS, max_size=DOCUMENTS), st.randoms(use_true_random=False))
def test_strange_documents_are_accounted_for(
    site: Site, store: Store, documents: list[dict[str, Any]], chance: random.Random
) -> None:
    account = Account()
    raws = [json.dumps(document).encode("utf-8", "surrogatepass") for document in documents]
    before = site.count("receipt"), _quarantined(site)
    assert _run(store, account, raws, chance) == len(documents)
    receipts, quarantined = site.count("receipt") - before[0], _quarantined(site) - before[1]
    assert quarantined == account.refused + account.items["rejected"]
    assert receipts + account.refused + account.repeated + account.gone == len(documents)
