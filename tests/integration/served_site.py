"""The seeded application served by a real uvicorn on loopback, for a browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from deploy.local.ports import LOOPBACK, free_port
from deploy.local.processes import wait_until

START_TIMEOUT_S = 10.0


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread of its own; the address of it."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        assert wait_until(lambda: server.started, START_TIMEOUT_S), "uvicorn did not start"
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
