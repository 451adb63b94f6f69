"""What must hold after a run: everything answered, and usage by the API equal to the sender's own sums."""

import time
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

from simulators.chaos.ledger import Key, Ledger
from simulators.plan import EnterprisePlan, PointPlan
from simulators.store import Store
from simulators.truth import Meter

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What the stores of a run say: messages still waiting, the tallies of readings, reasons of rejections."""

    waiting_messages: int
    tallies: dict[str, int]
    reasons: dict[str, int]
    counted: dict[Key, float]


def look_at_stores(paths: list[Path], gateways: list[str]) -> Sent:
    """Read what the streams' stores hold; also while they run."""
    waiting = 0
    counted: dict[Key, float] = {}
    tallies: dict[str, int] = defaultdict(int)
    reasons: dict[str, int] = defaultdict(int)
    for path in paths:
        store = Store(path, is_read_only=True)
        try:
            ledger = Ledger(store)
            waiting += sum(store.depth(code) for code in gateways)
            for name in ("queued", "accepted", "duplicate", "disputed", "rejected"):
                tallies[name] += getattr(store.tally(), name)
            for reason, items in ledger.reasons().items():
                reasons[reason] += items
            counted |= ledger.counted()
        finally:
            store.close()
    return Sent(waiting, dict(tallies), dict(reasons), counted)


def own_sums(plan: list[EnterprisePlan], seed: int, counted: dict[Key, float]) -> dict[tuple[str, str], Decimal]:
    """Return the usage of each register and interval point by the law of its meter, over what was acknowledged.

    Register: what was counted between the first and the last reading. Interval: the sum of the readings.
    """
    instants: dict[tuple[str, str], list[int]] = defaultdict(list)
    for gateway, point, at_s in counted:
        instants[gateway, point].append(at_s)
    points = {(one.gateway, one.code): one for enterprise in plan for one in enterprise.points}
    return {key: _usage(points[key], seed, times) for key, times in instants.items() if points[key].signal != "gauge"}


def _usage(point: PointPlan, seed: int, times: list[int]) -> Decimal:
    meter = Meter(point, seed)
    if point.signal == "register":
        quanta = meter.quanta_until(max(times)) - meter.quanta_until(min(times))
        return meter.shown(quanta) * point.multiplier
    return sum((meter.shown(meter.quanta_until(at_s + 900) - meter.quanta_until(at_s)) for at_s in times), Decimal(0))


def unequal(
    sums: dict[tuple[str, str], Decimal], api: str, key: str, from_month: str, timeout_s: float
) -> list[dict[str, str | None]]:
    """Wait until the usage of all points equals the sums; return those that do not when the time is over."""
    end_s = time.monotonic() + timeout_s
    while True:
        said = _said(sorted({gateway for gateway, _ in sums}), api, key, from_month)
        different: list[dict[str, str | None]] = [
            {"gateway": gateway, "point": point, "sent": format(amount, "f"), "said": said.get((gateway, point))}
            for (gateway, point), amount in sums.items()
            if Decimal(said.get((gateway, point)) or "NaN") != amount
        ]
        if not different or time.monotonic() >= end_s:
            return different
        time.sleep(LOOK_S)


def _said(gateways: list[str], api: str, key: str, from_month: str) -> dict[tuple[str, str], str | None]:
    """Return the total usage of each point as the API states it; empty where it does not answer now."""
    said: dict[tuple[str, str], str | None] = {}
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx2.Client(headers=headers, timeout=30.0, trust_env=False) as client:
            for gateway in gateways:
                parameters = {"gateway": gateway, "grain": "month", "from": from_month}
                answer: dict[str, Any] = client.get(api.rstrip("/") + "/api/v1/usage", params=parameters).json()
                for series in answer["series"]:
                    said[gateway, series["code"]] = series["total"]
    except (httpx2.HTTPError, ValueError, KeyError):
        return {}
    return said
