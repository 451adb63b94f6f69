"""The service's figures beside the sender's own: what gateways say was acknowledged, and what the API says was used."""

import json
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.acceptance.installation import Installation, wait_for


def months_ago(count: int) -> str:
    """Return a business month as YYYY-MM; 0 is the present one."""
    today = datetime.now(ZoneInfo("Asia/Shanghai"))
    months = today.year * 12 + today.month - 1 - count
    return f"{months // 12}-{months % 12 + 1:02d}"


def totals(city: Installation) -> dict[tuple[str, str], Decimal]:
    """What each gateway's store says was acknowledged, per point, in the point's canonical unit."""
    done = city.command("nenghao-sim", "fleet", "totals", "--state", str(city.folder / "fleet"))
    gateways = json.loads(done.stdout)["gateways"]
    assert len(gateways) >= 24
    return {
        (gateway["gateway"], point["point"]): Decimal(point["usage"])
        for gateway in gateways
        for point in gateway["points"]
        if point["signal"] != "gauge"
    }


def usage(city: Installation) -> dict[tuple[str, str], Decimal]:
    """What the service says each point used in all months."""
    found = {}
    for gateway in {gateway for gateway, _point in totals(city)}:
        answer = city.get(f"/api/v1/usage?gateway={gateway}&grain=month&from={months_ago(1)}")
        for series in answer["series"]:
            if series["total"] is not None:
                found[series["gateway_code"], series["code"]] = Decimal(series["total"])
    return found


def differences(city: Installation) -> list[tuple[tuple[str, str], Decimal, Decimal | None]]:
    sent, used = totals(city), usage(city)
    return [(key, amount, used.get(key)) for key, amount in sent.items() if used.get(key) != amount]


def wait_until_figures_are_what_was_sent(city: Installation, timeout_s: float) -> None:
    """Live data keeps coming, so a point may be a sample behind: every point must be equal at some look."""
    equal: set[tuple[str, str]] = set()

    def all_equal() -> bool:
        different = {key for key, _sent, _used in differences(city)}
        keys = set(totals(city))
        equal.update(keys - different)
        return equal == keys

    try:
        wait_for("usage equal to what was sent", all_equal, timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}; unequal: {differences(city)[:5]}") from None
