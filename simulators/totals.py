"""What a fleet has sent in total, for comparison with what the service says."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from simulators.journal import Journal
from simulators.sampling import SentValues, iso
from simulators.store import Store, StoreError
from simulators.truth import QUARTER_S, City

STORE_FILE = "fleet.sqlite"


def summary(store: Store) -> str:
    """Return the line that tells what became of all readings of a store."""
    tally = store.tally()
    line = f"sent {tally.queued:,} readings, acknowledged {tally.handled:,}: accepted {tally.accepted:,}, "
    line += f"duplicate {tally.duplicate:,}, disputed {tally.disputed:,}, rejected {tally.rejected:,}"
    reasons = ", ".join(f"{reason} {items:,}" for reason, items in store.rejections().items())
    return f"{line} ({reasons})" if reasons else line


def totals(state: Path) -> dict[str, Any]:
    """Return what a fleet has sent in total, per gateway and point, figures as strings; readable while it runs."""
    path = state / STORE_FILE
    if not path.exists():
        raise StoreError(f"{path}: there is no fleet here; --state is the folder given to `fleet run`")
    store = Store(path, is_read_only=True)
    city, journal = City(int(store.noted("seed") or 1)), Journal(store)
    return {
        "summary": summary(store),
        "gateways": [
            {
                "gateway": enterprise.gateway,
                "uscc": enterprise.uscc,
                "waiting_messages": store.depth(enterprise.gateway),
                **{name: getattr(store.tally(enterprise.gateway), name) for name in _COUNTS},
                "points": [_point_totals(city, enterprise.gateway, one) for one in journal.sent(enterprise.gateway)],
            }
            for enterprise in city.plan
        ],
    }


_COUNTS = ("queued", "handled", "accepted", "duplicate", "disputed", "rejected")


def _point_totals(city: City, gateway: str, one: SentValues) -> dict[str, Any]:
    meter = city.meters[gateway, one.point]
    end_s = one.last_s + QUARTER_S if meter.plan.signal == "interval" else one.last_s
    usage: Decimal | None = None
    if meter.plan.signal != "gauge":
        usage = city.usage_between(gateway, one.point, one.first_s, end_s)
    return {
        "point": one.point,
        "signal": meter.plan.signal,
        "unit": meter.plan.unit,
        "readings": one.count,
        "first_at": iso(one.first_s),
        "first_value": format(meter.shown(one.first), "f"),
        "last_at": iso(one.last_s),
        "last_value": format(meter.shown(one.last), "f"),
        "sum": format(meter.shown(one.total), "f"),
        # By the law of the meter, faults left out; null for a gauge, whose usage depends on how often it is read.
        "usage": None if usage is None else format(usage, "f"),
    }
