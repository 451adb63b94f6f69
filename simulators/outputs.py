"""Production output of the simulated city, posted to the service's API day by day."""

import queue
import threading
from datetime import date
from typing import Any

import httpx2

from simulators.truth import City, date_of

BATCH_ROWS = 400
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
TIMEOUT_S = 15.0
# The history that a city reports may begin in a year that is closed by now; the service then asks why.
CLOSED_YEAR_REASON = "history of the simulated city"


def output_rows(city: City, from_day: int, to_day: int) -> list[dict[str, Any]]:
    """Return the rows of POST /api/v1/outputs for the business days [from_day, to_day), line by line."""
    return [
        {
            "line": {"uscc": line.uscc, "process_unit": line.process_unit, "code": line.code},
            "kind": line.output_kind,
            "grain": "day",
            "period": date_of(day).isoformat(),
            "value": format(city.output_of(line, day), "f"),
            "unit": line.output_unit,
        }
        for line in city.lines
        for day in range(from_day, to_day)
    ]


class OutputReporter:
    """Posts outputs in a thread of its own, so that a slow API never holds up the readings."""

    def __init__(self, city: City, url: str, key: str) -> None:
        self.reported_through: int | None = None  # first day not yet reported
        self.problem: str | None = None
        self._city, self._url, self._key = city, url.rstrip("/") + "/api/v1/outputs", key
        self._asked: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._asked_through: int | None = None
        self._is_stopped = threading.Event()
        # A daemon: an unanswered request must not keep the program from ending.
        threading.Thread(target=self._run, name="outputs", daemon=True).start()

    def ask_once(self, from_day: int, to_day: int) -> None:
        """Have the business days [from_day, to_day) posted, but for those asked for before."""
        start = from_day if self._asked_through is None else max(from_day, self._asked_through)
        if to_day > start:
            self._asked_through = to_day
            self._asked.put((start, to_day))

    def stop(self) -> None:
        """Stop retrying."""
        self._is_stopped.set()

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        with httpx2.Client(headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
            while not self._is_stopped.is_set():
                from_day, to_day = self._asked.get()
                rows = output_rows(self._city, from_day, to_day)
                for start in range(0, len(rows), BATCH_ROWS):
                    self._post(client, rows[start : start + BATCH_ROWS])
                self.reported_through = to_day

    def _post(self, client: httpx2.Client, rows: list[dict[str, Any]]) -> None:
        wait_s = FIRST_RETRY_S
        while not self._is_stopped.is_set():
            self.problem = _attempt(client, self._url, rows)
            if self.problem is None:
                return
            self._is_stopped.wait(wait_s)
            wait_s = min(wait_s * 2, LAST_RETRY_S)


def _attempt(client: httpx2.Client, url: str, rows: list[dict[str, Any]]) -> str | None:
    """Post once; return what was wrong, None when all rows were taken."""
    try:
        response = client.post(url, json={"outputs": rows, "closed_year_reason": CLOSED_YEAR_REASON})
    except httpx2.HTTPError as error:
        return f"outputs of {_span(rows)}: {url} does not answer ({error}); trying again"
    if response.is_success:
        return None
    return f"outputs of {_span(rows)}: {url} answers {response.status_code}: {response.text[:500]}; trying again"


def _span(rows: list[dict[str, Any]]) -> str:
    days = [date.fromisoformat(row["period"]) for row in rows]
    return f"{min(days)} to {max(days)}"
