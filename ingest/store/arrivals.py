"""What goes into the store and what comes out of it, message by message."""

from dataclasses import dataclass, field
from datetime import datetime

from ingest.payload import Ack, Fault, Gone, Reading


class StoreUnavailableError(Exception):
    """The database cannot take the batch now; nothing of it is stored. Keep it, wait, and give it again."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came. `lane` is an index of payload.LANES; a repeated delivery only makes a repeat likely."""

    gateway_code: str
    lane: int
    raw: bytes
    received_at: datetime
    is_redelivered: bool = False
    quarantine_id: int | None = None  # set when an operator releases it from quarantine


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an arrival. `ack` is None for the answer `gone`, which is not acknowledged."""

    gateway_code: str
    ack: Ack | None
    is_repeat: bool = False  # known identity: the ack of the first time, nothing was stored now
    receipt_id: int | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A registered gateway: `points` maps a code to (point id, first installation in microseconds since 1970)."""

    gateway_id: int
    code: str
    zone: str
    is_enabled: bool
    points: dict[str, tuple[int, int]] = field(repr=False)


@dataclass(slots=True)
class Prepared:
    """An arrival decoded and looked up, on its way into the tables.

    `rows` are the readings that passed, as binary COPY rows, side by side with `readings`. Without a receipt id the
    message as a whole is refused, or is a `gone`. `repeated` is the stored ack of a known identity.
    """

    arrival: Arrival
    gateway: Gateway | None
    digest: bytes
    epoch: str | None = None
    seq: int | None = None
    sent_at: datetime | None = None
    receipt_id: int | None = None
    readings: list[Reading] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    gone: Gone | None = None
    has_revisions: bool = False
    storage_faults: list[Fault] = field(default_factory=list)
    accepted: int = 0
    duplicate: int = 0
    disputed: int = 0
    stored_rows: list[bytes] | None = None  # what was stored where it is not simply `rows`
    changed_us: list[tuple[int, int]] | None = None  # (point id, instant) whose value may change, likewise
    repeated: Ack | None = None
    same_as: "Prepared | None" = None  # the same message earlier in the batch

    @property
    def identity(self) -> tuple[int, str, int, int]:
        """(gateway id, epoch, lane, seq); only of a message with a receipt id."""
        if self.gateway is None or self.epoch is None or self.seq is None:
            raise ValueError("a message that is refused as a whole has no identity")
        return self.gateway.gateway_id, self.epoch, self.arrival.lane, self.seq

    def refuse(self, reason: str, detail: str) -> None:
        """Refuse the message as a whole: nothing of it is stored but its raw bytes."""
        self.receipt_id = None
        self.readings, self.rows, self.storage_faults = [], [], []
        self.faults = [Fault(None, reason, detail)]
        self.forget_result()

    def forget_result(self) -> None:
        """Go back to where the message was before an attempt to write it failed."""
        self.accepted = self.duplicate = self.disputed = 0
        self.storage_faults, self.stored_rows, self.changed_us, self.repeated = [], None, None, None

    def all_faults(self) -> list[Fault]:
        """Faults of the content and of storing it, in order of index."""
        return sorted(self.faults + self.storage_faults, key=lambda fault: fault.index or 0)

    def outcome(self, committed_at: datetime) -> Outcome:
        """Return what the gateway is told."""
        if self.same_as is not None:
            first = self.same_as.outcome(committed_at)
            return Outcome(first.gateway_code, first.ack, is_repeat=True, receipt_id=first.receipt_id)
        if self.gone is not None:
            return Outcome(self.arrival.gateway_code, None)
        if self.repeated is not None:
            return Outcome(self.arrival.gateway_code, self.repeated, is_repeat=True, receipt_id=self.receipt_id)
        rejected = [(fault.index, fault.reason) for fault in self.all_faults()]
        counts = self.accepted, self.duplicate, self.disputed
        ack = Ack(self.epoch, self.arrival.lane, self.seq, *counts, rejected, committed_at)
        return Outcome(self.arrival.gateway_code, ack, receipt_id=self.receipt_id)
