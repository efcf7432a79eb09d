"""Bad days of the machine: streams that close, disks that refuse, names too long. One message, and no traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seft_bench import files
from seft_bench.records import Answer, to_row
from seft_bench.suites import load_suite
from tests.integration.cli import Seen, good, seft_bench
from tests.small_matrix import ENVIRONMENT

LONG = "山" * 100
"""Letters of three bytes each: 100 of them are a name that no file can have."""


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `seft-bench` is the program."""
    program = f'seft-bench() {{ "{sys.executable}" -m seft_bench.cli.main "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", program + line], env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a result."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        good(seft_bench("eval", "control:copy-prompt", "--suite", "tiny-mtbench"))
    return folder


# Streams


def test_a_reader_that_has_seen_enough_is_no_failure(evaluated: Path) -> None:
    """As for any tool of Unix; the command's own status stays, also where much more is to be written."""
    table = f'{{ sleep 0.2; seft-bench leaderboard --results "{evaluated}/results"; echo "status $?" >&2; }}'
    seen = shell(f"{table} | true")
    assert "status 0" in seen.stderr
    assert "Traceback" not in seen.stderr
    seen = shell(
        '{ seft-bench check --help; seft-bench eval nothing; echo "status $?" >&2; } 2>&1 >/dev/null | head -3'
    )
    assert "Traceback" not in seen.stdout


@pytest.mark.parametrize(("sink", "status"), [(">&-", 2), ("> /dev/full", 6)])
def test_output_that_is_lost_is_an_error(evaluated: Path, sink: str, status: int) -> None:
    seen = shell(f'cd "{evaluated}"; seft-bench leaderboard {sink}; echo $?')
    assert seen.stdout.split() == [str(status)]
    assert "output" in seen.stderr
    assert len(seen.stderr.splitlines()) == 1, seen.stderr


def test_notes_that_nobody_reads_do_not_become_data(evaluated: Path) -> None:
    seen = shell(f'cd "{evaluated}"; seft-bench leaderboard --format json 2>&-')
    assert seen.returncode == 0
    json.loads(seen.stdout)


# What the machine refuses


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every file that is written whole be refused, as on a disk that is read-only or full."""

    def refuse(path: Path, data: str | bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files, "write_atomic", refuse)
    for name, module in list(sys.modules.items()):
        if name.startswith("seft_bench") and hasattr(module, "write_atomic"):
            monkeypatch.setattr(module, "write_atomic", refuse)


COMMANDS = {
    "train": ("train", "method=sft", "settings.start.max_steps=2", "--out", "run"),
    "eval": ("eval", "control:copy-prompt", "--suite", "tiny-mtbench"),
}


@pytest.mark.parametrize(("number", "status"), [(errno.EROFS, 2), (errno.EACCES, 2), (errno.ENOSPC, 6), (errno.EIO, 6)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_refuses_is_one_message(
    desk: Path, monkeypatch: pytest.MonkeyPatch, command: str, number: int, status: int
) -> None:
    refusing(monkeypatch, number)
    seen = good(seft_bench(*COMMANDS[command]), status)
    [line] = [line for line in seen.err.splitlines() if line.startswith("error: ")]
    assert os.strerror(number) in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "method=sft", "--out", "file"),
        ("train", "method=sft", "--out", "file/run"),
        ("eval", "control:copy-prompt", "--suite", "tiny-mtbench", "--results", "file"),
        ("eval", "control:copy-prompt", "--suite", "tiny-mtbench", "--results", "file/results"),
        ("bench", "tinyworld", "--out", "file"),
        ("report", "--out", "file"),
        ("report", "--figures", "file"),
        ("data", "fetch"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_file_where_a_folder_is_needed_is_named(
    desk: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    Path("file").write_text("mine")
    Path("results").symlink_to(evaluated / "results")
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", "file")
    seen = good(seft_bench(*arguments), status=2)
    assert "file" in seen.err
    assert len([line for line in seen.err.splitlines() if line.startswith("error: ")]) == 1
    assert Path("file").read_text() == "mine"


# Names


def answers_of(model: str) -> Path:

    rows = [
        to_row(Answer("tiny-mtbench", item.id, model, ("x",) * len(item.turns)))
        for item in load_suite("tiny-mtbench").questions()
    ]
    files.write_jsonl(Path("answers.jsonl"), rows)
    return Path("answers.jsonl")


def evaluate(model: str) -> Seen:
    return seft_bench("eval", str(answers_of(model)), "--suite", "tiny-mtbench")


def test_names_of_many_bytes_are_cut_and_told_apart(desk: Path) -> None:
    """Two models whose first 255 bytes are one; each has its own answers, result and row, and again nothing is new."""
    names = [LONG + last for last in "ab"]
    for name in [*names, *names]:
        good(evaluate(name))
    rows = json.loads(good(seft_bench("leaderboard", "--format", "json")).out)
    assert all(name in json.dumps(rows, ensure_ascii=False) for name in names)
    assert len(list(Path("results").glob("*/*/result.json"))) == 2
    assert len(list(Path("runs/evaluations").iterdir())) == 2
    good(seft_bench("report"))
    good(seft_bench("export", "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "files"))


def test_names_that_fitted_before_are_as_they_were(desk: Path) -> None:
    good(evaluate("山" * 60))
    [folder] = Path("runs/evaluations").iterdir()
    assert folder.name.rpartition("-")[0] == "山" * 60


def test_a_judge_of_a_long_name_has_its_files(desk: Path, priced_files: None) -> None:
    judge = Path("priced.yaml").read_text().replace("name: priced", f"name: {LONG}")
    assert LONG in judge
    Path("long.yaml").write_text(judge, encoding="utf-8")
    arguments = ("eval", "answers.jsonl", "--suite", "suite.yaml", "--judge", "long.yaml", "--yes")
    good(seft_bench(*arguments))
    [verdicts] = Path("runs/evaluations").rglob("judgments-*.jsonl")
    before = verdicts.read_bytes()
    good(seft_bench(*arguments))
    assert verdicts.read_bytes() == before
