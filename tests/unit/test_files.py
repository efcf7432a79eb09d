"""Files of record: whole or not there, appended in whole lines, locked between processes, and errors that name the
line.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import platform
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seft_bench import files
from seft_bench.errors import InputError
from tests.integration.cli import REPOSITORY


def message(function: object, *arguments: object, **named: object) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **named)  # type: ignore[operator]
    return str(caught.value)


def test_atomic_replace_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"b": 1, "a": "é"})
    assert path.read_text() == '{\n "a": "é",\n "b": 1\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"c": 2})
    assert json.loads(path.read_text()) == {"a": "é", "b": 1}
    assert [child.name for child in path.parent.iterdir()] == ["a.json"]


def test_rows_that_json_cannot_hold_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_jsonl(tmp_path / "a.jsonl", [{"x": 1}, {"x": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_append_cuts_off_what_a_kill_left(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    files.append_rows(path, [{"n": 1}, {"n": 2}])
    with path.open("a") as log:
        log.write('{"n": 3, "text": "cut he')
    assert files.read_log(path) == [{"n": 1}, {"n": 2}]
    files.append_rows(path, [{"n": 4}])
    assert files.read_log(path) == [{"n": 1}, {"n": 2}, {"n": 4}]
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n{"n": 4}\n'


@pytest.mark.parametrize("left", ["", "{", '{"n": 1'])
def test_append_to_what_is_only_a_half_line(tmp_path: Path, left: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(left)
    files.append_rows(path, [{"n": 1}])
    assert path.read_text() == '{"n": 1}\n'


def test_a_cut_may_split_a_character(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes('{"n": 1}\n{"text": "é'.encode()[:-1])
    assert files.read_log(path) == [{"n": 1}]


def test_a_broken_line_before_the_end_is_not_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"n": 1}\n{oops}\n{"n": 3}\n')
    assert "line 2: not valid JSON" in message(files.read_log, path)


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert files.read_log(tmp_path / "none.jsonl") == []


def test_line_separators_inside_texts_do_not_end_a_row(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\x85c\x0bd\r\ne"}, {"text": "\u2029"}]
    path = tmp_path / "a.jsonl"
    files.write_jsonl(path, rows)
    assert files.read_jsonl(path) == rows
    assert files.read_log(path) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}\n\n{"a": \n', "line 3: not valid JSON"),
        ('{"a": 1}\n[1]\n', "line 2: a JSON object is expected, this is list"),
        ('{"a": 1}\n{"b": 1}\n', "line 2: key a is missing; the row has b"),
        ("", "has no rows"),
        ("\n \n", "has no rows"),
    ],
)
def test_bad_rows_are_named_by_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    said = message(files.read_jsonl, path, "rows of mine", required=["a"])
    assert expected in said
    assert str(path) in said
    assert said.startswith("rows of mine")


def test_windows_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\r\n{"a": 2}')
    assert files.read_jsonl(path) == [{"a": 1}, {"a": 2}]


def test_missing_files_say_what_is_there(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"f{number:02d}").touch()
    said = message(files.read_text, tmp_path / "gone", "recipe")
    assert said.startswith(f"recipe not found: {tmp_path / 'gone'}")
    assert "f00, f01" in said
    assert said.endswith("and 3 more")
    assert "does not exist either" in message(files.read_text, tmp_path / "no" / "gone")
    assert "this is a folder" in message(files.read_text, tmp_path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ok \xff")
    assert "not UTF-8 text" in message(files.read_text, tmp_path / "a")
    (tmp_path / "b.json").write_text('{"a": 1,\n oops}')
    assert "line 2" in message(files.read_json, tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(b'{"a": "\xff"}')
    assert "not UTF-8 text" in message(files.read_json, tmp_path / "c.json")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, -2.5e-7, 12345678901234567890123, 0.1, null, true], "é": "\\ud83d\\ude00 \\u0000"}',
        "[-Infinity, Infinity, 1e400, -0, -0.0]",
        "[" * 50 + "]" * 50,
        '\r\n {"a": 1,\r\n "b": 2}\r\n',
    ],
    ids=[
        "all kinds",
        "numbers that JSON has not",
        "deep",
        "windows line ends",
    ],
)
def test_json_is_read_as_the_standard_library_reads_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    read, expected = files.read_json(path), json.loads(text)
    assert repr(read) == repr(expected)  # repr tells -0.0 from 0, and floats by every digit


def test_numbers_that_are_none_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"preference": NaN}')
    assert math.isnan(files.read_json(tmp_path / "a.json")["preference"])


def test_hashes_see_content_only(tmp_path: Path) -> None:
    assert files.sha256_json({"a": 1, "b": [1, 2]}) == files.sha256_json({"b": [1, 2], "a": 1})
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": "1"})
    (tmp_path / "empty").touch()
    assert (
        files.sha256_file(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )  # SHA-256 of nothing


def test_a_checkpoints_fingerprint(tmp_path: Path) -> None:
    """Weights, configuration and tokenizer count; where it lies, its manifest and its readme do not."""
    prints = []
    for name, weights, extra in (
        ("a", b"w", ""),
        ("b", b"w", "README.md"),
        ("c", b"w", "manifest.json"),
        ("d", b"x", ""),
        ("e", b"w", "chat_template.jinja"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        if extra:
            (folder / extra).write_text("text")
        prints.append(files.sha256_folder(folder))
    assert prints[0] == prints[1] == prints[2]
    assert len(set(prints)) == 3


def test_appends_of_many_processes_are_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = (
        "import sys; from pathlib import Path; from seft_bench.files import append_rows\n"
        "for n in range(40): append_rows(Path(sys.argv[1]), [{'who': sys.argv[2], 'n': n, 'text': 'x' * 5000}])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)], cwd=REPOSITORY) for who in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    rows = files.read_jsonl(path)
    for who in "012":
        assert [row["n"] for row in rows if row["who"] == who] == list(range(40))


def test_a_lock_is_freed_by_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from seft_bench.files import locked\nwith locked(Path(sys.argv[1])): "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    asking = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", asking, str(tmp_path / "lock")]
    assert b"BlockingIOError" in subprocess.run(command, capture_output=True).stderr
    holder.kill()
    holder.wait()
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "stored",
    [b"\xef\xbb\xbfa\r\nb", gzip.compress(b"a\nb"), gzip.compress(b"\xef\xbb\xbfa\rb")],
    ids=["byte order mark", "gzip", "both"],
)
def test_text_is_read_as_other_programs_write_it(tmp_path: Path, stored: bytes) -> None:
    path = tmp_path / "rows.json"  # gzip is told by the contents too
    path.write_bytes(stored)
    assert files.read_text(path) == "a\nb"


def test_gzip_that_is_cut_is_the_users_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"a" * 1000)[:-9])
    with pytest.raises(InputError, match="not gzipped UTF-8 text"):
        files.read_text(path, "file of answers")


def test_who_waits_for_a_lock_is_told_once_by_whom_it_is_held(tmp_path: Path) -> None:
    waited, holders = threading.Event(), list[str]()

    def told(holder: str) -> None:
        holders.append(holder)
        waited.set()

    def wait() -> None:
        with files.locked(tmp_path / "lock", told):
            pass

    with files.locked(tmp_path / "lock", lambda holder: pytest.fail("nobody holds it")):
        other = threading.Thread(target=wait)
        other.start()
        assert waited.wait(60)
    other.join(60)
    assert not other.is_alive()
    [holder] = holders
    mine = f"process {os.getpid()} on {platform.node()}, since "
    assert re.fullmatch(re.escape(mine) + r"20\d\d-\d\d-\d\d [\d:]{8}[+-]\d\d:\d\d", holder)


def test_a_folder_is_hashed_anew_when_a_file_in_it_changed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    first = files.sha256_folder_once(tmp_path)
    assert first == files.sha256_folder_once(tmp_path) == files.sha256_folder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    os.utime(tmp_path / "config.json", ns=(1, 1))  # of another time, however coarse the file system's clock
    assert files.sha256_folder_once(tmp_path) == files.sha256_folder(tmp_path) != first


def test_no_clock_decides_whether_a_file_is_the_one_that_was_read(tmp_path: Path) -> None:
    """A clock that went back, or a tool that sets times, makes a changed file look as old and as long as before."""
    path = tmp_path / "weights.safetensors"
    path.write_text("first")
    reader = files.read_once(lambda read: read.read_text())
    before = reader(path), files.sha256_folder_once(tmp_path)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text("other")
    os.utime(path, ns=times)
    after = reader(path), files.sha256_folder_once(tmp_path)
    assert (before[0], after[0]) == ("first", "other")
    assert before[1] != after[1]
