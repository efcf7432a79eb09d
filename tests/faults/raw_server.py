"""A server on this machine that sends bytes as they are written down, which no well-made server would."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

Sent = Callable[[], Iterable[bytes]]


class RawServer:
    """Answers each connection's one request with the bytes of `sent`, and closes it.

    Attributes:
        requests: as they came, headers and body.
        bytes_taken: how much of what it sent was taken.
    """

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.requests: list[bytes] = []
        self.bytes_taken = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def work(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.requests.append(_read_request(connection))
            for part in self.sent():
                connection.sendall(part)
                self.bytes_taken += len(part)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def response(body: bytes, status: str = "200 OK", **headers: str) -> Sent:
    """A whole response, with its length."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    return lambda: [head.encode("latin-1") + body]


@contextmanager
def sending(sent: Sent) -> Iterator[RawServer]:
    """A raw server in threads of its own, at `server.url`."""
    server = RawServer(sent)
    threading.Thread(target=server.work, daemon=True).start()
    try:
        yield server
    finally:
        server.close()
