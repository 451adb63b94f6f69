"""The site of a run: copies of enterprises of the simulated city, with gateways of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from simulators.credit_code import fictional_code
from simulators.plan import EnterprisePlan, load_plan, registry

FIRST_NUMBER = 5001  # of the fictional credit codes, far from the city's own
REGISTER_TIMEOUT_S = 60.0


class SiteError(Exception):
    """The site cannot be registered; the message says why and what to do."""


def site_plan(name: str, count: int) -> list[EnterprisePlan]:
    """Return `count` enterprises with one gateway each, called `gw-NAME-01` and so on; no lines, meters alone."""
    city = load_plan()
    return [_copy(city[index % len(city)], f"gw-{name}-{index + 1:02d}", index) for index in range(count)]


def _copy(original: EnterprisePlan, gateway: str, index: int) -> EnterprisePlan:
    return replace(
        original,
        uscc=fictional_code(original.district_code, FIRST_NUMBER + index),
        gateway=gateway,
        name_zh=f"混沌测试{index + 1:02d}",
        name_en=f"Chaos Site {index + 1:02d}",
        lines=(),
        points=tuple(replace(point, gateway=gateway) for point in original.points),
    )


def register(plan: list[EnterprisePlan], api: str, key: str) -> dict[str, str]:
    """Register a plan through the API and return the passwords of its gateways by code."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx2.Client(headers=headers, timeout=REGISTER_TIMEOUT_S, trust_env=False) as client:
            answer = client.post(api.rstrip("/") + "/api/v1/registry/import", json=registry(plan))
            body: dict[str, Any] = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise SiteError(f"{api}: the gateways cannot be registered ({error}); is the service running?") from error
    if answer.status_code != 200:
        raise SiteError(f"{api} refuses the gateways: {body.get('detail', answer.status_code)}; --key is an operator's")
    return {str(one["code"]): str(one["password"]) for one in body["gateways"]}


def store_path(state: Path, number: int) -> Path:
    """Return the file of the n-th stream's store."""
    return state / f"stream-{number}.sqlite"
