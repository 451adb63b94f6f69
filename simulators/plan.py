"""The simulated city as data: enterprises, lines and meters from data/*.yaml, and the registry file made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from simulators.credit_code import fictional_code
from simulators.shapes import draw, peak_share

DATA = Path(__file__).parent / "data"
INSTALLED_ON = date(2025, 1, 1)  # every meter of the city; registers count from here
INSTALLED_AT = f"{INSTALLED_ON}T00:00:00+08:00"
LINES_FROM_ON = "2020-01-01"
EXPECTED_INTERVAL_S = 900

# Standard primary currents of current transformers in ampere (secondary 5 A), GB/T 20840.2; voltage transformers
# give 100 V. The multiplier of a meter on the secondary side is the product of both ratios.
_CURRENTS_A = (50, 75, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 8000)
_VOLTAGE_RATIO = {0.4: 1, 10: 100, 35: 350, 110: 1100}


@dataclass(frozen=True, slots=True)
class PointPlan:
    """One meter. Quantities per day are canonical units of the carrier at full load."""

    gateway: str
    code: str
    name_zh: str
    name_en: str
    carrier: str
    signal: str
    unit: str
    process_unit: str
    flow: str
    in_boundary: bool
    load: str
    shape: str
    driver: str  # whose activity it follows: a line's process unit, or the point itself
    per_day: Decimal
    fixed: int
    weather: int
    decimals: int
    digits: int
    multiplier: int
    rated_load: int


@dataclass(frozen=True, slots=True)
class LinePlan:
    """One production line. `output_point` is the code of the meter whose usage is the output, if one is."""

    uscc: str
    gateway: str
    process_unit: str
    code: str
    name_zh: str
    name_en: str
    variant_key: str
    capacity: Decimal
    capacity_unit: str
    output_kind: str
    output_unit: str
    output_per_day: Decimal
    output_point: str | None
    load: str


@dataclass(frozen=True, slots=True)
class EnterprisePlan:
    """One enterprise behind one gateway."""

    uscc: str
    gateway: str
    name_zh: str
    name_en: str
    district_code: str
    industry_code: str
    process_units: tuple[dict[str, Any], ...]
    lines: tuple[LinePlan, ...]
    points: tuple[PointPlan, ...]


def load_plan() -> list[EnterprisePlan]:
    """Return the city's enterprises in the order in which their history is sent."""
    recipes = yaml.safe_load((DATA / "recipes.yaml").read_text("utf-8"))
    entries = yaml.safe_load((DATA / "enterprises.yaml").read_text("utf-8"))
    return [_enterprise(number, entry, recipes) for number, entry in enumerate(entries, start=1)]


def _enterprise(number: int, entry: dict[str, Any], recipes: dict[str, Any]) -> EnterprisePlan:
    gateway, uscc = f"gw-{entry['gateway']}", fictional_code(entry["district"], number)
    units: list[dict[str, Any]] = [{"code": "plant", "scope": 1, "name_zh": "全厂", "name_en": "Plant"}]
    lines: list[LinePlan] = []
    points: list[PointPlan] = []
    for line_no, line in enumerate(entry["lines"], start=1):
        recipe = recipes[line["recipe"]]
        units += _process_units(recipe, line_no)
        lines.append(_line(uscc, gateway, recipe, line, line_no))
        points += _line_points(gateway, recipe, line, line_no)
    points += _plant_points(gateway, entry, recipes["plant"], points)
    industry_code = recipes[entry["lines"][0]["recipe"]]["industry_code"]
    names = entry["name_zh"], entry["name_en"]
    return EnterprisePlan(
        uscc, gateway, *names, entry["district"], industry_code, tuple(units), tuple(lines), tuple(points)
    )


def _process_units(recipe: dict[str, Any], line_no: int) -> Iterator[dict[str, Any]]:
    code = f"{recipe['unit']['code']}-{line_no}"
    yield {"code": code, "parent": "plant", "scope": 2, **_numbered(recipe["unit"], line_no)}
    for part in recipe.get("parts", []):
        yield {"code": f"{part['code']}-{line_no}", "parent": code, "scope": 3, **_numbered(part, line_no)}


def _numbered(named: dict[str, Any], line_no: int) -> dict[str, str]:
    return {"name_zh": f"{line_no}号{named['name_zh']}", "name_en": f"{named['name_en']} {line_no}"}


def _line(uscc: str, gateway: str, recipe: dict[str, Any], line: dict[str, Any], line_no: int) -> LinePlan:
    code = f"{recipe['unit']['code']}-{line_no}"
    capacity = Decimal(str(line["capacity"]))
    return LinePlan(
        uscc=uscc,
        gateway=gateway,
        process_unit=code,
        code=code,
        **_numbered(recipe["unit"], line_no),
        variant_key=recipe["variant_key"],
        capacity=capacity,
        capacity_unit=recipe["capacity_unit"],
        output_kind=recipe.get("output_kind", "production"),
        output_unit=recipe["output_unit"],
        output_per_day=capacity * Decimal(str(recipe["output_per_capacity"])),
        output_point=_point_code(recipe["output_point"], line_no) if "output_point" in recipe else None,
        load=recipe["load"],
    )


def _line_points(gateway: str, recipe: dict[str, Any], line: dict[str, Any], line_no: int) -> Iterator[PointPlan]:
    unit = f"{recipe['unit']['code']}-{line_no}"
    output_per_day = Decimal(str(line["capacity"])) * Decimal(str(recipe["output_per_capacity"]))
    for point in recipe["points"]:
        flow = point.get("flow", "in")
        name = "scale" if flow in ("in", "feedstock") else "recovered_scale"
        scale = line.get(name, 1) if point.get("is_scaled", True) else 1
        per_day = output_per_day * Decimal(str(point["per_output"])) * Decimal(str(scale))
        placed = f"{point['part']}-{line_no}" if "part" in point else unit
        numbered = {**point, **_numbered(point, line_no), "code": _point_code(point["code"], line_no)}
        yield _point(gateway, numbered, placed, driver=unit, load=recipe["load"], per_day=per_day)


def _point_code(code: str, line_no: int) -> str:
    return f"{code[0]}{line_no}{code[1:]}"


def _plant_points(
    gateway: str, entry: dict[str, Any], plant: dict[str, Any], line_points: list[PointPlan]
) -> Iterator[PointPlan]:
    """Offices outside every line, and the incoming main that only checks the feeders behind it."""
    total = sum((p.per_day for p in line_points if p.carrier == "electricity" and p.flow == "in"), Decimal(0))
    if "office_kw" in entry:
        office_per_day = Decimal(entry["office_kw"] * 24)
        total += office_per_day
        office = plant["office"]
        yield _point(gateway, office, "plant", driver=office["code"], load=office["load"], per_day=office_per_day)
    if entry.get("check"):
        first, total = line_points[0], total * Decimal("1.004")
        yield _point(gateway, plant["check"], "plant", driver=first.driver, load=first.load, per_day=total)


def _point(
    gateway: str, point: dict[str, Any], process_unit: str, *, driver: str, load: str, per_day: Decimal
) -> PointPlan:
    signal, shape, weather = point.get("sampling", "register"), point.get("shape", "flat"), point.get("weather", 0)
    weights, whole_day = peak_share(shape)
    # Per hour in the fullest quarter hour: 4 of them an hour; 3 % for noise; cooling at 12 degrees above the mean.
    peak = per_day * weights * 4 / whole_day * (1030 + 20 * weather) / 1000
    multiplier = _multiplier(peak, point["kv"]) if "kv" in point and signal == "register" else 1
    return PointPlan(
        gateway=gateway,
        code=point["code"],
        name_zh=point["name_zh"],
        name_en=point["name_en"],
        carrier=point["carrier"],
        signal=signal,
        unit="kW" if signal == "gauge" else _UNITS[point["carrier"]],
        process_unit=process_unit,
        flow=point.get("flow", "in"),
        in_boundary=point.get("in_boundary", True),
        load=load,
        shape=shape,
        driver=driver,
        per_day=per_day,
        fixed=point.get("fixed", 30),
        weather=weather,
        decimals=point.get("decimals", _decimals(peak, multiplier)),
        digits=point.get("digits", 6 if point["carrier"] == "electricity" else 8),
        multiplier=multiplier,
        rated_load=_rounded_up(peak * Decimal("1.1")),
    )


_UNITS = {
    "electricity": "kWh",
    "raw_coal": "kg",
    "washed_coal": "kg",
    "coke": "kg",
    "naphtha": "kg",
    "fuel_oil": "kg",
    "steam": "kg",
    "fresh_water": "t",
    "natural_gas": "m3",
    "oxygen": "m3",
    "blast_furnace_gas": "m3",
    "converter_gas": "m3",
}


def _multiplier(peak_kw: Decimal, kv: float) -> int:
    """Return CT ratio x PT ratio for a feeder of this peak at a power factor of 0.9."""
    current_a = float(peak_kw) / (3**0.5 * kv * 0.9)
    primary_a = next((a for a in _CURRENTS_A if a >= current_a), _CURRENTS_A[-1])
    return primary_a // 5 * _VOLTAGE_RATIO[kv]


def _decimals(peak_per_hour: Decimal, multiplier: int) -> int:
    """Return the decimals of a register so fine that a step of ten seconds stays below 1.25 x the rated load.

    2 or 3, as counters show; 4 on high voltage, where meters send the finer energy of DL/T 698.45.
    """
    return next(d for d in (2, 3, 4, 5, 6) if multiplier * 960 <= peak_per_hour * 10**d)


def _rounded_up(value: Decimal) -> int:
    """Return the value rounded up to two significant digits."""
    step = int(10 ** max(0, len(str(int(value))) - 2))
    return -(-int(value + 1) // step) * step


def initial_register(point: PointPlan, key: int) -> int:
    """Return what the register showed when it was installed, in its last decimal."""
    modulus = int(10 ** (point.digits + point.decimals))
    return modulus // 20 + draw(key, 0) % (modulus * 6 // 10)


def registry(plan: list[EnterprisePlan]) -> dict[str, Any]:
    """Return the registry file of the city, ready for YAML: values that are exact figures are strings."""
    return {"enterprises": [_registered(enterprise) for enterprise in plan]}


def _registered(enterprise: EnterprisePlan) -> dict[str, Any]:
    return {
        "uscc": enterprise.uscc,
        "name_zh": enterprise.name_zh,
        "name_en": enterprise.name_en,
        "from_on": LINES_FROM_ON,
        "district_code": enterprise.district_code,
        "industry_code": enterprise.industry_code,
        "process_units": [dict(unit) for unit in enterprise.process_units],
        "lines": [
            {
                "code": line.code,
                "process_unit": line.process_unit,
                "name_zh": line.name_zh,
                "name_en": line.name_en,
                "variant_key": line.variant_key,
                "capacity": str(line.capacity),
                "capacity_unit": line.capacity_unit,
                "from_on": LINES_FROM_ON,
            }
            for line in enterprise.lines
        ],
        "gateways": [{"code": enterprise.gateway, "points": [_registered_point(p) for p in enterprise.points]}],
    }


def _registered_point(point: PointPlan) -> dict[str, Any]:
    installation: dict[str, Any] = {"from_at": INSTALLED_AT, "serial": f"{point.gateway[3:]}-{point.code}".upper()}
    if point.signal == "register":
        installation |= {"multiplier": str(point.multiplier), "digits": point.digits}
    installation["rated_load"] = str(point.rated_load)
    assignment = {
        "from_at": INSTALLED_AT,
        "process_unit": point.process_unit,
        "flow": point.flow,
        "in_boundary": point.in_boundary,
        "expected_interval_s": EXPECTED_INTERVAL_S,
    }
    return {
        "code": point.code,
        "name_zh": point.name_zh,
        "name_en": point.name_en,
        "carrier_key": point.carrier,
        "signal": point.signal,
        "unit": point.unit,
        "installations": [installation],
        "assignments": [assignment],
    }
