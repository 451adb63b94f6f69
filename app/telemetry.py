"""Logs and metrics of every process. No metric label carries a gateway, a point or an enterprise."""

import logging
import sys

import structlog
from prometheus_client import start_http_server


def configure_logging(process: str, log_format: str = "text") -> structlog.stdlib.BoundLogger:
    """Set up structured logs on standard error and return the process's logger."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(process=process)
    return logger


def serve_metrics(port: int) -> None:
    """Serve this process's metrics on the loopback port; 0 turns it off."""
    if port:
        start_http_server(port, addr="127.0.0.1")
