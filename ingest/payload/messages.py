"""What a message, a fault and an ack are; the bodies that go down to the gateways."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.domain.reception import LANES, QUALITIES

MAX_BYTES = 256 * 1024
MAX_READINGS = 10_000
MAX_SEQ = 2**53
MAX_REV = 999_999  # ranks from 1,000,000 belong to edits
MAX_STEP_S = 31 * 86_400
MAX_REJECTED_IN_ACK = 1000  # an ack must fit into a packet too; `rejected_total` then gives the full number
EPOCH_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
QUALITY_NUMBERS = {name: number for number, name in enumerate(QUALITIES)}
REASONS = (
    *("malformed_json", "invalid_message", "unknown_gateway", "gateway_disabled", "unknown_point"),
    *("invalid_item", "non_finite", "bad_timestamp", "before_installation", "in_future"),
    *("seq_reused", "too_large", "storage_error"),
)

# (point code, instant in microseconds since 1970 UTC, value, quality, rev, index): a plain tuple, because a batch
# holds thousands and building anything richer costs more than all the checks together.
Reading = tuple[str, int, float, int, int, int]


class PayloadError(ValueError):
    """The whole message is refused: `reason` is one of REASONS; epoch and seq are given where they could be read."""

    def __init__(self, reason: str, detail: str, epoch: str | None = None, seq: int | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.epoch, self.seq = reason, detail, epoch, seq


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item (or, without index, a message) is refused."""

    index: int | None
    reason: str
    detail: str
    point_code: str | None = None
    ts_us: int | None = None


@dataclass(slots=True)
class Message:
    """A decoded message: the good readings in order of index, the faults, and when the gateway says it sent it."""

    epoch: str
    seq: int
    sent_at: datetime | None
    readings: list[Reading] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gone:
    """The answer to a request: the messages from_seq..to_seq (both included) are lost for good."""

    epoch: str
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class StateReport:
    """Last will or heartbeat of a gateway."""

    is_online: bool
    sent_at: datetime | None
    queue_depth: int | None


@dataclass(slots=True)
class Ack:
    """The answer to one message; `rejected` holds (index, reason), index None for the message as a whole."""

    epoch: str | None
    lane: int
    seq: int | None
    accepted: int
    duplicate: int
    disputed: int
    rejected: Sequence[tuple[int | None, str]]
    committed_at: datetime


def encode_ack(ack: Ack) -> bytes:
    """Encode the body of an ack; of more than 1000 rejected items the first are listed and all are counted."""
    body: dict[str, Any] = {
        "epoch": ack.epoch,
        "lane": LANES[ack.lane],
        "seq": ack.seq,
        "accepted": ack.accepted,
        "duplicate": ack.duplicate,
        "disputed": ack.disputed,
        "rejected": [{"index": i, "reason": reason} for i, reason in ack.rejected[:MAX_REJECTED_IN_ACK]],
        "committed_at": ack.committed_at.isoformat(),
    }
    if len(ack.rejected) > MAX_REJECTED_IN_ACK:
        body["rejected_total"] = len(ack.rejected)
    return json.dumps(body, separators=(",", ":")).encode()


def encode_request(epoch: str, lane: int, from_seq: int, to_seq: int) -> bytes:
    """Encode the request to send the messages from_seq..to_seq (both included) of a lane again."""
    body = {"epoch": epoch, "lane": LANES[lane], "from": from_seq, "to": to_seq}
    return json.dumps(body, separators=(",", ":")).encode()
