"""The messages of gateways: decoding, validation, acks. Pure; whatever the bytes are, only PayloadError is raised.

A message holds `readings`, or `series` (one point at a fixed step, null for an instant without a reading), or both.
**Index** of a reading, as used in acks: its position among the items of `readings`, then the values of each series
in order, nulls included. A series that is wrong as a whole is one fault at the index of its first value; one without
values takes one index. A fault of the whole message has no index. Items are judged one by one: bad ones never take
good ones with them.
"""

from app.domain.reception import LANES
from ingest.payload.decoding import decode, decode_state, digest
from ingest.payload.excerpts import excerpts
from ingest.payload.instants import instant_at, instant_us
from ingest.payload.messages import (
    EPOCH_PATTERN,
    MAX_BYTES,
    MAX_READINGS,
    REASONS,
    Ack,
    Fault,
    Gone,
    Message,
    PayloadError,
    Reading,
    StateReport,
    encode_ack,
    encode_request,
)

__all__ = [
    "EPOCH_PATTERN",
    "LANES",
    "MAX_BYTES",
    "MAX_READINGS",
    "REASONS",
    "Ack",
    "Fault",
    "Gone",
    "Message",
    "PayloadError",
    "Reading",
    "StateReport",
    "decode",
    "decode_state",
    "digest",
    "encode_ack",
    "encode_request",
    "excerpts",
    "instant_at",
    "instant_us",
]
