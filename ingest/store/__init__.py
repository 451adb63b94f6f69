"""The database side of ingest and the only user of psycopg: `Store.commit` takes messages and gives their acks."""

from ingest.store.arrivals import Arrival, Outcome, StoreUnavailableError
from ingest.store.gaps import Request, find_gaps, take_requests
from ingest.store.ladder import Store
from ingest.store.release import release_requested
from ingest.store.states import StateArrival

__all__ = [
    "Arrival",
    "Outcome",
    "Request",
    "StateArrival",
    "Store",
    "StoreUnavailableError",
    "find_gaps",
    "release_requested",
    "take_requests",
]
