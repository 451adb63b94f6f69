"""From an arrival to rows: decode, look up, judge against the registry. No input or output."""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.domain.calendar import BUSINESS_ZONE
from ingest import payload
from ingest.payload import Fault, Gone, Message, Reading
from ingest.store import rows
from ingest.store.arrivals import Arrival, Gateway, Prepared
from ingest.store.registry import NEVER_US

IN_FUTURE_AFTER = timedelta(minutes=10)
# No gateway can send this epoch (a colon is not allowed in it), so that a released row's identity is unique.
RELEASE_EPOCH = ":release"
# Faults that a newer registry may mend.
MENDED_BY_REGISTRY = frozenset({"unknown_gateway", "gateway_disabled", "unknown_point", "before_installation"})

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def prepare(arrival: Arrival, gateway: Gateway | None, receipt_id: int) -> Prepared:
    """Decode an arrival and turn its good readings into rows; everything else becomes faults."""
    prepared = Prepared(arrival, gateway, payload.digest(arrival.raw))
    try:
        decoded = payload.decode(arrival.raw, zone_of(gateway))
    except payload.PayloadError as error:
        prepared.epoch, prepared.seq = error.epoch, error.seq
        prepared.refuse(error.reason, error.detail)
        return prepared
    if isinstance(decoded, Message):
        prepared.epoch, prepared.seq, prepared.sent_at = decoded.epoch, decoded.seq, decoded.sent_at
    if arrival.quarantine_id is not None:
        prepared.epoch, prepared.seq = RELEASE_EPOCH, arrival.quarantine_id
    if gateway is None:
        prepared.refuse("unknown_gateway", f"no gateway {arrival.gateway_code[:80]!r} is registered")
    elif not gateway.is_enabled:
        prepared.refuse("gateway_disabled", f"gateway {gateway.code} is disabled")
    elif isinstance(decoded, Gone):
        prepared.gone = decoded
    else:
        prepared.receipt_id = receipt_id
        _look_up(prepared, decoded, gateway, receipt_id)
    return prepared


def _look_up(prepared: Prepared, message: Message, gateway: Gateway, receipt_id: int) -> None:
    """Split the readings of a message into rows and faults; the loop is the hot path of the service."""
    points, pack, epoch_us = gateway.points, rows.pack_fields, rows.POSTGRES_EPOCH_US
    latest_us = _microseconds(prepared.arrival.received_at + IN_FUTURE_AFTER)
    prepared.faults = faults = message.faults
    keep, append, revisions = prepared.readings.append, prepared.rows.append, 0
    for reading in message.readings:
        code, ts_us, value, quality, rev, _ = reading
        point = points.get(code)
        if point is not None and point[1] <= ts_us <= latest_us:
            append(pack(5, 4, point[0], 8, ts_us - epoch_us, 8, value, 2, quality, 8, receipt_id))
            keep(reading)
            revisions |= rev
        else:
            faults.append(_fault(reading, point, gateway))
    prepared.has_revisions = revisions > 0


def _fault(reading: Reading, point: tuple[int, int] | None, gateway: Gateway) -> Fault:
    code, ts_us, *_, index = reading
    if point is None:
        reason, detail = "unknown_point", f"no point {code[:64]!r} at gateway {gateway.code}"
    elif ts_us < point[1]:
        is_installed = point[1] < NEVER_US
        first = payload.instant_at(point[1]) if is_installed else None
        reason, detail = "before_installation", f"first installation {first.isoformat() if first else 'missing'}"
    else:
        reason, detail = "in_future", "more than 10 minutes after it was received"
    return Fault(index, reason, detail, code, ts_us)


def zone_of(gateway: Gateway | None) -> tzinfo:
    """Return the zone of timestamps without an offset."""
    return _zone(gateway.zone) if gateway else BUSINESS_ZONE


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return BUSINESS_ZONE  # the registry refuses unknown zones; the time data of this machine may be older


def _microseconds(at: datetime) -> int:
    return (at - _UNIX_EPOCH) // timedelta(microseconds=1)
