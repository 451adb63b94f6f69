"""The registry file: enterprises with their process units, lines, gateways, points and dated rows, as YAML or JSON.

A file says what should be there. What it does not mention stays as it is; a field that is left out (or blank) keeps
its value, `null` empties it. The same models check the bodies of the API.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.domain import credit_code
from app.domain.calendar import FIRST_DAY, LAST_DAY, day_bounds, day_start
from app.errors import Invalid
from app.intake.sentences import sentence

# With it every scalar is text: 120101 stays a code, `no` a name, and 0611 is no octal number. Ten times faster in C.
TEXT_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

Path = tuple[str | int, ...]
Breach = tuple[Path, str]


def _known_zone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError(f"unknown time zone {zone!r}; e.g. Asia/Shanghai")
    return zone


Code = Annotated[str, Field(min_length=1, max_length=64)]
CreditCode = Annotated[
    str, AfterValidator(credit_code.check), Field(description="统一社会信用代码", examples=["91120000MA0000001Q"])
]
GatewayCode = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$", examples=["gw-clinker-01"])]
# A double has 15 digits; the bound keeps 1e100000 out, which the database would take and nothing could compute with.
Positive = Annotated[Decimal, Field(gt=0, max_digits=20)]
Measured = Annotated[Decimal, Field(max_digits=20)]
Day = Annotated[date, Field(ge=FIRST_DAY, le=LAST_DAY)]
Moment = Annotated[AwareDatetime, Field(ge=day_start(FIRST_DAY), lt=day_bounds(LAST_DAY)[1])]


class Entry(BaseModel):
    """Base of every entry of the file: unknown fields are refused, blank ones count as left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _blanks(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {k: None if v in ("~", "null") else v for k, v in data.items() if v != ""}


class InstallationEntry(Entry):
    """A meter behind a point from one instant to another; a new multiplier is a new installation."""

    from_at: Moment
    to_at: Moment | None = None
    serial: str | None = Field(default=None, description="表号", examples=["S1"])
    multiplier: Positive = Field(
        default=Decimal(1), description="quantity = multiplier × what the meter shows", examples=["80"]
    )
    digits: Annotated[int, Field(ge=1, le=14)] | None = Field(
        default=None, description="integer digits of the register: a rollover is told from a fall by them", examples=[6]
    )
    rated_load: Positive | None = Field(
        default=None, description="at most, in units of the carrier per hour", examples=["12000"]
    )
    initial_register: Measured | None = Field(default=None, description="what it showed first", examples=["0"])
    final_register: Measured | None = Field(default=None, description="what it showed last", examples=["88421.6"])
    verified_until: Day | None = Field(default=None, description="verification (检定) of the meter holds until")


class AssignmentEntry(Entry):
    """Where a point counts from one instant to another. `line`, `parent_point`, `checks_point`: a code, or with its
    process unit or gateway in front (`kiln/kiln-1`, `gw-02/E001`).
    """

    from_at: Moment
    to_at: Moment | None = None
    process_unit: Code | None = Field(default=None, examples=["kiln"])
    flow: Literal["in", "out", "recovered", "feedstock"] | None = None
    in_boundary: bool = Field(default=True, description="counts to its unit's total, or only checks it")
    expected_interval_s: Annotated[int, Field(ge=1, le=2_678_400)] = Field(
        default=900, description="seconds between two readings; completeness is measured by it"
    )
    parent_point: str | None = Field(
        default=None, description="the feeder (总表) that this sub-meter hangs on; sums are compared"
    )
    checks_point: str | None = Field(default=None, description="the point whose monthly sum this one's values check")
    line: str | None = Field(default=None, description="of a point that counts output: the line")
    output_kind: Literal["production", "output_value", "value_added", "it_electricity"] | None = Field(
        default=None, description="of a point that counts output: what it counts"
    )


class PointEntry(Entry):
    """A measuring point of a gateway."""

    code: Code
    name_zh: str = ""
    name_en: str = ""
    carrier_key: str | None = Field(default=None, description="of /reference/carriers", examples=["electricity"])
    signal: Literal["register", "interval", "gauge"] | None = Field(
        default=None, description="a register that counts up, the quantity of an interval, or a load"
    )
    unit: str | None = Field(default=None, description="unit on the wire", examples=["kWh"])
    data_item_code: str | None = None
    value_min: Measured | None = Field(default=None, description="a value below is a finding")
    value_max: Measured | None = Field(default=None, description="a value above is a finding")
    installations: list[InstallationEntry] = []
    assignments: list[AssignmentEntry] = []


class GatewayEntry(Entry):
    """A gateway (端设备) of an enterprise; its code is also its account on the broker."""

    code: GatewayCode
    zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        default="Asia/Shanghai", description="of readings without one"
    )
    heartbeat_s: Annotated[int, Field(ge=10, le=86_400)] = Field(default=900, description="seconds between heartbeats")
    points: list[PointEntry] = []


class LineEntry(Entry):
    """A production line that is compared with a catalogue variant."""

    code: Code
    process_unit: Code
    name_zh: str | None = None
    name_en: str = ""
    variant_key: str | None = Field(
        default=None, description="of /reference/levels: the product by process", examples=["ndrc723-15-cement-clinker"]
    )
    capacity: Positive | None = Field(
        default=None, description="shares of capacity are summed by it", examples=["5000"]
    )
    capacity_unit: str | None = Field(
        default=None, description="the same for lines of one domain, else they are summed apart", examples=["t/d"]
    )
    from_on: Day | None = None
    to_on: Day | None = None


class ProcessUnitEntry(Entry):
    """A node of the enterprise's tree: scope 1 plant (one, without parent), 2 process, 3 process unit, 4 equipment."""

    code: Code
    parent: Code | None = None
    scope: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None, description="1 plant (one, without parent), 2 process, 3 process unit, 4 equipment"
    )
    name_zh: str | None = None
    name_en: str = ""


class EnterpriseAssignmentEntry(Entry):
    """The district and industry of an enterprise from one day to another."""

    from_on: Day
    to_on: Day | None = None
    district_code: str | None = Field(default=None, description="GB/T 2260", examples=["120119"])
    industry_code: str | None = Field(default=None, description="GB/T 4754", examples=["3011"])


class EnterpriseEntry(Entry):
    """An enterprise. `from_on`, `district_code`, `industry_code` are short for one entry of `assignments`."""

    uscc: CreditCode
    name_zh: str | None = None
    name_en: str = ""
    from_on: Day | None = None
    district_code: str | None = Field(default=None, description="GB/T 2260", examples=["120119"])
    industry_code: str | None = Field(default=None, description="GB/T 4754", examples=["3011"])
    assignments: list[EnterpriseAssignmentEntry] = []
    process_units: list[ProcessUnitEntry] = []
    lines: list[LineEntry] = []
    gateways: list[GatewayEntry] = []

    @model_validator(mode="after")
    def _whole_assignment(self) -> "EnterpriseEntry":
        short = (self.from_on, self.district_code, self.industry_code)
        if any(short) and not all(short):
            raise ValueError("from_on, district_code and industry_code go together: give all three or none")
        return self


class RegistryFile(Entry):
    """The whole file."""

    enterprises: list[EnterpriseEntry] = Field(max_length=10_000)


def path_text(path: Path) -> str:
    """Return a path as a reader writes it: `enterprises[3].gateways[0].points[2].unit`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def refusal(breaches: Sequence[Breach], places: Mapping[Path, str] | None = None) -> Invalid:
    """Return the error that lists every bad row; `places` names the file and line of rows that came from CSV."""
    errors = [{"location": place(path, places or {}), "message": message} for path, message in breaches]
    return Invalid(
        f"{len(errors)} entr{'y is' if len(errors) == 1 else 'ies are'} not right; nothing was written: see errors",
        detail_zh=f"{len(errors)} 处不合规则，未写入任何内容：见 errors",
        errors=errors,
    )


def place(path: Path, places: Mapping[Path, str]) -> str:
    """Return where a path is in what was read: file and line by `places` where they are known, else the path."""
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            rest = path_text(path[length:])
            return places[path[:length]] + (f", {rest}" if rest else "")
    return path_text(path) or "file"


def check_shape(content: Any, places: Mapping[Path, str] | None = None) -> RegistryFile:
    """Return the checked entries of a decoded file; else raise Invalid that lists every breach with its path."""
    try:
        return RegistryFile.model_validate(content)
    except ValidationError as error:
        breaches = [(tuple(e["loc"]), sentence(e)) for e in error.errors(include_url=False)]
        raise refusal(breaches, places) from error


def parse_text(text: str) -> RegistryFile:
    """Return the entries of a YAML or JSON file's text."""
    try:
        is_json = text.lstrip().startswith("{")
        content = json.loads(text) if is_json else yaml.load(text, TEXT_LOADER)  # noqa: S506 - makes text only
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        raise Invalid(
            f"the file is neither YAML nor JSON: {error}", detail_zh="文件不是合法的 YAML 或 JSON", errors=[]
        ) from error
    return check_shape(content)
