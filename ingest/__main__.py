"""`nenghao-ingest`: from the broker into the database, until SIGTERM or Ctrl-C."""

import os
import signal
import sys
import threading

from app import telemetry
from ingest import settings as settings_module
from ingest.service import Service

EXIT_THREAD_DIED = 70


def main() -> None:
    """Run one ingest process; exits 0 after a clean stop."""
    settings = settings_module.load()
    log = telemetry.configure_logging("ingest", settings.log_format)
    telemetry.serve_metrics(settings.ingest_metrics_port)

    def die(args: threading.ExceptHookArgs) -> None:
        """A thread of the broker client that died would leave a process that looks alive; start anew instead."""
        log.error("a thread died", thread=str(args.thread), error=repr(args.exc_value))
        os._exit(EXIT_THREAD_DIED)

    threading.excepthook = die
    service = Service(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.run()
    sys.exit(0)


if __name__ == "__main__":
    main()
