"""Writing the registry: enterprises, process units, lines, gateways, points, and their dated rows."""

from datetime import date, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi import Path as PathParameter
from pydantic import ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Exact, Instant, Reasoned
from app.db import registry as registry_db
from app.intake import gateways, registry
from app.intake.registry_file import (
    AssignmentEntry,
    EnterpriseEntry,
    Entry,
    GatewayEntry,
    InstallationEntry,
    LineEntry,
    Path,
    PointEntry,
    ProcessUnitEntry,
    RegistryFile,
)

router = APIRouter(prefix="/api/v1", tags=["registry"])
Operator = Annotated[Caller, Depends(allow("operator"))]
Reader = Annotated[Caller, Depends(allow(*EVERYONE))]
Uscc = Annotated[str, PathParameter(min_length=18, max_length=18, examples=["91120000MA0000001Q"])]
Code = Annotated[str, PathParameter(min_length=1, max_length=64, examples=["gw-clinker-01"])]
PointCode = Annotated[str, PathParameter(min_length=1, max_length=64, examples=["E001"])]


class Credential(Answer):
    """A gateway's account on the broker. The password is shown this once and kept nowhere."""

    code: str = Field(description="also the user name", examples=["gw-clinker-01"])
    password: str = Field(examples=["8yE0…"])


class Written(Answer):
    """What a write did, or with `dry_run` would do."""

    is_dry_run: bool
    inserted: dict[str, int] = Field(description="rows by kind", examples=[{"point": 1}])
    updated: dict[str, int]
    unchanged: dict[str, int]
    changes: list[str] = Field(description="one line per changed row", examples=[["+ point gw-clinker-01/E001"]])
    gateways: list[Credential] = Field(description="gateways that got an account now")


class EnterpriseBody(Reasoned, EnterpriseEntry):
    """An enterprise, with the tree below it."""


class ProcessUnitBody(Reasoned, ProcessUnitEntry):
    """A process unit."""


class LineBody(Reasoned, LineEntry):
    """A production line."""


class GatewayBody(Reasoned, GatewayEntry):
    """A gateway, with its points."""


class PointBody(Reasoned, PointEntry):
    """A point, with its meters and where it counts."""


class InstallationBody(Reasoned, InstallationEntry):
    """A meter behind a point from one instant to another."""


class AssignmentBody(Reasoned, AssignmentEntry):
    """Where a point counts from one instant to another."""


class ImportRequest(Reasoned):
    """The content of a registry file."""

    model_config = ConfigDict(extra="forbid")
    enterprises: list[EnterpriseEntry] = Field(max_length=10_000)
    dry_run: bool = Field(False, description="check and show, write nothing")


class GatewayItem(Answer):
    """A registered gateway."""

    code: str = Field(examples=["gw-clinker-01"])
    uscc: str
    zone: str
    heartbeat_s: int
    is_enabled: bool
    created_at: Instant


class DatedInstallation(Answer):
    """A meter that was registered behind a point."""

    from_at: Instant
    to_at: Instant | None
    serial: str | None = Field(examples=["S1"])
    multiplier: Exact = Field(examples=["80"])
    digits: int | None
    rated_load: Exact | None
    initial_register: Exact | None
    final_register: Exact | None
    verified_until: date | None


class DatedAssignment(Answer):
    """Where a point was registered to count."""

    from_at: Instant
    to_at: Instant | None
    process_unit: str = Field(examples=["kiln"])
    flow: str = Field(examples=["in"])
    in_boundary: bool
    expected_interval_s: int = Field(examples=[900])
    line: str | None
    output_kind: str | None


class DatedRows(Answer):
    """A point's installations and assignments, every one there was."""

    gateway: str
    point: str
    installations: list[DatedInstallation]
    assignments: list[DatedAssignment]


EntryType = TypeVar("EntryType", bound=Entry)


def _entry(body: Entry, kind: type[EntryType]) -> EntryType:
    """Return what a body states of the registry, without the reason that came along."""
    stated = body.model_fields_set & set(kind.model_fields)
    return kind.model_validate({name: getattr(body, name) for name in stated})


def _write(
    request: Request, caller: Caller, now: datetime, entry: EnterpriseEntry | list[EnterpriseEntry], reason: str | None,
    *, body_at: Path = (), is_dry_run: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Bring entries in. Own transactions: broker accounts are made after the registry's commit, not before."""
    state = request.app.state
    file = RegistryFile(enterprises=entry if isinstance(entry, list) else [entry])
    places = {("enterprises", 0, *body_at): "body"} if body_at else None
    report = registry.bring_in(
        state.engine, state.settings, file, actor=caller.name, now=now, is_dry_run=is_dry_run, places=places,
        closed_year_reason=reason,
    )  # fmt: skip
    return {
        "is_dry_run": report.is_dry_run,
        **{name: dict(+getattr(report, name)) for name in ("inserted", "updated", "unchanged")},
        "changes": report.changes,
        "gateways": [{"code": code, "password": password} for code, password in report.passwords.items()],
    }


@router.post("/registry/import", response_model=Written, summary="Import a registry file 导入登记")
def import_registry(body: ImportRequest, request: Request, caller: Operator, now: Now) -> dict[str, Any]:
    """The tree of `nenghao registry import`, all or nothing; what the body does not mention stays as it is.
    A change that alters figures of a closed year, after 31 March of the year that follows, takes `closed_year_reason`,
    here and in every other write of the registry.
    """
    return _write(request, caller, now, body.enterprises, body.closed_year_reason, is_dry_run=body.dry_run)


@router.post("/enterprises", response_model=Written, summary="Register an enterprise 登记企业")
def write_enterprise(body: EnterpriseBody, request: Request, caller: Operator, now: Now) -> dict[str, Any]:
    """New, or changed where it differs; may hold the whole tree below it."""
    return _write(request, caller, now, _entry(body, EnterpriseEntry), body.closed_year_reason)


@router.post("/enterprises/{uscc}/process-units", response_model=Written, summary="Register a process unit 登记工序")
def write_process_unit(
    uscc: Uscc, body: ProcessUnitBody, request: Request, caller: Operator, now: Now
) -> dict[str, Any]:
    """The plant (scope 1) first, then what stands under it."""
    entry = EnterpriseEntry.model_validate(
        {"uscc": _known(request, caller, uscc), "process_units": [_entry(body, ProcessUnitEntry)]}
    )
    return _write(request, caller, now, entry, body.closed_year_reason, body_at=("process_units", 0))


@router.post("/enterprises/{uscc}/lines", response_model=Written, summary="Register a production line 登记产线")
def write_line(uscc: Uscc, body: LineBody, request: Request, caller: Operator, now: Now) -> dict[str, Any]:
    """A line is compared with the catalogue variant it names."""
    entry = EnterpriseEntry.model_validate({"uscc": _known(request, caller, uscc), "lines": [_entry(body, LineEntry)]})
    return _write(request, caller, now, entry, body.closed_year_reason, body_at=("lines", 0))


@router.post("/enterprises/{uscc}/gateways", response_model=Written, summary="Register a gateway 登记端设备")
def write_gateway(uscc: Uscc, body: GatewayBody, request: Request, caller: Operator, now: Now) -> dict[str, Any]:
    """A new gateway gets its broker account; `gateways` holds the password, this once."""
    entry = EnterpriseEntry.model_validate(
        {"uscc": _known(request, caller, uscc), "gateways": [_entry(body, GatewayEntry)]}
    )
    return _write(request, caller, now, entry, body.closed_year_reason, body_at=("gateways", 0))


@router.post("/gateways/{code}/points", response_model=Written, summary="Register a point 登记测点")
def write_point(code: Code, body: PointBody, request: Request, caller: Operator, now: Now) -> dict[str, Any]:
    """Readings that were quarantined for want of the point come in by POST /api/v1/quarantine/release."""
    return _write_point(request, caller, now, code, _entry(body, PointEntry), body.closed_year_reason)


@router.post(
    "/gateways/{code}/points/{point}/installations", response_model=Written, summary="Install or end a meter 登记表计"
)
def write_installation(
    *, code: Code, point: PointCode, body: InstallationBody, request: Request, caller: Operator, now: Now
) -> dict[str, Any]:
    """Named by `from_at`: a new instant is a new meter, a known one is changed; `to_at` ends it."""
    entry = PointEntry.model_validate({"code": point, "installations": [_entry(body, InstallationEntry)]})
    return _write_point(request, caller, now, code, entry, body.closed_year_reason)


@router.post(
    "/gateways/{code}/points/{point}/assignments", response_model=Written, summary="Assign a point 登记测点归属"
)
def write_assignment(
    *, code: Code, point: PointCode, body: AssignmentBody, request: Request, caller: Operator, now: Now
) -> dict[str, Any]:
    """Named by `from_at`, as an installation is."""
    entry = PointEntry.model_validate({"code": point, "assignments": [_entry(body, AssignmentEntry)]})
    return _write_point(request, caller, now, code, entry, body.closed_year_reason)


def _known(request: Request, caller: Caller, uscc: str) -> str:
    """Return the code of an enterprise that is registered; else raise NotFound."""
    with request.app.state.engine.connect() as connection:
        registry_db.enterprise_in_scope(connection, caller.scope, uscc)
    return uscc


def _write_point(
    request: Request, caller: Caller, now: datetime, code: str, point: PointEntry, reason: str | None
) -> dict[str, Any]:
    with request.app.state.engine.connect() as connection:
        gateway = registry_db.gateway_in_scope(connection, caller.scope, code)
    entry = EnterpriseEntry.model_validate(
        {"uscc": gateway["uscc"], "gateways": [GatewayEntry.model_validate({"code": code, "points": [point]})]}
    )
    return _write(request, caller, now, entry, reason, body_at=("gateways", 0, "points", 0))


@router.get("/enterprises/{uscc}/gateways", response_model=list[GatewayItem], summary="Gateways 端设备")
def list_gateways(uscc: Uscc, caller: Reader, connection: Transaction) -> list[dict[str, Any]]:
    """The gateways of one enterprise."""
    registry_db.enterprise_in_scope(connection, caller.scope, uscc)
    return registry_db.list_gateways(connection, uscc)


@router.get("/gateways/{code}", response_model=GatewayItem, summary="One gateway 端设备详情")
def get_gateway(code: Code, caller: Reader, connection: Transaction) -> dict[str, Any]:
    """The gateway by its code."""
    row = registry_db.gateway_in_scope(connection, caller.scope, code)
    return {name: row[name] for name in GatewayItem.model_fields}


@router.get("/gateways/{code}/points/{point}", response_model=DatedRows, summary="A point's history 测点历史")
def get_point(code: Code, point: PointCode, caller: Reader, connection: Transaction) -> dict[str, Any]:
    """Every installation and assignment with its dates; numbers as strings."""
    registry_db.gateway_in_scope(connection, caller.scope, code)
    return {"gateway": code, "point": point, **registry_db.point_history(connection, code, point)}


@router.post("/gateways/{code}/rotate", response_model=Credential, summary="New password 更换口令")
def rotate_gateway(code: Code, request: Request, caller: Operator) -> dict[str, str]:
    """Replaces the password; the old one ends at once, with the connection that uses it."""
    password = gateways.rotate(request.app.state.engine, request.app.state.settings, code, actor=caller.name)
    return {"code": code, "password": password}


@router.post("/gateways/{code}/disable", status_code=204, response_model=None, summary="Disable a gateway 停用")
def disable_gateway(code: Code, request: Request, caller: Operator) -> None:
    """Ends its connection and refuses the next."""
    state = request.app.state
    gateways.set_enabled(state.engine, state.settings, code, is_enabled=False, actor=caller.name)


@router.post("/gateways/{code}/enable", status_code=204, response_model=None, summary="Enable a gateway 启用")
def enable_gateway(code: Code, request: Request, caller: Operator) -> None:
    """Lets it connect again with the password it had."""
    state = request.app.state
    gateways.set_enabled(state.engine, state.settings, code, is_enabled=True, actor=caller.name)
