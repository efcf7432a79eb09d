"""The world fails under `seft-bench eval`: a full disk, a broken store, a judge that fails for some questions."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from seft_bench.config import config_folder
from seft_bench.files import read_log
from seft_bench.inference.store import ResponseStore
from seft_bench.suites import load_suite
from tests.faults.chat_server import ChatServer, Handler, after, body_of, completion, ok, status
from tests.integration.cli import REPOSITORY, Seen, seft_bench

QUESTIONS = 80
LONG = "Because of this and that. " * 40 + "Rating: [[7]]"


@pytest.fixture(autouse=True)
def _files(desk: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key-12345")
    lay_out(desk, server.url)


def lay_out(folder: Path, url: str) -> None:
    """A suite, ready answers, and a judge that tries once."""
    shipped = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    (folder / "suite.yaml").write_text(yaml.safe_dump(shipped | {"name": "some", "max_questions": QUESTIONS}))
    judge = {
        "name": "one-try",
        "kind": "openai",
        "model": "judge",
        "base_url": url,
        "api_key_env": "JUDGE_KEY",
        "templates": "seft-bench",
    }
    (folder / "judge.yaml").write_text(yaml.safe_dump(judge | {"max_attempts": 1, "max_in_flight": 4}))
    questions = load_suite(str(folder / "suite.yaml")).questions()
    rows = [
        {
            "question_id": question.id,
            "model_id": "mine",
            "choices": [{"index": 0, "turns": [f"Answer {question.id}, turn {turn}." for turn in question.turns]}],
        }
        for question in questions
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


ARGUMENTS = ("eval", "answers.jsonl", "--suite", "suite.yaml", "--judge", "judge.yaml")


def in_a_process(folder: Path, before: Callable[[], None] | None = None) -> Seen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "seft_bench.cli.main", *ARGUMENTS]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, preexec_fn=before, timeout=300
    )
    return Seen(done.returncode, done.stdout, done.stderr)


def good_keys(folder: Path) -> list[str]:
    return [
        row["key"]
        for path in (folder / "runs").rglob("judgments-*.jsonl")
        for row in read_log(path)
        if row["status"] == "ok"
    ]


def wanted() -> int:
    return sum(len(question.turns) for question in load_suite("suite.yaml").questions())


# Two commands at once


def test_two_commands_on_the_same_work_pay_for_it_once(desk: Path, server: ChatServer) -> None:
    server.otherwise = after(0.02)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "seft_bench.cli.main", *ARGUMENTS]
    both = [
        subprocess.Popen(
            command, cwd=desk, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    keys = good_keys(desk)
    assert len(keys) == len(set(keys)) == wanted()
    assert len(server.bodies) <= wanted() + 2  # and a probe each


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "instructions.json", *ARGUMENTS[2:]), "none with all turns"),
        ((*ARGUMENTS, "--stage", "judge"), "--stage answer"),
        ((*ARGUMENTS, "--stage", "score"), "--stage answer"),
        ((*ARGUMENTS, "--server", "http://127.0.0.1:9/v1"), "answers.jsonl is a file here"),
        ((*ARGUMENTS, "--reference", "answers.jsonl"), "--reference"),
        ((*ARGUMENTS, "--lc-c", "cross-validated"), "--lc-c"),
        (
            ("eval", "answers.jsonl", "--suite", "own.yaml", "--judge", "judge.yaml", "--lc-c", "much"),
            "error: --lc-c: a positive number",
        ),
        (
            ("eval", "answers.jsonl", "--suite", "own.yaml", "--judge", "judge.yaml", "--lc-interval", "wide"),
            "error: --lc-interval: ",
        ),
        (("eval", "answers.jsonl", "--suite", "own.yaml", "--judge", "judge.yaml"), "answers none of the 1 questions"),
    ],
)
def test_wrong_input_is_said_before_anything_is_paid(
    desk: Path, server: ChatServer, arguments: tuple[str, ...], words: str
) -> None:
    question = load_suite("suite.yaml").questions()[0].turns[0]
    (desk / "instructions.json").write_text(json.dumps([{"instruction": question, "output": "One turn only."}]))
    (desk / "own.jsonl").write_text(json.dumps({"instruction": "Say something else.", "output": "Else."}))
    own = {
        "name": "own",
        "kind": "alpacaeval",
        "source": "files",
        "questions": "own.jsonl",
        "difficulty": "zero",
        "default_judge": "local-openai",
        "description": "One.",
    }
    (desk / "own.yaml").write_text(
        yaml.safe_dump(own | {"max_new_tokens": 10, "decodings": {"greedy": {"temperature": 0.0}}})
    )
    seen = seft_bench(*arguments)
    assert (seen.status, seen.out) == (2, "")
    assert words in seen.err
    assert server.bodies == []


def test_the_key_of_a_server_that_answers_is_missed_before_the_judge_is_paid(desk: Path, server: ChatServer) -> None:
    seen = seft_bench("eval", "judge", *ARGUMENTS[2:], "--server", server.url, "--server-key-env", "NO_SUCH_KEY")
    assert seen.status == 2
    assert "NO_SUCH_KEY (--server-key-env), which is not set" in seen.err
    assert server.bodies == []


# A disk without room


def assert_stopped_for_room_and_goes_on(
    seen: Seen, folder: Path, server: ChatServer, go_on: Callable[[], Seen]
) -> None:
    assert seen.status == 6, seen.err
    assert "Traceback" not in seen.err
    assert "disk space" in seen.err
    assert "the same command goes on" in seen.err
    paid_before = len(server.bodies)
    assert 0 < len(good_keys(folder)) < wanted()
    again = go_on()
    assert again.status == 0, again.err
    keys = good_keys(folder)
    assert len(keys) == len(set(keys)) == wanted()
    stored = ResponseStore(folder / "runs" / "store.sqlite").stats()["responses"]
    assert stored == wanted()
    assert len(server.bodies) <= paid_before + wanted() + 1


def test_no_file_may_grow_any_further(desk: Path, server: ChatServer) -> None:
    """A limit on the size of files stands for a full disk wherever a test may run; SQLite calls it a disk I/O error."""
    server.otherwise = body_of(completion(LONG))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))

    assert_stopped_for_room_and_goes_on(in_a_process(desk, limit), desk, server, lambda: in_a_process(desk))


def test_a_judgments_file_without_room_is_no_traceback(desk: Path, server: ChatServer) -> None:
    """All replies are stored already, so the file of judgments is the one that may not grow."""
    server.otherwise = body_of(completion(LONG))
    assert in_a_process(desk).status == 0
    forget_judgments(desk)
    paid = len(server.bodies)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    assert_stopped_for_room_and_goes_on(in_a_process(desk, limit), desk, server, lambda: in_a_process(desk))
    assert len(server.bodies) == paid + 2  # two probes: nothing is paid for again


def test_a_full_disk(tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of its own that is really full; mounting one needs rights that not every machine gives."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(small)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"MAY NOT MOUNT A TMPFS HERE: {mounted.stderr.strip()}")
    try:
        monkeypatch.chdir(small)
        monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key-12345")
        lay_out(small, server.url)
        server.otherwise = body_of(completion(LONG))
        seen = in_a_process(small)

        def with_more_room() -> Seen:
            subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
            return in_a_process(small)

        assert_stopped_for_room_and_goes_on(seen, small, server, with_more_room)
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["umount", "-l", str(small)], check=True)


# A broken store


def forget_judgments(folder: Path) -> None:
    for path in (folder / "runs").rglob("judgments-*.jsonl"):
        path.unlink()


def test_a_store_cut_in_half_is_said_set_aside_and_rebuilt(desk: Path, server: ChatServer) -> None:
    server.otherwise = body_of(completion(LONG))
    assert in_a_process(desk).status == 0
    paid = len(server.bodies)
    store = desk / "runs" / "store.sqlite"
    store.write_bytes(store.read_bytes()[: store.stat().st_size // 2])
    forget_judgments(desk)
    seen = in_a_process(desk)
    assert seen.status == 0, seen.err
    assert "was damaged" in seen.err
    assert "set aside as store.sqlite.damaged-1" in seen.err
    asked_again = len(server.bodies) - paid - 1  # less the probe
    assert 0 < asked_again < wanted()
    assert f"{wanted() - asked_again} responses carried over" in seen.err
    assert len(good_keys(desk)) == wanted()
    assert ResponseStore(store).stats()["responses"] == wanted()


def test_a_store_that_cannot_be_read_at_all_is_refused(desk: Path, server: ChatServer) -> None:
    (desk / "runs").mkdir()
    store = desk / "runs" / "store.sqlite"
    store.write_bytes(b"no database " * 1000)
    seen = in_a_process(desk)
    assert seen.status == 2
    assert "not one response could be saved" in seen.err
    assert "SEFT_BENCH_STORE" in seen.err
    assert store.read_bytes() == b"no database " * 1000
    assert server.bodies == []


# A judge that fails for some


def failing_for(words: list[str], fault: Handler) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][-1]["content"]
        return await (fault if any(word in text for word in words) else ok)(request, body)

    return answer


def turns_of(count: int) -> list[str]:
    """Return what stands in the prompts of the first questions only."""
    return [f"Answer {question.id}, turn" for question in load_suite("suite.yaml").questions()[:count]]


def statuses(folder: Path) -> Counter[str]:
    return Counter(row["status"] for path in (folder / "runs").rglob("judgments-*.jsonl") for row in read_log(path))


def result_row(seen: Seen) -> dict[str, Any]:
    (row,) = json.loads(seen.out)
    found: dict[str, Any] = row
    return found


def test_a_judge_that_fails_for_three_percent_withholds_the_figure(desk: Path, server: ChatServer) -> None:
    server.otherwise = failing_for(turns_of(3), status(500))  # 3 of 80 questions
    seen = seft_bench(*ARGUMENTS, "--json")
    assert seen.status == 5, seen.err
    assert (
        f"WITHHELD mine on some: {wanted() - 6} of {wanted()} judgments are scored, at least 98 % are needed"
        in seen.err
    )
    assert "Run the same command again to judge the rest" in seen.err
    row = result_row(seen)
    assert (row["withheld"], row["n_unscored"], statuses(desk)["api_error"]) == (True, 6, 6)
    assert row["metrics"]["score"] is not None  # shown, never ranked
    server.otherwise = ok
    before = len(server.bodies)
    again = seft_bench(*ARGUMENTS, "--json")
    assert (again.status, result_row(again)["withheld"]) == (0, False)
    assert len(server.bodies) == before + 7  # the missing ones and the probe


def test_one_percent_is_published_with_its_coverage(desk: Path, server: ChatServer) -> None:
    server.otherwise = failing_for(turns_of(1), body_of(completion("I cannot say.")))
    seen = seft_bench(*ARGUMENTS, "--json")
    assert seen.status == 0, seen.err
    row = result_row(seen)
    assert (row["withheld"], row["n_unscored"], statuses(desk)["parse_error"]) == (False, 2, 2)
    assert row["coverage"] == pytest.approx(1 - 2 / wanted())


def test_nothing_scored_is_withheld_and_has_no_figure(desk: Path, server: ChatServer) -> None:
    server.otherwise = body_of(completion("I cannot say."))
    seen = seft_bench(*ARGUMENTS, "--json")
    assert seen.status == 5, seen.err
    row = result_row(seen)
    assert (row["withheld"], row["n_scored"], row["metrics"]["score"]) == (True, 0, None)
    assert f"0 of {wanted()} judgments are scored" in seen.err


def test_another_model_than_asked_for_is_a_note_in_the_result(desk: Path, server: ChatServer) -> None:
    server.otherwise = body_of(completion(model="judge-mini"))
    row = result_row(seft_bench(*ARGUMENTS, "--json"))
    assert "asked for model judge, the server returned judge-mini" in row["notes"]
    returned = {
        line["returned_model"] for path in (desk / "runs").rglob("judgments-*.jsonl") for line in read_log(path)
    }
    assert returned == {"judge-mini"}


def test_two_commands_at_once_share_store_and_judgments(desk: Path, server: ChatServer) -> None:
    server.otherwise = after(0.01)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "seft_bench.cli.main", *ARGUMENTS]
    both = [
        subprocess.Popen(command, cwd=desk, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    messages = [process.communicate(timeout=300)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert len(set(good_keys(desk))) == wanted()
    assert ResponseStore(desk / "runs" / "store.sqlite").stats()["responses"] == wanted()
