"""The pages: overview, one enterprise, sign-in. Rendered here, in Chinese and English, nothing from another host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.db import access, findings, inbox
from app.db.access import KEY_COOKIE, MAY_ACKNOWLEDGE, OF_REGIONS, Caller
from app.db.figures import energy, enterprises, ratios, targets, totals
from app.db.scope import Scope
from app.domain.calendar import business_day
from app.domain.language import LANGUAGES, preferred_language
from app.domain.periods import Grain
from app.errors import NotFound, Problem
from app.pipeline import positions
from app.web import drawings, words

LANGUAGE_COOKIE = "nenghao_language"
SESSION_S = 12 * 3600
LINES_SHOWN, ALERTS_SHOWN, DAYS_SHOWN, BREACHES_SHOWN = 500, 50, 14, 20
TARGETS = ("city_energy_intensity", "industrial_va_energy_intensity")
MAX_ID = 2**63 - 1
STATIC = Path(__file__).parent / "static"
STATIC_FILES = {"style.css": "text/css", "refresh.js": "text/javascript"}

router = APIRouter(include_in_schema=False)
templates = Environment(loader=PackageLoader("app.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
templates.filters.update(
    number=words.number, plain=words.plain, percent=words.percent, instant=words.instant, figure=words.figure,
    reason=words.reason, cause=words.cause, indicator=words.indicator, unit=words.unit, factor_set=words.factor_set,
    columns=words.columns, in_script=words.in_script, month=words.month, business_date=words.business_date,
    marker_x=drawings.marker_x, share_x=drawings.share_x,
)  # fmt: skip
Id = Annotated[int, PathParameter(ge=1, le=MAX_ID)]


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a page: the request, its language, and who looks (None: not signed in)."""

    request: Request
    language: str
    caller: Caller | None
    now: datetime


def present() -> datetime:
    """Return the present instant; a dependency, so that tests may stand elsewhere in time."""
    return datetime.now(UTC)


Now = Annotated[datetime, Depends(present)]


def visit(request: Request, connection: Connection, now: datetime) -> Visit:
    """Return who looks, by the key in the cookie."""
    key = request.cookies.get(KEY_COOKIE)
    caller = access.authenticate(connection, key, now) if key else None
    is_person = caller is not None and caller.role != "gateway"
    return Visit(request, language_of(request), caller if is_person else None, now)


def glance(request: Request) -> Visit:
    """Return who looks at a page that needs no database: while that does not answer, nobody is signed in."""
    nobody = Visit(request, language_of(request), None, present())
    if KEY_COOKIE not in request.cookies:
        return nobody
    try:
        with request.app.state.engine.begin() as connection:
            return visit(request, connection, nobody.now)
    except SQLAlchemyError:
        return nobody


def language_of(request: Request) -> str:
    """Return the language chosen on the page, else the one chosen before, else the browser's."""
    for chosen in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if chosen in LANGUAGES:
            return chosen
    return preferred_language(request.headers.get("accept-language"))


def render(template: str, seen: Visit, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; a language chosen by `?lang=` is remembered."""
    other = "en" if seen.language == "zh" else "zh"
    query = {name: value for name, value in seen.request.query_params.items() if name != "lang"}
    content = templates.get_template(template).render(
        t=words.WORDS[seen.language],
        language=seen.language,
        other_language=other,
        caller=seen.caller,
        now=seen.now,
        path=seen.request.url.path,
        other_language_href=f"?{urlencode({**query, 'lang': other})}",
        **values,
    )
    response = HTMLResponse(content, status, headers={"Content-Language": seen.language})
    if seen.request.query_params.get("lang") in LANGUAGES:
        _set_cookie(response, seen.request, LANGUAGE_COOKIE, seen.language, 365 * 86400)
    return response


def _set_cookie(response: Response, request: Request, name: str, value: str, max_age_s: int) -> None:
    is_secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age_s, httponly=True, samesite="strict", secure=is_secure)


def wants_page(request: Request) -> bool:
    """Say whether an error should be shown as a page: a browser, outside the API."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def problem_page(request: Request, problem: Problem) -> Response:
    """Return an error as a page; of a fault of the service nobody is looked up, the database may be its cause."""
    is_fault = problem.status >= 500
    seen = Visit(request, language_of(request), None, present()) if is_fault else glance(request)
    is_zh = seen.language == "zh"
    title = problem.title_zh if is_zh else problem.title_en
    detail = problem.extra.get("detail_zh", problem.detail) if is_zh else problem.detail
    breaches = [_breach(item, is_zh=is_zh) for item in problem.extra.get("errors", ())[:BREACHES_SHOWN]]
    response = render("problem.html", seen, problem.status, title=title, detail=detail, breaches=breaches)
    response.headers.update(problem.extra.get("headers", {}))
    return response


def _breach(item: Mapping[str, Any], *, is_zh: bool) -> tuple[str, str]:
    """Return where something is wrong, and what, in words."""
    location = item["location"]
    where = location if isinstance(location, str) else ".".join(str(part) for part in location)
    return where, str(item.get("message_zh", item["message"]) if is_zh else item["message"])


def sign_in_form(seen: Visit) -> Response:
    """Return what a visitor without a valid key gets instead of a page."""
    return render("sign_in.html", seen, error=None)


def narrowed(scope: Scope, district: str | None, known: Sequence[Mapping[str, Any]]) -> Scope:
    """Return a scope cut down to one of the districts that it holds; any other one is not there."""
    if district is None:
        return scope
    if district not in {row["code"] for row in known}:
        raise NotFound(f"there is no district {district} in your scope", detail_zh=f"您的范围内没有区 {district}")
    return Scope(district, scope.enterprise_id)


@router.get("/")
def get_overview(
    request: Request,
    now: Now,
    district: Annotated[str | None, Query(pattern=r"^\d{6}$")] = None,
    share: Literal["month", "year_to_date", "rolling_12_months"] | None = None,
) -> Response:
    """Totals, open alerts, capacity at the benchmark, districts, targets, lines; without a valid key, the sign-in."""
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        today = business_day(seen.now)
        districts = totals.districts(connection, seen.caller.scope, today)
        scope = narrowed(seen.caller.scope, district, districts)
        return render(
            "overview.html",
            seen,
            summary=totals.summary(connection, scope, today),
            coverage=_coverage(connection, scope, today),
            findings=findings.count_open(connection, scope, today),
            shares=_shares(connection, scope, Grain(share or "month"), seen.now),
            is_share_asked=share is not None,
            districts=districts,
            district=district,
            targets=_targets(connection, scope, today) if seen.caller.role in OF_REGIONS else [],
            lines=ratios.latest_ratios(connection, scope, limit=LINES_SHOWN),
            alerts=_alerts(connection, scope),
            may_acknowledge=seen.caller.role in MAY_ACKNOWLEDGE,
        )


def _alerts(connection: Connection, scope: Scope, enterprise_id: int | None = None) -> list[dict[str, Any]]:
    """Return what is not settled, violations first: newer alerts of the data never push one out of the list."""
    asked = partial(
        inbox.list_alerts, connection, scope,
        limit=ALERTS_SHOWN, states=["open", "acknowledged"], enterprise_id=enterprise_id,
    )  # fmt: skip
    return asked(severity="violation") + [row for row in asked() if row["severity"] != "violation"]


def _coverage(connection: Connection, scope: Scope, today: date) -> dict[str, Any]:
    """Windows received of those expected, of the last month that is over and of yesterday."""
    return {
        "month": totals.coverage(connection, scope, "month", totals.previous_month(today)),
        "yesterday": totals.coverage(connection, scope, "day", today - timedelta(days=1)),
    }


def _shares(connection: Connection, scope: Scope, grain: Grain, now: datetime) -> dict[str, Any]:
    """The share of capacity at the benchmark in the period that ends with the last month that is over."""
    month = totals.previous_month(business_day(now))
    found = positions.shares(connection, scope, grain, month, positions.question(grain, month), now)
    units: dict[tuple[Any, ...], set[str]] = {}
    for row in found["items"]:
        if row["capacity_unit"] is not None:
            units.setdefault((row["domain_no"], row["domain_zh"]), set()).add(row["capacity_unit"])
    has_other_units = any(len(of_domain) > 1 for of_domain in units.values())
    return {**found, "grain": grain.value, "month": month, "has_other_units": has_other_units}


def _targets(connection: Connection, scope: Scope, today: date) -> list[dict[str, Any]]:
    """Regions with a target of their own or of the plan, by the last whole year, and the kind of target first."""
    return [
        {"key": key, **row}
        for key in TARGETS
        for row in targets.progress(connection, scope, target_key=key, year=today.year - 1, conversion="equal")
        if row["target"] is not None and (key == TARGETS[0] or row["reduction_pct"] is not None)
    ]


@router.get("/enterprises/{enterprise_id}")
def get_enterprise(request: Request, enterprise_id: Id, now: Now) -> Response:
    """One enterprise: lines, energy of the last days, alerts, gateways, points with their last reading."""
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        scope, today = seen.caller.scope, business_day(seen.now)
        found = enterprises.enterprise(connection, scope, enterprise_id)
        days = [today - timedelta(days=back) for back in reversed(range(DAYS_SHOWN))]
        kgce = energy.kgce_of_days(connection, enterprise_id, days[0], today + timedelta(days=1))
        return render(
            "enterprise.html",
            seen,
            enterprise=found,
            totals=totals.energy_of_months(connection, Scope(enterprise_id=enterprise_id), today),
            lines=ratios.latest_ratios(connection, scope, limit=LINES_SHOWN, enterprise_id=enterprise_id),
            alerts=_alerts(connection, scope, enterprise_id),
            bars=drawings.bars(days, kgce),
            today=today,
            gateways=enterprises.gateways(connection, enterprise_id),
            points=enterprises.points(connection, enterprise_id, seen.now),
            may_acknowledge=seen.caller.role in MAY_ACKNOWLEDGE,
        )


@router.post("/alerts/{alert_id}/acknowledge")
def acknowledge(
    request: Request, alert_id: Id, note: Annotated[str, Form(min_length=1, max_length=2000)], now: Now
) -> Response:
    """Take an alert as seen and go back to its enterprise; only from a page of this service (see middleware)."""
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None or seen.caller.role not in MAY_ACKNOWLEDGE:
            return render("sign_in.html", seen, 403, error=None)
        caller = seen.caller
        inbox.acknowledge(connection, caller.scope, alert_id, actor=caller.name, note=note, now=seen.now)
        access.record(connection, caller.name, "alert.acknowledge", f"alert/{alert_id}", {"note": note})
        found = inbox.alert(connection, caller.scope, alert_id)
    where = f"/enterprises/{found['enterprise_id']}" if found["enterprise_id"] else "/"
    return RedirectResponse(where, 303)


@router.post("/sign-in")
def sign_in(request: Request, now: Now, key: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Keep a valid key in a cookie that scripts cannot read and other sites cannot send."""
    with request.app.state.engine.begin() as connection:
        caller = access.authenticate(connection, key.strip(), now)
    if caller is None or caller.role == "gateway":
        seen = Visit(request, language_of(request), None, now)
        return render("sign_in.html", seen, 401, error="role_refused" if caller else "sign_in_failed")
    response = RedirectResponse("/", 303)
    _set_cookie(response, request, KEY_COOKIE, key.strip(), SESSION_S)
    return response


@router.post("/sign-out")
def sign_out() -> Response:
    """Forget the key."""
    response = RedirectResponse("/", 303)
    response.delete_cookie(KEY_COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/static/{name}")
def get_static(name: str) -> Response:
    """The pages' own style and script."""
    if name not in STATIC_FILES:
        raise NotFound(f"there is no file {name}", detail_zh=f"没有文件 {name}")
    headers = {"Cache-Control": "public, max-age=300"}
    return FileResponse(STATIC / name, media_type=STATIC_FILES[name], headers=headers)
