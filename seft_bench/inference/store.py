"""The response store: replies that were paid for are data, not cache.

SQLite in WAL mode. `synchronous=NORMAL`: each response is committed the moment that it arrives, and a commit outlives
kill -9 because the system already holds it; FULL would add one disk flush a response (milliseconds, in the judge
client's event loop) to outlive a power cut as well, which at worst costs the last responses and never the file.
A shared file system is no place for it: its locks cannot be trusted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.files import locked, sha256_json
from seft_bench.records import Message
from seft_bench.texts import without_lone_surrogates

_LOG = logging.getLogger(__name__)
_SCHEMA = "CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, response TEXT NOT NULL, stored_at TEXT NOT NULL)"
_WAIT_FOR_WRITER_SECONDS = 60.0

ResultT = TypeVar("ResultT")


def request_key(
    server: str,
    model: str,
    messages: Sequence[Message],
    sampling: Mapping[str, Any],
    template_version: str,
    sample_index: int = 0,
    epoch: str = "",
    weights_fingerprint: str = "",
) -> str:
    """Hash a complete request: whatever can change the response is in it.

    Args:
        sampling: temperature, max_tokens, seed, log-probabilities asked for.
        sample_index: which of several samples of one request.
        epoch: names a repetition on purpose (a canary asks again).
        weights_fingerprint: for local servers, where one model name serves different weights over time.
    """
    request = {
        "server": server.rstrip("/"),
        "model": model,
        "messages": list(messages),
        "sampling": dict(sampling),
        "template_version": template_version,
        "sample_index": sample_index,
        "epoch": epoch,
        "weights_fingerprint": weights_fingerprint,
    }
    return sha256_json(request)


def store_path(folder: Path) -> Path:
    """Return the file of the responses: the one that SEFT_BENCH_STORE names, else one in `folder`."""
    return Path(os.environ.get("SEFT_BENCH_STORE") or folder / "store.sqlite")


class ResponseStore:
    """Responses by request key, shared by any number of processes of one machine.

    A damaged file is set aside under another name, what can still be read is carried over, and `notes` says so.

    Raises:
        InputError: the file cannot be opened, or not one response in it can be read; it is left as it is.
        ServiceUnavailableError: a response cannot be written (disk full).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._open()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the stored response; None where there is none, or a row that is no response."""
        query = "SELECT response FROM responses WHERE key = ?"
        row = self._guarded(lambda connection: connection.execute(query, (key,)).fetchone())
        try:
            found = json.loads(row[0]) if row else None
        except (ValueError, TypeError, RecursionError):
            found = None
        if row and not isinstance(found, dict):
            self._set_row_aside(key)
        return found if isinstance(found, dict) else None

    def _set_row_aside(self, key: str) -> None:
        """Rename the key of a row that cannot be read, so that its request can be asked and kept again."""
        update = "UPDATE OR REPLACE responses SET key = ? WHERE key = ?"
        self._guarded(lambda connection: connection.execute(update, (f"unreadable:{key}", key)))
        note = f"response store {self.path} holds a row that cannot be read: its request is asked again"
        if note not in self.notes:
            self.notes.append(note)
            _LOG.warning(note)

    def put(self, key: str, response: Mapping[str, Any]) -> None:
        """Keep a good response; it is committed when this returns. The first one of a key stays."""
        text = without_lone_surrogates(json.dumps(response, ensure_ascii=False))
        values = (key, text, datetime.now(UTC).isoformat(timespec="seconds"))
        self._guarded(lambda connection: connection.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?)", values))

    def forget(self, key: str) -> None:
        """Take out a response that turned out to be none (an error that was once taken for an answer)."""
        self._guarded(lambda connection: connection.execute("DELETE FROM responses WHERE key = ?", (key,)))

    def stats(self) -> dict[str, int]:
        """Return the number of responses, and the bytes of the file with its write-ahead log."""
        (count,) = self._guarded(lambda connection: connection.execute("SELECT count(*) FROM responses").fetchone())
        size = sum(part.stat().st_size for part in _parts(self.path) if part.exists())
        return {"responses": int(count), "bytes": size}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        _check_openable(self.path)
        with locked(self.path.with_name(self.path.name + ".lock")):
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise _unusable(self.path, error) from None
                self._rebuild(str(error))

    def _guarded(self, action: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run `action`; where the file turns out to be damaged, rebuild it and run `action` once more."""
        if self._connection is None:
            raise InputError(f"the response store is closed: {self.path}")
        try:
            return action(self._connection)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise _unusable(self.path, error) from None
            with locked(self.path.with_name(self.path.name + ".lock")):
                self._rebuild(str(error))
        return action(self._connection)

    def _connect(self) -> sqlite3.Connection:
        self._connection = _connect(self.path)
        self._inode = self.path.stat().st_ino
        return self._connection

    def _rebuild(self, reason: str) -> None:
        """Set the damaged file aside and carry over the rows that can still be read."""
        self.close()
        if self._inode and self.path.exists() and self.path.stat().st_ino != self._inode:
            self._connect()  # another process was faster
            return
        aside = _set_aside(self.path)
        rows = list(_readable_rows(aside))
        if not rows:
            _move(aside, self.path)
            raise _unreadable(self.path, reason)
        connection = self._connect()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR IGNORE INTO responses VALUES (?, ?, ?)", rows)
        kept = self.stats()["responses"]
        note = (
            f"response store {self.path} was damaged ({reason}): set aside as {aside.name}, {kept} responses carried "
            "over, the rest will be asked for again"
        )
        self.notes.append(note)
        _LOG.warning(note)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_FOR_WRITER_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(_SCHEMA)
        connection.execute(
            "SELECT key, response, stored_at FROM responses LIMIT 0"
        )  # another program's table has others
    except BaseException:
        connection.close()
        raise
    return connection


def _check_openable(path: Path) -> None:
    """Raise in words what sqlite would report as "unable to open database file"."""
    if path.is_dir():
        raise InputError(
            f"the response store must be a file, this is a folder: {path}. Name another file with SEFT_BENCH_STORE."
        )
    if path.exists() and not path.is_file():
        raise InputError(
            f"the response store must be a file, this is a pipe or a device: {path}. Name another file with "
            "SEFT_BENCH_STORE."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder of the response store cannot be made: {path.parent} ({error.strerror}). Name another file "
            "with SEFT_BENCH_STORE."
        ) from None
    target = path if path.exists() else path.parent
    if not os.access(target, os.R_OK | os.W_OK):
        raise InputError(
            f"the response store cannot be read and written, permission denied: {target}. Change its rights, or name "
            "another with SEFT_BENCH_STORE."
        )


def _unusable(path: Path, error: sqlite3.DatabaseError) -> InputError | ServiceUnavailableError:
    if "full" in str(error) or "disk I/O" in str(error):
        return ServiceUnavailableError(
            f"the response store cannot be written: {path} ({error}). Free some disk space; the same command goes on."
        )
    return InputError(
        f"the response store cannot be used: {path} ({error}). Move it away, or name another file with "
        "SEFT_BENCH_STORE."
    )


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"the response store cannot be read: {path} ({reason}), not one response could be saved out of it. It is left "
        "as it is. Move it away to start a new one (what was paid for is asked again), put a copy in its place, or "
        "name another with SEFT_BENCH_STORE."
    )


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _parts(path: Path) -> tuple[Path, Path, Path]:
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _set_aside(path: Path) -> Path:
    """Rename the file and its write-ahead log together, so that what the log holds can still be read."""
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}.damaged-{n}").exists())
    aside = path.with_name(f"{path.name}.damaged-{number}")
    _move(path, aside)
    return aside


def _move(path: Path, target: Path) -> None:
    for part, renamed in zip(_parts(path), _parts(target), strict=True):
        with contextlib.suppress(FileNotFoundError):
            part.rename(renamed)


def _readable_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield rows of a damaged file, from its front and then from its back, each up to the damage."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA writable_schema=ON")  # else sqlite refuses to open a file that was cut short
            query = f"SELECT key, response, stored_at FROM responses ORDER BY rowid {order}"
            for key, response, stored_at in connection.execute(query):
                if _is_json(response):
                    yield key, response, stored_at


def _is_json(text: object) -> bool:
    try:
        json.loads(str(text))
    except (ValueError, RecursionError):
        return False
    return True
