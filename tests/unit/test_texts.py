"""Any text and any file: kept or replaced, or refused in words; never a traceback, never read as something else."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seft_bench import files
from seft_bench.config.loading import parse_yaml, read_yaml
from seft_bench.errors import InputError
from seft_bench.formats.reading import read_answers
from seft_bench.inference.store import ResponseStore, request_key
from seft_bench.records import instruction_id, text_hash
from seft_bench.report.render.text import plain_text
from seft_bench.texts import TooDeepError, parse_json

HALF, WHOLE = "cut \ud83d here", "cut \N{REPLACEMENT CHARACTER} here"
ODD = "NUL \x00, right to left \u202e, BOM \ufeff, line \u2028, bell \x07, \U0001f600, e\u0301"
"""A text that is one: it is kept as it is, whatever its characters do on a terminal."""
DEEP = "[" * 200_000


@pytest.mark.parametrize("text", [ODD, "x" * 1_000_000, ""])
def test_texts_come_back_from_every_file_as_they_were(text: str, tmp_path: Path) -> None:
    row = {"turns": [text], text[:20]: 1}
    files.write_json(tmp_path / "a.json", row)
    files.write_jsonl(tmp_path / "a.jsonl", [row, row])
    files.append_rows(tmp_path / "a.jsonl", [row])
    assert files.read_json(tmp_path / "a.json") == row
    assert files.read_jsonl(tmp_path / "a.jsonl") == files.read_log(tmp_path / "a.jsonl") == [row] * 3
    with ResponseStore(tmp_path / "store.sqlite") as store:
        store.put("key", row)
        assert store.get("key") == row


def test_half_a_pair_is_one_and_the_same_replacement_everywhere(tmp_path: Path) -> None:
    assert text_hash(HALF) == text_hash(WHOLE)
    assert instruction_id(HALF) == instruction_id(WHOLE)
    assert files.sha256_json({HALF: HALF}) == files.sha256_json({WHOLE: WHOLE})
    asked = [request_key("s", "m", [{"role": "user", "content": text}], {}, "1") for text in (HALF, WHOLE)]
    assert asked[0] == asked[1]
    for write in (files.write_jsonl, files.append_rows):
        write(tmp_path / "a.jsonl", [{"text": HALF}])
    assert files.read_log(tmp_path / "a.jsonl") == [{"text": WHOLE}] * 2
    files.write_json(tmp_path / "a.json", {"text": HALF})
    assert files.read_json(tmp_path / "a.json") == {"text": WHOLE}
    with ResponseStore(tmp_path / "store.sqlite") as store:
        store.put("key", {"text": HALF})
        assert store.get("key") == {"text": WHOLE}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_half_a_pair_in_a_file_is_replaced_and_said_once(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"{number}", "output": HALF, "generator": "m"} for number in range(3)]
    whole = json.dumps(rows) if name == "a.json" else "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(whole)
    for _ in range(2):
        assert [answer.turns for answer in read_answers(tmp_path / name)] == [(WHOLE,)] * 3
    assert capsys.readouterr().err.count("halves of surrogate pairs") == 1


def test_a_whole_pair_is_no_half(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(["\U0001f600 \N{REPLACEMENT CHARACTER}"]))
    assert files.read_json(tmp_path / "a.json") == ["\U0001f600 \N{REPLACEMENT CHARACTER}"]
    assert not capsys.readouterr().err


def test_line_ends_marks_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "x"}\r\n\r\n{"a": "y"}\r')
    assert files.read_jsonl(path) == [{"a": "x"}, {"a": "y"}]
    path.write_bytes(b'{"a": "x"}\n{"a": "\xff"}\n')
    with pytest.raises(InputError, match="not UTF-8"):
        files.read_jsonl(path)
    assert plain_text("\u202eevil\x1b[31m") == r"\u202eevil\x1b[31m"


# What is no file, or no JSON


READERS: dict[str, Callable[[Path], object]] = {
    "json": files.read_json,
    "rows": files.read_jsonl,
    "log": files.read_log,
    "yaml": read_yaml,
    "answers": read_answers,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text",
    [
        *(
            DEEP,
            '{"a":' * 100 + "1" + "}" * 100,
            '{"a": 1, "a": 2}',
            '{"a": [1, {"b": 1, "b": 2}]}',
            '{"a"',
            "nul \x00",
        ),
        *('"', "[", "\\"),
    ],
)
def test_odd_content_is_one_message(reader: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "odd").write_text(text + "\n")
    with pytest.raises(InputError, match="odd"):
        READERS[reader](tmp_path / "odd")


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_on_a_disk_is_refused_at_once(reader: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    started = time.monotonic()
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / ("n" * 300), cut, Path("a\0b")):
        if reader == "log" and path in (tmp_path / ("n" * 300), Path("a\0b")):
            continue  # a log that is not there has no rows yet
        with pytest.raises(InputError):
            READERS[reader](path)
    assert time.monotonic() - started < 5


def test_numbers_beyond_all_figures(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ' + "9" * 5000 + ', "b": -' + "9" * 400 + ', "c": ' + "9" * 40 + "}")
    assert files.read_json(tmp_path / "a.json") == {"a": float("inf"), "b": float("-inf"), "c": int("9" * 40)}


@pytest.mark.parametrize(
    "text",
    [
        *("a: &a [*a]", "a: 1\nb: 2\na: 3", "a: " + "1" * 5000, "a: 2020-13-40", "[" * 5000, "a: !!python/name:os.x"),
        "a: &a [x]\n" + "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}' if n else '*a'] * 9)}]\n" for n in range(12)),
    ],
)
def test_yaml_that_is_a_trap_is_one_message(text: str, tmp_path: Path) -> None:
    path = tmp_path / "trap.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"trap\.yaml is not valid YAML"):
        read_yaml(path)


def test_yaml_may_go_on_sharing_what_it_names() -> None:
    assert parse_yaml("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}\ne: *a") == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 3, "c": 2},
        "e": {"b": 1, "c": 2},
    }


def test_readers_that_refuse_halves_are_given_them() -> None:
    assert parse_json('["\\ud83d"]', mend=False) == ["\ud83d"]
    with pytest.raises(json.JSONDecodeError, match=str(TooDeepError())):
        parse_json(DEEP)
