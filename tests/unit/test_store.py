"""The response store: what is put stays, damage is set aside and said, what cannot be used is the user's error."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import pytest

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.inference.store import ResponseStore, request_key

MESSAGES = [{"role": "user", "content": "Grade this."}]
BASE = {
    "server": "https://host/v1",
    "model": "judge",
    "messages": MESSAGES,
    "sampling": {"temperature": 0.0},
    "template_version": "v1",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "store.sqlite"


def fill(path: Path, count: int) -> None:
    with ResponseStore(path) as store:
        for number in range(count):
            store.put(f"key-{number:04d}", {"body": {"text": "x" * 500, "number": number}})


def test_what_is_put_is_there_in_another_process_s_eyes(path: Path) -> None:
    writer, reader = ResponseStore(path), ResponseStore(path)
    assert reader.get("a") is None
    writer.put("a", {"body": {"text": "Räting [[7]]"}})
    assert reader.get("a") == {"body": {"text": "Räting [[7]]"}}  # committed at once, with the writer still open
    writer.put("a", {"body": {"text": "later"}})
    assert reader.get("a") == {"body": {"text": "Räting [[7]]"}}  # the first one stays
    assert reader.stats()["responses"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"server": "https://other/v1"},
        {"model": "judge-2"},
        {"messages": [{"role": "user", "content": "Grade that."}]},
        {"sampling": {"temperature": 1.0}},
        {"template_version": "v2"},
        {"sample_index": 1},
        {"epoch": "2026-05"},
        {"weights_fingerprint": "abc"},
    ],
)
def test_whatever_can_change_a_response_changes_its_key(change: dict[str, object]) -> None:
    assert request_key(**{**BASE, **change}) != request_key(**BASE)  # type: ignore[arg-type]


def test_the_order_of_settings_and_a_slash_do_not_change_the_key() -> None:
    one = request_key(**{**BASE, "sampling": {"temperature": 0.0, "max_tokens": 5}})  # type: ignore[arg-type]
    two = request_key(**{**BASE, "server": "https://host/v1/", "sampling": {"max_tokens": 5, "temperature": 0.0}})  # type: ignore[arg-type]
    assert one == two


def test_a_file_cut_in_half_is_said_set_aside_and_rebuilt(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(path, 400)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING), ResponseStore(path) as store:
        kept = store.stats()["responses"]
        assert 0 < kept < 400  # what could be read was carried over
        assert store.get("key-0000") == {"body": {"text": "x" * 500, "number": 0}}
        store.put("new", {"body": {}})
        assert "set aside as store.sqlite.damaged-1" in store.notes[0]
        assert f"{kept} responses carried over" in caplog.text
    assert path.with_name("store.sqlite.damaged-1").exists()
    with ResponseStore(path) as again:
        assert again.get("new") == {"body": {}}
        assert again.notes == []


def test_no_database_at_all_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    content = b"these are not the bytes of a database " * 200
    path.write_bytes(content)
    with pytest.raises(InputError, match="not one response could be saved"):
        ResponseStore(path)
    assert path.read_bytes() == content
    assert not list(path.parent.glob("*.damaged-*"))


def test_what_another_process_has_rebuilt_is_not_rebuilt_again(path: Path) -> None:
    fill(path, 400)
    late = ResponseStore(path)
    path.with_name("store.sqlite-wal").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with ResponseStore(path) as early:
        kept = early.stats()["responses"]
        early.put("new", {"body": {}})
        late._rebuild("as found through a connection to the old file")
        assert late.get("new") == {"body": {}}
        assert late.stats()["responses"] == kept + 1
    assert not path.with_name("store.sqlite.damaged-2").exists()


def test_damage_inside_the_file_is_found_when_it_is_read(path: Path) -> None:
    fill(path, 400)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 20 * 4096] = b"\xff" * (20 * 4096)
    path.write_bytes(bytes(data))
    with ResponseStore(path) as store:
        found = [store.get(f"key-{number:04d}") for number in range(400)]
        store.put("key-0399", {"body": {"text": "x" * 500, "number": 399}})
    kept = [value for value in found if value is not None]
    assert 0 < len(kept) < 400
    assert all(value["body"]["text"] == "x" * 500 for value in kept)
    assert store.notes


def test_an_unfinished_log_is_no_damage(path: Path, tmp_path: Path) -> None:
    """A copy made while the writer is open is what kill -9 leaves: the main file is behind, the log has the rest."""
    store = ResponseStore(path)
    for number in range(50):
        store.put(str(number), {"body": {"number": number}})
    left = tmp_path / "left" / "store.sqlite"
    left.parent.mkdir()
    for suffix in ("", "-wal"):
        left.with_name(left.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    with ResponseStore(left) as after_kill:
        assert after_kill.stats()["responses"] == 50
        assert after_kill.notes == []


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a folder"):
        ResponseStore(tmp_path)


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="SEFT_BENCH_STORE"):
        ResponseStore(tmp_path / "file" / "store.sqlite")


def test_a_foreign_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE responses (something TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="cannot be used"):
        ResponseStore(path)


def test_a_full_disk_keeps_what_is_there(path: Path) -> None:
    store = ResponseStore(path)
    store.put("a", {"body": {"text": "kept"}})
    assert store._connection is not None
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(ServiceUnavailableError, match="Free some disk space"):
        store.put("b", {"body": {"text": "x" * 30_000}})
    assert store.get("a") == {"body": {"text": "kept"}}


def test_a_pipe_and_a_device_are_no_store(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="a pipe or a device"):
            ResponseStore(place)
