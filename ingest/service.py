"""The loop: take messages from the broker, commit them in batches, acknowledge what is committed.

Order of every batch: COMMIT, application acks (QoS 0), broker acks in order of arrival. Killed at any point, the broker
or the gateway delivers again, and a known identity gets its first ack again.

For a benchmark: `Service(settings).run()` is the whole service; `stop()` from a signal handler or thread ends it.
`Store.commit` of ingest.store is the ladder without a broker.
"""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from app.domain.calendar import BUSINESS_ZONE
from ingest import payload
from ingest.batching import BackfillPace, Batcher
from ingest.mqtt import BrokerAddress, Delivery, LaneSession, StateSession, ack_topic, request_topic
from ingest.settings import Settings
from ingest.store import (
    Arrival,
    Outcome,
    StateArrival,
    Store,
    StoreUnavailableError,
    find_gaps,
    release_requested,
    take_requests,
)

HOUSEKEEPING_S = 2.0
GAPS_EVERY_S = 30.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 10.0
LIVE, BACKFILL = 0, 1


class Metrics:
    """What the process tells Prometheus. No label carries a gateway, a point or an enterprise."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.readings = Counter("nenghao_ingest_readings", "Readings by result", ["result"], registry=registry)
        self.messages = Counter("nenghao_ingest_messages", "Messages by kind", ["kind"], registry=registry)
        self.rejects = Counter("nenghao_ingest_rejects", "Rejections by reason", ["reason"], registry=registry)
        self.releases = Counter("nenghao_ingest_releases", "Releases by result", ["result"], registry=registry)
        self.batch = Histogram(
            "nenghao_ingest_batch_messages",
            "Messages in a batch",
            buckets=[1, 2, 8, 32, 64, 128, 256],
            registry=registry,
        )
        self.commit_s = Histogram(
            "nenghao_ingest_commit_seconds",
            "From a batch in hand to its commit",
            ["lane"],
            buckets=[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10],
            registry=registry,
        )
        self.oldest_s = Gauge(
            "nenghao_ingest_oldest_unacknowledged_seconds",
            "Age of the oldest message in hand",
            ["lane"],
            registry=registry,
        )
        self.backlog = Gauge("nenghao_ingest_backlog_messages", "Messages in hand", ["lane"], registry=registry)
        self.receive_maximum = Gauge(
            "nenghao_ingest_receive_maximum", "The most messages in hand", ["lane"], registry=registry
        )
        self.last_commit = Gauge("nenghao_ingest_last_commit_timestamp_seconds", "Last commit", registry=registry)
        self.is_storing = Gauge("nenghao_ingest_is_storing", "1 while the database takes batches", registry=registry)
        self.is_receiving = Gauge("nenghao_ingest_is_receiving", "1 while subscribed", ["session"], registry=registry)
        self.gaps = Counter("nenghao_ingest_gaps", "Ranges of messages found missing", registry=registry)
        for result in ("accepted", "duplicate", "disputed", "rejected"):
            self.readings.labels(result)
        for reason in payload.REASONS:
            self.rejects.labels(reason)
        for kind in ("stored", "repeated", "refused", "gone", "state"):
            self.messages.labels(kind)

    def count(self, outcome: Outcome) -> None:
        """Count what became of one message."""
        ack = outcome.ack
        if ack is None:
            self.messages.labels("gone").inc()
        elif outcome.is_repeat:
            self.messages.labels("repeated").inc()
        else:
            is_refused = any(index is None for index, _ in ack.rejected)
            self.messages.labels("refused" if is_refused else "stored").inc()
            self.readings.labels("accepted").inc(ack.accepted)
            if ack.duplicate:
                self.readings.labels("duplicate").inc(ack.duplicate)
            if ack.disputed:
                self.readings.labels("disputed").inc(ack.disputed)
            for index, reason in ack.rejected:
                self.rejects.labels(reason).inc()
                if index is not None:
                    self.readings.labels("rejected").inc()


@dataclass(frozen=True, slots=True)
class InHand:
    """A delivery and the lane on which its acknowledgement goes back."""

    lane: int
    delivery: Delivery

    def arrival(self) -> Arrival:
        """Return it as the store takes it."""
        delivery = self.delivery
        return Arrival(delivery.gateway_code, self.lane, delivery.raw, delivery.received_at, delivery.is_redelivered)


class Service:
    """One ingest process. Several may run side by side on the same shared subscription."""

    def __init__(self, settings: Settings, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._settings = settings
        self._log = structlog.get_logger(process="ingest")
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._metrics = Metrics(registry)
        self._store = Store(settings.database_url.get_secret_value())
        address = BrokerAddress(
            settings.broker_host,
            settings.broker_port,
            settings.ingest_user,
            settings.ingest_password.get_secret_value(),
            settings.broker_ca_file,
        )
        maxima = (settings.ingest_live_receive_maximum, settings.ingest_backfill_receive_maximum)
        self._lanes = [
            LaneSession(
                address, settings.ingest_client, lane, receive_maximum=maximum, wake=self._wake, on_event=self._told
            )
            for lane, maximum in zip(payload.LANES, maxima, strict=False)
        ]
        self._states = StateSession(address, settings.ingest_client, on_event=self._told)
        self._batcher: Batcher[InHand] = Batcher(
            max_items=settings.ingest_batch_messages,
            max_bytes=settings.ingest_batch_bytes,
            max_age_s=settings.ingest_batch_age_s,
        )
        self._pace = BackfillPace()
        self._housekeeping_at_s = self._gaps_at_s = 0.0
        self._committing: Sequence[InHand] = ()
        for number, (name, maximum) in enumerate(zip(payload.LANES, maxima, strict=False)):
            self._metrics.receive_maximum.labels(name).set(maximum)
            self._metrics.backlog.labels(name).set_function(partial(self._in_hand, number))
            self._metrics.oldest_s.labels(name).set_function(partial(self._oldest_s, number))
        for session in (*self._lanes, self._states):
            self._metrics.is_receiving.labels(session.name).set_function(partial(getattr, session, "is_subscribed"))

    def run(self) -> None:
        """Serve until `stop`; then commit and acknowledge what is in hand, and disconnect."""
        for session in (*self._lanes, self._states):
            session.start()
        self._log.info("ingest runs", client=self._settings.ingest_client)
        try:
            while not self._stopping.is_set():
                self._turn()
            for lane in self._lanes:
                lane.close()
            self._turn_until_empty()
        finally:
            for session in (*self._lanes, self._states):
                session.stop()
            self._store.close()
        self._log.info("ingest has stopped")

    @property
    def is_receiving(self) -> bool:
        """Whether all sessions are connected and subscribed."""
        return all(session.is_subscribed for session in (*self._lanes, self._states))

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping.set()
        self._wake.set()

    def _turn(self) -> None:
        """Wait until something is due and do it."""
        now_s = time.monotonic()
        due_in_s = self._batcher.due_in_s(now_s)
        until_housekeeping_s = max(0.0, self._housekeeping_at_s - now_s)
        self._wake.wait(until_housekeeping_s if due_in_s is None else min(due_in_s, until_housekeeping_s))
        self._take_in()
        batch = self._batcher.take(time.monotonic())
        if batch:
            self._commit(batch)
        if time.monotonic() >= self._housekeeping_at_s:
            self._keep_house()

    def _turn_until_empty(self) -> None:
        """Commit what is in hand; if the database is gone, leave it to the broker."""
        self._take_in()
        while batch := self._batcher.take(time.monotonic(), is_draining=True):
            if not self._commit(batch):
                return
            self._take_in()

    def _take_in(self) -> None:
        self._wake.clear()
        now_s = time.monotonic()
        if len(self._lanes[LIVE]):
            self._pace.note_live(now_s)
        self._batcher.limit_backfill(self._pace.batch_bytes(now_s))
        for number, lane in enumerate(self._lanes):
            is_live = number == LIVE
            while not self._batcher.is_full(is_live=is_live) and (delivery := lane.take()) is not None:
                self._batcher.add(InHand(number, delivery), len(delivery.raw), now_s, is_live=is_live)
            if len(lane):
                self._wake.set()  # a batch is full and more waits: do not sleep

    # -- committing -------------------------------------------------------------------------------------------

    def _commit(self, batch: Sequence[InHand]) -> bool:
        """Commit and acknowledge a batch; False if that did not come to be before the process was asked to stop."""
        lane, begun_s, self._committing = batch[0].lane, time.monotonic(), batch
        with self._metrics.commit_s.labels(payload.LANES[lane]).time():
            outcomes = self._commit_until_stored([one.arrival() for one in batch])
        if outcomes is None:
            return False
        session = self._lanes[lane]
        for outcome in outcomes:
            self._metrics.count(outcome)
            if outcome.ack is not None:
                session.publish(ack_topic(outcome.gateway_code), payload.encode_ack(outcome.ack))
        session.acknowledge(one.delivery for one in batch)
        self._committing = ()
        if lane == BACKFILL:
            self._pace.note_backfill(sum(len(one.delivery.raw) for one in batch), time.monotonic() - begun_s)
        self._metrics.batch.observe(len(batch))
        self._metrics.last_commit.set_to_current_time()
        return True

    def _commit_until_stored(self, arrivals: Sequence[Arrival]) -> list[Outcome] | None:
        """Commit, however long the database is away; None if the process is asked to stop meanwhile.

        While this waits, nothing more is taken in: the broker keeps the rest, up to Receive Maximum waits here.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                outcomes = self._store.commit(arrivals)
            except StoreUnavailableError as error:
                self._metrics.is_storing.set(0)
                self._log.warning("not storing", error=str(error)[:300], retry_in_s=round(pause_s, 1))
                if self._stopping.wait(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311 - only spreads load
                    return None
                pause_s = min(pause_s * 2, LAST_PAUSE_S)
            else:
                self._metrics.is_storing.set(1)
                return outcomes

    # -- housekeeping -----------------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        self._housekeeping_at_s = time.monotonic() + HOUSEKEEPING_S
        try:
            self._store.write_heard()
            self._take_states()
            for outcome in release_requested(self._store):
                ack = outcome.ack
                is_in = ack is not None and ack.accepted + ack.duplicate + ack.disputed > 0
                self._metrics.releases.labels("stored" if is_in else "still_bad").inc()
            if time.monotonic() >= self._gaps_at_s:
                self._gaps_at_s = time.monotonic() + GAPS_EVERY_S
                self._ask_for_missing()
        except StoreUnavailableError as error:
            self._metrics.is_storing.set(0)
            self._log.warning("housekeeping failed", error=str(error)[:300])
        else:
            self._metrics.is_storing.set(1)

    def _take_states(self) -> None:
        deliveries = self._states.take()
        arrivals = [state for delivery in deliveries if (state := _state(delivery)) is not None]
        if arrivals:
            try:
                self._store.write_states(arrivals)
            except StoreUnavailableError:
                self._states.give_back(deliveries)  # a last will is said once
                raise
        self._metrics.messages.labels("state").inc(len(deliveries))

    def _ask_for_missing(self) -> None:
        """Find messages that did not come and ask their gateways for them, over the lane's own session."""
        now = datetime.now(UTC)
        with self._store.translated() as connection:
            self._metrics.gaps.inc(find_gaps(connection, now))
            requests = take_requests(connection, now)
        for request in requests:
            missing = request.missing
            body = payload.encode_request(request.epoch, request.lane, missing.first, missing.last)
            self._lanes[request.lane].publish(request_topic(request.gateway_code), body)
            self._log.info("asked again", gateway=request.gateway_code, first=missing.first, last=missing.last)

    # -- what the metrics ask, from a thread of their own -------------------------------------------------------

    def _in_hand(self, lane: int) -> float:
        committing = [one for one in self._committing if one.lane == lane]
        return len(committing) + self._batcher.waiting(is_live=lane == LIVE) + len(self._lanes[lane])

    def _oldest_s(self, lane: int) -> float:
        """Return the age of a lane's oldest message; of those that the database does not take, while it does not."""
        committing = [one.delivery.received_at for one in self._committing if one.lane == lane]
        if committing:
            return max(0.0, (datetime.now(UTC) - min(committing)).total_seconds())
        try:
            return self._batcher.oldest_age_s(time.monotonic(), is_live=lane == LIVE)
        except IndexError:  # taken out meanwhile
            return 0.0

    def _told(self, event: str, facts: dict[str, object]) -> None:
        self._log.info(event, **facts)


def _state(delivery: Delivery, zone: ZoneInfo = BUSINESS_ZONE) -> StateArrival | None:
    try:
        report = payload.decode_state(delivery.raw, zone)
    except payload.PayloadError:
        return None
    return StateArrival(delivery.gateway_code, report, delivery.received_at, delivery.is_retained)
