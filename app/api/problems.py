"""Every error as problem+json (RFC 9457): a stable type, a title in the reader's language, what was wrong and where."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.domain.language import preferred_language
from app.errors import Conflict, Forbidden, Invalid, NotFound, Problem, Unauthenticated, Unavailable
from app.intake.sentences import worded

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
# So many breaches are listed, as in the ack of a message: a body of a few kilobytes must not make an answer of many.
MOST_ERRORS = 1000


class MethodNotAllowed(Problem):
    """The address exists, but not for this method; `Allow` lists the methods."""

    doc_zh = "地址存在，但不支持此方法；`Allow` 列出可用的方法。"
    status, slug, title_en, title_zh = 405, "method-not-allowed", "Method not allowed", "不支持的方法"


class TooLarge(Problem):
    """The request's body is over the limit."""

    doc_zh = "请求体超过上限。"
    status, slug, title_en, title_zh = 413, "too-large", "Content too large", "内容过大"


class TooManyRequests(Problem):
    """The key has used up its requests; `Retry-After` says in how many seconds there are more."""

    doc_zh = "该密钥的请求次数已用完；`Retry-After` 为可再次请求前的秒数。"
    status, slug, title_en, title_zh = 429, "too-many-requests", "Too many requests", "请求过于频繁"


class InternalError(Problem):
    """A fault of the service; its log holds the details under the request id."""

    doc_zh = "服务出错；其日志在请求号下记有详情。"
    status, slug, title_en, title_zh = 500, "internal-error", "Internal error", "内部错误"


KINDS: tuple[type[Problem], ...] = (
    Problem, Unauthenticated, Forbidden, NotFound, MethodNotAllowed, Conflict, TooLarge, Invalid,
    TooManyRequests, InternalError, Unavailable,
)  # fmt: skip
BY_STATUS = {kind.status: kind for kind in KINDS}


class ErrorItem(BaseModel):
    """One breach inside a request."""

    model_config = ConfigDict(extra="allow")
    location: list[str | int] | str | None = Field(
        None, description="where: body, query or path, then the way to the value", examples=[["query", "grain"]]
    )
    message: str | None = Field(None, examples=["应为以下之一：'hour', 'day' or 'month'"])


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(description="stable kind of the problem, also a page", examples=["/problems/invalid"])
    title: str = Field(description="title in the language of Accept-Language", examples=["内容不合规则"])
    status: int = Field(examples=[422])
    detail: str = Field(description="what was wrong, where, what to do", examples=["1 处不合规则，见 errors"])
    instance: str = Field(description="path of the request", examples=["/api/v1/usage"])
    request_id: str = Field(description="also in X-Request-ID and in the service's log", examples=["3f9a41c07e52"])
    errors: list[ErrorItem] | None = Field(None, description="every breach, up to 1000")
    errors_total: int | None = Field(None, description="where there are more than 1000: how many in all")


# What the service says in such a case, as it says it.
EXAMPLES: dict[int, str] = {
    401: "no valid key: send Authorization: Bearer nh_… (a key may be unknown, expired or revoked)",
    403: "role enterprise may not do this: it takes operator",
    404: "there is no enterprise 999999 in your scope",
    422: "1 value(s) break a rule: see errors, mend them and send again",
    429: "this key has used its 600 requests: go on in 1 s, at most 60 a second",
    500: "the service failed on this request: tell its operator the request id 3f9a41c07e52",
    503: f"the database does not answer; nothing was changed: try again in {RETRY_AFTER_S} s",
}


def _documented(status: int) -> dict[str, Any]:
    kind = BY_STATUS[status]
    summary = f"{kind.title_en} {kind.title_zh}. {(kind.__doc__ or '').strip()}"
    example: dict[str, Any] = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title_en,
        "status": status,
        "detail": EXAMPLES[status],
        "instance": "/api/v1/enterprises/999999",
        "request_id": "3f9a41c07e52",
    }
    if status == Invalid.status:
        breach = {
            "location": ["query", "district"],
            "code": "string_pattern_mismatch",
            "message": "must have the form ^\\d{6}$",
        }
        example |= {"instance": "/api/v1/ratios", "errors": [breach]}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": summary, "content": {MEDIA_TYPE: content}}


# What every route of the API may answer besides its own success.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: _documented(status) for status in (401, 403, 404, 422, 429, 500, 503)
}


def language_of(request: Request) -> str:
    """Return "zh" or "en" for the answer to a request."""
    return preferred_language(request.headers.get("accept-language"))


def body_of(request: Request, problem: Problem) -> dict[str, Any]:
    """Return the problem details of an error; `detail_zh` in its extras is the Chinese twin of its detail."""
    is_zh = language_of(request) == "zh"
    extra = dict(problem.extra)
    detail_zh = extra.pop("detail_zh", problem.detail)
    extra.pop("headers", None)
    if len(errors := extra.get("errors", [])) > MOST_ERRORS:
        extra |= {"errors_total": len(errors)}
    if errors:
        extra |= {"errors": [_in_language(item, is_zh=is_zh) for item in errors[:MOST_ERRORS]]}
    return {
        "type": f"/problems/{problem.slug}",
        "title": problem.title_zh if is_zh else problem.title_en,
        "status": problem.status,
        "detail": detail_zh if is_zh else problem.detail,
        "instance": request.url.path,
        "request_id": request.scope.get("state", {}).get("request_id", ""),
        **extra,
    }


def respond(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return the problem+json answer."""
    merged = {"Content-Language": language_of(request), **problem.extra.get("headers", {}), **(headers or {})}
    if problem.status == 401:
        merged.setdefault("WWW-Authenticate", 'Bearer realm="nenghao"')
    if problem.status == 503:
        merged.setdefault("Retry-After", str(RETRY_AFTER_S))
    content = json.dumps(body_of(request, problem), ensure_ascii=False, default=str)
    return Response(content, problem.status, merged, MEDIA_TYPE)


def from_validation(errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """Return the problem that lists every breach that pydantic found, with its location and without its input.

    `message_zh` is the Chinese twin of a message; whoever answers takes the one of the reader's language.
    """
    items = [
        {"location": list(e["loc"]), "code": e["type"], "message": worded(e, "en"), "message_zh": worded(e, "zh")}
        for e in errors
    ]
    count = len(items)
    return Invalid(
        f"{count} value(s) break a rule: see errors, mend them and send again",
        detail_zh=f"{count} 处不合规则：见 errors，改正后重发",
        errors=items,
    )


def _in_language(item: Mapping[str, Any], *, is_zh: bool) -> dict[str, Any]:
    """Return a breach with its one message."""
    told = {name: value for name, value in item.items() if name != "message_zh"}
    return told | {"message": item["message_zh"]} if is_zh and "message_zh" in item else told


def from_http(error: HTTPException) -> Problem:
    """Return the problem for an error that the framework raised itself."""
    sentences = {
        404: ("nothing is at this address: /docs lists what there is", "此地址没有内容：可用地址见 /docs"),
        405: ("this address does not take this method: see Allow", "此地址不支持该方法：见 Allow"),
        413: ("the body is over the limit: send it in parts", "请求体超过上限：请分次发送"),
    }
    phrase = HTTPStatus(error.status_code).phrase if error.status_code in set(HTTPStatus) else "error"
    detail, detail_zh = sentences.get(error.status_code, (str(error.detail or phrase), str(error.detail or phrase)))
    problem = BY_STATUS.get(error.status_code, Problem)(detail, detail_zh=detail_zh)
    problem.status = error.status_code
    return problem


def unavailable() -> Unavailable:
    """Return the problem for a database that does not answer or cannot serve one more."""
    return Unavailable(
        f"the database does not answer; nothing was changed: try again in {RETRY_AFTER_S} s",
        detail_zh=f"数据库暂无响应，未作任何更改：请 {RETRY_AFTER_S} 秒后重试",
    )


def unstorable() -> Invalid:
    """Return the problem for a value that passed validation but that the database cannot take (NUL, overflow)."""
    return Invalid(
        "a value is outside what the database can hold: check for NUL characters and for numbers too large",
        detail_zh="有数值超出数据库可存范围：请检查空字符与过大的数",
    )


Answer = Callable[[Request, Problem, Mapping[str, str] | None], Response]


def install(app: FastAPI, answer: Answer = respond) -> None:
    """Make every error of the application an answer of its own kind, problem+json unless told otherwise."""

    def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this type only
        return answer(request, error, None)

    def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return answer(request, from_validation(error.errors()), None)

    def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return answer(request, from_http(error), error.headers)

    def of_database(request: Request, _: Exception) -> Response:
        return answer(request, unavailable(), None)

    def of_data(request: Request, _: Exception) -> Response:
        return answer(request, unstorable(), None)

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(DataError, of_data)
    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, of_database)


def schemas() -> dict[str, Any]:
    """Return the JSON schemas of the problem body, for the components of the OpenAPI document."""
    schema = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs")
    return {"Problem": schema, **inner}


def catalogue() -> list[dict[str, Any]]:
    """Return every kind of problem, for the documents: its type leads to a page with this description."""
    return [
        {
            "type": f"/problems/{kind.slug}",
            "slug": kind.slug,
            "status": kind.status,
            "title": kind.title_en,
            "title_zh": kind.title_zh,
            "description": (kind.__doc__ or "").strip(),
            "description_zh": kind.doc_zh,
        }
        for kind in KINDS
    ]
