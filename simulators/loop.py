"""One thread for many gateways: a selector loop over their sockets. Idle gateways cost nothing."""

import selectors
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial

from simulators.gateway import Gateway
from simulators.store import Store

MISC_S = 1.0  # how often keepalives are looked after


class Loop:
    """Runs gateways that share one store. Commits what acks settled once per turn."""

    def __init__(self, store: Store, gateways: list[Gateway]) -> None:
        self.store, self.gateways = store, gateways
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, tuple[socket.socket, int]] = {}
        self._misc_at_s = 0.0
        for gateway in gateways:
            gateway.on_socket_close = partial(self._forget, gateway)

    def turn(self, timeout_s: float) -> None:
        """Wait for events for at most `timeout_s`, handle them, send what may be sent."""
        now_s = time.monotonic()
        for gateway in self.gateways:
            if gateway.client is None and now_s >= gateway.reconnect_at_s:
                gateway.connect(now_s)
            if gateway.is_connected:
                gateway.pump(now_s)
            self._watch(gateway)
        due_s = min((gateway.due_at_s() for gateway in self.gateways), default=now_s + timeout_s)
        for key, events in self._selector.select(max(0.0, min(timeout_s, due_s - now_s))):
            _handle(key.data, events)
        if now_s >= self._misc_at_s:
            self._misc_at_s = now_s + MISC_S
            for gateway in self.gateways:
                if gateway.client is not None:
                    gateway.client.loop_misc()
        self.store.commit()

    def run_until(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        """Turn until `is_done()` or the time is over; return what `is_done()` said last."""
        end_s = time.monotonic() + timeout_s
        while not is_done():
            if time.monotonic() >= end_s:
                return is_done()
            self.turn(0.1)
        return True

    def close(self) -> None:
        """Disconnect every gateway in good order."""
        for gateway in self.gateways:
            gateway.say_goodbye()
        self.store.commit()
        self._selector.close()

    def _watch(self, gateway: Gateway) -> None:
        """Bring the selector in line with the gateway's socket and its wish to write."""
        client = gateway.client
        connection = client.socket() if client is not None else None
        if client is None or not isinstance(connection, socket.socket):
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.want_write() else 0)
        known = self._watched.get(gateway.code)
        if known is None:
            self._selector.register(connection, events, gateway)
        elif known[1] != events:
            self._selector.modify(connection, events, gateway)
        self._watched[gateway.code] = (connection, events)

    def _forget(self, gateway: Gateway, connection: socket.socket) -> None:
        """Take a socket out of the selector before it closes: its number may be given to the next one at once."""
        if self._watched.pop(gateway.code, None) is not None:
            self._selector.unregister(connection)


def _handle(gateway: Gateway, events: int) -> None:
    while gateway.client is not None and events & selectors.EVENT_READ:
        gateway.client.loop_read()
        connection = gateway.client.socket() if gateway.client is not None else None
        if not (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            break  # of what TLS has deciphered already the selector knows nothing
    if gateway.client is not None and events & selectors.EVENT_WRITE:
        gateway.client.loop_write()
