"""The database side of ingest and the only user of psycopg: `Store.commit` takes messages and gives their acks."""

from ingest.store.arrivals import Arrival, Outcome, StoreUnavailableError
from ingest.store.ladder import Store
from ingest.store.release import release_requested
from ingest.store.states import StateArrival

__all__ = ["Arrival", "Outcome", "StateArrival", "Store", "StoreUnavailableError", "release_requested"]
