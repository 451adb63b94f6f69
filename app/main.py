"""The HTTP service: routers, errors, middleware put together. `uvicorn --factory app.main:app_factory`."""

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from sqlalchemy import Engine

from app import settings as settings_module
from app.api import (
    access,
    alerts,
    budgets,
    deliveries,
    districts,
    editions,
    edits,
    endpoints,
    energy,
    entered,
    enterprises,
    events,
    explain,
    findings,
    gaps,
    health,
    heating_values,
    ingest,
    key_units,
    keys,
    middleware,
    outputs,
    positions,
    problems,
    progress,
    quarantine,
    ranking,
    ratios,
    receipts,
    reference,
    registry,
    usage,
)
from app.db import engine as engine_module
from app.errors import Problem
from app.settings import Settings
from app.telemetry import configure_logging
from app.web import chain, documentation, pages, regulation

VERSION = "0.1.0"

ROUTERS = (
    districts.router,
    enterprises.router,
    usage.router,
    energy.router,
    ratios.router,
    positions.router,
    ranking.router,
    progress.router,
    budgets.router,
    explain.router,
    alerts.router,
    endpoints.router,
    deliveries.router,
    quarantine.router,
    receipts.router,
    gaps.router,
    edits.router,
    events.router,
    findings.router,
    registry.router,
    outputs.router,
    heating_values.router,
    ingest.router,
    entered.router,
    key_units.router,
    editions.router,
    reference.router,
    keys.router,
)

DESCRIPTION = """\
Online monitoring of the energy use of a city's key enterprises 重点用能单位能耗在线监测.

**Keys.** Send `Authorization: Bearer nh_…`. A key sees the whole city, one district or one enterprise; what is outside
answers 404 or is simply not in the list. 密钥决定可见范围：全市、一个区或一家企业。

**Numbers** are exact decimals written as strings; a field's name or its `unit` says the unit. 数值为精确十进制字符串。

**Times** are ISO 8601 with `+08:00`; days and months are those of Asia/Shanghai's calendar; ranges exclude their end
unless the parameter says that it is included. 时间带 +08:00，区间不含终点，参数注明包含者除外。

**Gaps** are explicit nulls on a full grid, never zeros. 缺数为 null，不补零。

**Errors** are RFC 9457 `application/problem+json`: `type` is stable, `title` and `detail` follow `Accept-Language`
(`zh` default, `en`). 出错时按 RFC 9457 返回。

**Limits.** `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` count per key; 429 names the wait in
`Retry-After`.
"""

TAGS = [
    {"name": "districts", "description": "Totals of the city and of its districts 全市与各区"},
    {"name": "enterprises", "description": "Enterprises with units, lines, gateways, points 企业"},
    {"name": "usage", "description": "What passed each meter 用量"},
    {"name": "energy", "description": "Standard coal and CO2 能耗与碳排放"},
    {"name": "ratios", "description": "Distance from the official benchmark and baseline 能效对标"},
    {"name": "positions", "description": "Any period, index of an enterprise, capacity share 时段、指数与达标产能"},
    {"name": "ranking", "description": "Ranking of a period, and peers 排名与对标"},
    {"name": "targets", "description": "Regions' figures, targets, progress, energy saved 目标与进度"},
    {"name": "budgets", "description": "Energy budgets and their use 用能预算"},
    {"name": "key units", "description": "Key-unit lists and energy managers 重点用能单位"},
    {"name": "explain", "description": "From a figure down to the raw readings 溯源"},
    {"name": "alerts", "description": "What is wrong, and who has seen it 告警"},
    {"name": "endpoints", "description": "Where notices are sent 通知端点"},
    {"name": "deliveries", "description": "Notices on their way, and those given up 投递"},
    {"name": "quarantine", "description": "Rejected readings with reasons 隔离区"},
    {"name": "receipts", "description": "Proof of what gateways delivered 回执"},
    {"name": "edits", "description": "Values entered, changed or voided by people, and disputes decided 人工修正"},
    {"name": "events", "description": "Meters exchanged, multipliers changed, points moved 换表等事件"},
    {"name": "findings", "description": "Faults of the data, with their clock 数据质量问题"},
    {"name": "registry", "description": "Enterprises, units, lines, gateways and points coming in 登记"},
    {"name": "ingest", "description": "Readings from gateways that cannot speak MQTT 读数上报"},
    {"name": "outputs", "description": "Production output of lines 产量"},
    {"name": "heating values", "description": "Measured heating values of fuels 实测热值"},
    {"name": "reference", "description": "Official levels and factors with sources 官方数据"},
    {"name": "keys", "description": "Keys and audit, for operators 密钥与审计"},
    {"name": "health", "description": "For whoever runs the service 运行状况"},
]


def create_app(settings: Settings, engine: Engine) -> FastAPI:
    """Return the HTTP service over a database."""
    app = FastAPI(
        title="Nenghao 能耗",
        version=VERSION,
        summary="From a meter's register to a signed notice",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.engine = engine
    app.state.rate_limit = access.RateLimit()
    for router in ROUTERS:
        app.include_router(router, responses=problems.RESPONSES)
    app.include_router(health.router)
    app.include_router(pages.router)
    app.include_router(regulation.router)
    app.include_router(chain.router)
    app.include_router(documentation.router)
    problems.install(app, _answer)
    app.add_middleware(middleware.Observed)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def app_factory() -> FastAPI:
    """Return the service with the settings of this process's environment."""
    settings = settings_module.load()
    configure_logging("api", settings.log_format)
    return create_app(settings, engine_module.create(settings.database_url.get_secret_value()))


def _answer(request: Request, problem: Problem, headers: Mapping[str, str] | None) -> Response:
    """Answer a browser that asked for a page with a page, everyone else with problem+json."""
    if pages.wants_page(request):
        return pages.problem_page(request, problem)
    return problems.respond(request, problem, headers)


def _openapi(app: FastAPI) -> dict[str, object]:
    """Return the OpenAPI document, made once; its error answers all share one schema."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            tags=app.openapi_tags,
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        schemas.update(problems.schemas())
        document["x-problems"] = problems.catalogue()
        app.openapi_schema = document
    return app.openapi_schema
