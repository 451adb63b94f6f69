"""`nenghao`: what an operator does from a shell. Exit status 0 done, 1 refused or failed, 2 wrong usage."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from app import broker, settings
from app.cli import edits, entered, events, evidence, explain, factors, levels
from app.cli.terminal import actor, commands, database, err, file_text, now, out, records, working
from app.db import access, deliveries, inbox, migrations
from app.db import registry as registry_db
from app.db.scope import CITY
from app.errors import Invalid, Problem
from app.intake import gateways as gateways_intake
from app.intake import outputs as outputs_intake
from app.intake import reference_load, registry
from app.intake.registry_csv import parse_folder
from app.intake.registry_file import EnterpriseEntry, GatewayEntry, RegistryFile, parse_text
from app.intake.sentences import sentence, worded

RELEASE_POLL_S = 0.25
EndpointId = Annotated[int, typer.Argument(help="its id in `nenghao endpoints list` 通知地址编号")]
app = commands("Nenghao, online monitoring of energy use. 重点用能单位能耗在线监测。")
_reference = commands("Official tables 基准表.")
_registry = commands("Enterprises, lines, gateways, points 登记.")
_gateways = commands("Gateways and their broker accounts 端设备.")
_keys = commands("Keys of the API 密钥.")
_endpoints = commands("Webhook endpoints of officials 通知地址.")
_quarantine = commands("Rejected readings 隔离区.")
_outputs = commands("Reported outputs 产量.")
_broker = commands("The message broker 消息服务器.")
for _name, _group in (
    ("reference", _reference), ("registry", _registry), ("gateways", _gateways), ("keys", _keys),
    ("endpoints", _endpoints), ("quarantine", _quarantine), ("outputs", _outputs), ("broker", _broker),
):  # fmt: skip
    app.add_typer(_group, name=_name)
app.add_typer(edits.group, name="edits", short_help="Readings corrected, voided, entered by hand 读数修正.")
app.add_typer(events.group, name="events", short_help="Meters exchanged, points moved 换表等事件.")
app.add_typer(explain.group, name="explain", short_help="Where a figure comes from 溯源.")
app.add_typer(factors.group, name="factors")
app.add_typer(levels.group, name="levels")
evidence.register(app)
entered.register(app)


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema 更新数据库结构."""
    with working("migrating"):
        migrations.upgrade(settings.load().database_url.get_secret_value())
    out.print("database is at this version's schema")


@_reference.command("load", short_help="Load the official tables 载入基准表.")
def reference_load_command() -> None:
    """Load the official tables; a second time changes nothing 载入基准表."""
    with database() as engine, working("loading official tables"), engine.begin() as connection:
        reports = reference_load.load(connection, now())
    table = Table("table", "inserted", "updated", "unchanged", box=None)
    for report in reports:
        table.add_row(report.table, str(report.inserted), str(report.updated), str(report.unchanged))
    out.print(table)


@_registry.command("import", short_help="Import a registry file, all or nothing 导入登记.")
def registry_import(
    file: Annotated[Path, typer.Argument(exists=True, help="YAML or JSON file, CSV file, or folder of CSV files")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and show, write nothing")] = False,
    credentials: Annotated[
        Path | None, typer.Option(help="write new gateway passwords to this JSON file, beside those it has")
    ] = None,
    closed_year_reason: Annotated[
        str | None, typer.Option(help="why figures of a closed year are changed 修改已关账年度的原因")
    ] = None,
) -> None:
    """Import a registry file; all bad rows are listed, nothing is written unless all are right 导入登记."""
    if credentials is not None and not dry_run:
        _write_credentials(credentials, {})  # a file that cannot be written is found out before anything is done
    with database() as engine, working(f"importing {file.name}"):
        is_csv = file.is_dir() or file.suffix == ".csv"
        entries, places = parse_folder(file) if is_csv else (parse_text(file_text(file)), None)
        report = registry.bring_in(
            engine, settings.load(), entries, actor=actor(), now=now(), is_dry_run=dry_run, places=places,
            closed_year_reason=closed_year_reason,
        )  # fmt: skip
    _show_report(report)
    _hand_out(report.passwords, credentials)


def _show_report(report: registry.Report) -> None:
    for line in report.changes if report.is_dry_run else report.changes[:20]:
        out.print(line, markup=False)
    if not report.is_dry_run and len(report.changes) > 20:
        out.print(f"… and {sum((report.inserted + report.updated).values()) - 20} more")
    verb = "would be " if report.is_dry_run else ""
    counts = (sum(part.values()) for part in (report.inserted, report.updated, report.unchanged))
    out.print("{} row(s) {v}inserted, {} {v}updated, {} unchanged".format(*counts, v=verb))


def _hand_out(passwords: dict[str, str], credentials: Path | None) -> None:
    """Give new passwords to the operator, once: into the file, else onto standard output."""
    if credentials is not None and passwords:
        _write_credentials(credentials, passwords)
        out.print(f"{len(passwords)} new password(s) written to {credentials}", markup=False)
    elif passwords:
        for code, password in passwords.items():
            out.print(f"{code} {password}", markup=False)


def _write_credentials(file: Path, passwords: dict[str, str]) -> None:
    known = {}
    if file.exists() and file.stat().st_size:
        known = {row["code"]: row["password"] for row in json.loads(file.read_text(encoding="utf-8"))["gateways"]}
    rows = [{"code": code, "password": password} for code, password in sorted({**known, **passwords}.items())]
    draft = file.with_name(file.name + ".part")
    # Only its owner may read it, from the first byte on.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        json.dump({"gateways": rows}, handle, indent=2)
    draft.replace(file)


@_gateways.command("add", short_help="Register a gateway, print its password once 登记端设备.")
def gateways_add(
    code: Annotated[str, typer.Argument(help="e.g. gw-clinker-01")],
    enterprise: Annotated[str, typer.Option(help="its enterprise's unified social credit code")],
    zone: Annotated[str, typer.Option(help="time zone of readings without one")] = "Asia/Shanghai",
    heartbeat_s: Annotated[int, typer.Option(help="seconds between heartbeats")] = 900,
) -> None:
    """Register a gateway and make its broker account; prints the password, this once 登记端设备."""
    try:
        entry = GatewayEntry(code=code, zone=zone, heartbeat_s=heartbeat_s)
        file = RegistryFile(enterprises=[EnterpriseEntry(uscc=enterprise, gateways=[entry])])
    except ValidationError as error:
        raise Invalid("; ".join(sentence(e) for e in error.errors(include_url=False))) from error
    with database() as engine, working("registering"):
        report = registry.bring_in(engine, settings.load(), file, actor=actor(), now=now())
    _show_report(report)
    _hand_out(report.passwords, None)
    if not report.passwords:
        out.print(f"{code} has a password already; `nenghao gateways rotate {code}` gives it a new one", markup=False)


@_gateways.command("list")
def gateways_list(
    enterprise: Annotated[
        str | None, typer.Option(help="only of this one, by its credit code 统一社会信用代码")
    ] = None,
) -> None:
    """Show the gateways, by code 端设备列表."""
    with database() as engine, engine.connect() as connection:
        if enterprise is not None:
            registry_db.enterprise_in_scope(connection, CITY, enterprise)
        rows = registry_db.list_gateways(connection, enterprise)
    records(("code", "uscc", "zone", "heartbeat_s", "is_enabled", "created_at"), rows)


@_gateways.command("rotate", short_help="Give a gateway a new password, print it once 更换口令.")
def gateways_rotate(code: str) -> None:
    """Give a gateway a new password and print it, this once; the old one ends 更换口令."""
    with database() as engine:
        password = gateways_intake.rotate(engine, settings.load(), code, actor=actor())
    out.print(f"{code} {password}", markup=False)


@_gateways.command("disable")
def gateways_disable(code: str) -> None:
    """End a gateway's connection and refuse the next 停用."""
    _set_enabled(code, is_enabled=False)


@_gateways.command("enable")
def gateways_enable(code: str) -> None:
    """Let a gateway connect again with the password it had 启用."""
    _set_enabled(code, is_enabled=True)


def _set_enabled(code: str, *, is_enabled: bool) -> None:
    with database() as engine:
        gateways_intake.set_enabled(engine, settings.load(), code, is_enabled=is_enabled, actor=actor())
    out.print(f"{code} is {'enabled' if is_enabled else 'disabled'}", markup=False)


@_keys.command("create")
def keys_create(
    role: Annotated[str, typer.Option(help="operator, regulator, official, enterprise or gateway")],
    name: Annotated[str, typer.Option(help="whose key it is; for a gateway, its code")],
    district: Annotated[str | None, typer.Option(help="district code, for an official 区代码")] = None,
    enterprise: Annotated[str | None, typer.Option(help="credit code, for an enterprise 统一社会信用代码")] = None,
) -> None:
    """Make a key of the API and print it, this once 新建密钥."""
    with database() as engine, engine.begin() as connection:
        enterprise_id = registry_db.enterprise_in_scope(connection, CITY, enterprise) if enterprise else None
        key = access.create_key(connection, name, role, district_code=district, enterprise_id=enterprise_id)
        made = access.find_key(connection, key)
        detail = {"name": name, "role": role, "district_code": district, "enterprise_id": enterprise_id}
        access.record(connection, actor(), "key.create", f"key/{made['id']}", detail | {"prefix": made["prefix"]})
    out.print(key, markup=False)


@_keys.command("list", short_help="Show every key by how it begins 密钥列表.")
def keys_list() -> None:
    """Show every key by how it begins, never the key itself; the newest first 密钥列表."""
    with database() as engine, engine.connect() as connection:
        rows = access.list_keys(connection)
    scope = ("role", "district_code", "enterprise_id", "is_enabled")
    times = ("created_at", "expires_at", "last_used_at", "revoked_at")
    records(("id", "prefix", "name", *scope, *times), rows)


@_keys.command("revoke", short_help="End a key, at once and for good 撤销密钥.")
def keys_revoke(key_id: Annotated[int, typer.Argument(help="its id in `nenghao keys list` 密钥编号")]) -> None:
    """End a key, at once and for good; a second time changes nothing 撤销密钥."""
    with database() as engine, engine.begin() as connection:
        access.revoke_key(connection, key_id, now())
        access.record(connection, actor(), "key.revoke", f"key/{key_id}")
    out.print(f"key {key_id} is revoked")


@_endpoints.command("add")
def endpoints_add(
    name: Annotated[str, typer.Option()],
    url: Annotated[str, typer.Option(help="where notices are posted")],
    secret: Annotated[str, typer.Option(help="whsec_ and base64, shared with the receiver")],
    district: Annotated[str | None, typer.Option(help="only this district's matters; default: the city")] = None,
    kinds: Annotated[
        list[str] | None, typer.Option(help="alert.* (default), figure.* or one kind; may be repeated")
    ] = None,
) -> None:
    """Add a webhook endpoint 新增通知地址."""
    with database() as engine, engine.begin() as connection:
        endpoint_id = deliveries.add_endpoint(
            connection, name=name, url=url, secret=secret, district_code=district, kinds=kinds or ["alert.*"]
        )
        detail = {"name": name, "url": url, "district_code": district, "kinds": kinds or ["alert.*"]}
        access.record(connection, actor(), "endpoint.create", f"endpoint/{endpoint_id}", detail)
    out.print(f"endpoint {endpoint_id} {name} → {url}", markup=False)


@_endpoints.command("list", short_help="Show every endpoint and what waits for it 通知地址列表.")
def endpoints_list() -> None:
    """Show every endpoint and what waits for it, never its secret 通知地址列表."""
    with database() as engine, engine.connect() as connection:
        rows = deliveries.list_endpoints(connection)
    state = ("is_enabled", "disabled_reason", "pending", "dead", "last_delivered_at", "created_at")
    records(("id", "name", "url", "district_code", "kinds", *state), rows)


@_endpoints.command("disable", short_help="Send it nothing more; what waits stays 停用.")
def endpoints_disable(
    endpoint_id: EndpointId, reason: Annotated[str | None, typer.Option(help="why 原因")] = None
) -> None:
    """Send it nothing more; what waits stays and goes out when it is enabled again 停用."""
    _switch_endpoint(endpoint_id, is_enabled=False, reason=reason)


@_endpoints.command("enable")
def endpoints_enable(endpoint_id: EndpointId) -> None:
    """Send it notices again, those that wait first 启用."""
    _switch_endpoint(endpoint_id, is_enabled=True, reason=None)


def _switch_endpoint(endpoint_id: int, *, is_enabled: bool, reason: str | None) -> None:
    with database() as engine, engine.begin() as connection:
        deliveries.set_enabled(connection, endpoint_id, is_enabled=is_enabled, reason=reason)
        detail = {"is_enabled": is_enabled, "reason": reason}
        access.record(connection, actor(), "endpoint.change", f"endpoint/{endpoint_id}", detail)
    out.print(f"endpoint {endpoint_id} is {'enabled' if is_enabled else 'disabled'}")


@_quarantine.command("list")
def quarantine_list(
    gateway: Annotated[str | None, typer.Option(help="only this gateway's")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """Show what was rejected and why, newest first 隔离区列表."""
    with database() as engine, engine.connect() as connection:
        rows: list[dict[str, Any]] = inbox.list_quarantine(connection, CITY, limit=limit, gateway_code=gateway)
    columns = ("id", "received_at", "gateway_code", "point_code", "ts", "item_count", "reason", "detail", "released_at")
    records(columns, rows)


@_quarantine.command("release", short_help="Run rejected readings through the checks again 放行.")
def quarantine_release(
    gateway: Annotated[str | None, typer.Option(help="only this gateway's")] = None,
    reason: Annotated[str | None, typer.Option(help="only of this reason, e.g. unknown_point")] = None,
    timeout_s: Annotated[float, typer.Option(min=0, help="how long to wait for the ingest process; 0: do not")] = 60.0,
) -> None:
    """Run rejected readings through the checks again, once the registry is right 放行."""
    with database() as engine:
        with engine.begin() as connection:
            asked = inbox.request_release(connection, gateway_code=gateway, reason=reason, actor=actor(), now=now())
            detail = {"gateway_code": gateway, "reason": reason, "items": asked}
            access.record(connection, actor(), "quarantine.release", "quarantine", detail)
        out.print(f"{asked} item(s) asked for")
        if asked and timeout_s:
            _wait_for_release(engine, timeout_s)


def _wait_for_release(engine: Engine, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    first = None
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("released", total=None)
        while True:
            with engine.connect() as connection:
                waiting = inbox.count_pending_release(connection)
            first = waiting if first is None else first
            progress.update(task, total=first, completed=first - waiting)
            if waiting == 0:
                break
            if time.monotonic() > deadline:
                raise Problem(
                    f"{waiting} item(s) still wait after {timeout_s:g} s: the ingest process does this, is"
                    " `nenghao-ingest` running? The request stands and is done when it runs"
                )
            time.sleep(RELEASE_POLL_S)
    out.print("all have been through the checks; what is still wrong is in `nenghao quarantine list`")


@_outputs.command("import", short_help="Report outputs from a CSV file 上报产量.")
def outputs_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    closed_year_reason: Annotated[
        str | None, typer.Option(help="why figures of a closed year are changed 修改已关账年度的原因")
    ] = None,
) -> None:
    """Report outputs from a CSV file: uscc, process_unit, line, kind, grain, period, value, unit 上报产量."""
    entries, places = outputs_intake.parse_csv(file_text(file))
    with database() as engine, working(f"reporting {len(entries)} outputs"), engine.begin() as connection:
        done = outputs_intake.report(
            connection, access.Caller(actor(), "operator", CITY), entries, now=now(), places=places,
            closed_year_reason=closed_year_reason,
        )  # fmt: skip
    out.print(f"{done.accepted} accepted, {done.unchanged} unchanged")


@_broker.command("prepare", short_help="Make the account of the ingest process 准备接入账户.")
def broker_prepare(
    ingest_password_file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="holds the password")],
) -> None:
    """Make the ingest process's broker account, or give it this password 准备接入账户."""
    password = ingest_password_file.read_text(encoding="utf-8").strip()
    if not password:
        raise Invalid(f"{ingest_password_file} is empty: put the ingest process's password into it")
    broker.ensure_service_account(settings.load(), password)
    out.print(f"account {broker.SERVICE_ACCOUNT} is ready")


def _say(problem: Problem) -> None:
    """Say what was refused, and every breach; nothing is said twice, neither as the detail nor inside it."""
    breaches = problem.extra.get("errors", ())
    is_nothing_else = breaches and problem.detail == "; ".join(item["message"] for item in breaches)
    if not is_nothing_else:
        err.print(f"error: {problem.detail}", markup=False, style="red")
    for item in breaches:
        line = f"{item['location']}: {item['message']}"
        if is_nothing_else:
            err.print(f"error: {line}", markup=False, style="red")
        elif str(item["location"]) not in problem.detail or item["message"] not in problem.detail:
            err.print(f"  {line}", markup=False)


def main() -> None:
    """Run a command; what its user can mend is said in a sentence, without a traceback."""
    try:
        app()
    except Problem as problem:
        _say(problem)
        raise SystemExit(1) from problem
    except ValidationError as error:
        err.print("error: the settings are not complete; set in the environment:", markup=False, style="red")
        for item in error.errors(include_url=False):
            err.print(f"  NENGHAO_{'_'.join(map(str, item['loc'])).upper()}: {worded(item, 'en')}", markup=False)
        raise SystemExit(1) from error
    except UnicodeDecodeError as error:
        what = f"error: the file is not UTF-8 ({error.reason} at byte {error.start}): in Excel, save it as CSV UTF-8"
        err.print(what, markup=False, style="red")
        raise SystemExit(1) from error
    except OperationalError as error:
        err.print(f"error: the database does not answer: {error.orig}", markup=False, style="red")
        raise SystemExit(1) from error
