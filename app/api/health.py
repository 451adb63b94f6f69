"""Health and metrics of this process, for whoever runs it; no key needed, nothing of an enterprise shown."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError

from app.api.shapes import Answer
from app.db import migrations, reference

router = APIRouter(tags=["health"])


class Live(Answer):
    """The process answers."""

    status: str = Field(examples=["live"])


class Ready(Answer):
    """Whether the process can do its work, and what it lacks."""

    status: str = Field(description="ready, or not_ready with 503", examples=["ready"])
    missing: list[str] = Field(
        examples=[["the database is at revision 0004, this service needs 0005: run nenghao migrate"]]
    )


@router.get("/health/live", response_model=Live, summary="Is the process alive 存活")
def get_live() -> dict[str, str]:
    """Touches nothing else: a database that is away is no reason to restart this process."""
    return {"status": "live"}


@router.get("/health/ready", response_model=Ready, responses={503: {"model": Ready}}, summary="Can it work 就绪")
def get_ready(request: Request, response: Response) -> dict[str, str | list[str]]:
    """Database reachable, migrated to the revision that this service was built for, official tables loaded."""
    missing = []
    try:
        with request.app.state.engine.connect() as connection:
            lack = migrations.behind(connection) or reference.lacking(connection)
    except SQLAlchemyError:
        lack = "the database does not answer: check NENGHAO_DATABASE_URL and that the server runs"
    if lack:
        missing.append(lack)
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return {"status": "not_ready" if missing else "ready", "missing": missing}


@router.get("/metrics", response_class=Response, include_in_schema=False)
def get_metrics() -> Response:
    """Prometheus metrics of this process."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
