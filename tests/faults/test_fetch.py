"""`seft-bench data fetch` against a real local server: what is published takes its name, nothing else ever does."""

from __future__ import annotations

import csv
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from seft_bench.data import fetch
from seft_bench.data.official import (
    BASELINE,
    CORRECTED_REFERENCES,
    DIFFICULTY,
    GAMED,
    JUDGE_PROMPTS,
    OFFICIAL_FILES,
    QUESTIONS,
    OfficialFile,
    file_status,
    official_path,
)
from seft_bench.errors import InputError
from tests.integration.cli import Seen, seft_bench

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def send(
    request: BaseHTTPRequestHandler, status: int, body: bytes = b"", length: int | None = None, **headers: str
) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def asked_from(request: BaseHTTPRequestHandler) -> int:
    return int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def with_ranges(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer as a server with Range support does."""
    start = asked_from(request)
    if not start:
        send(request, 200, content)
    elif start >= len(content):
        send(request, 416)
    else:
        send(request, 206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")


def without_range(request: BaseHTTPRequestHandler, content: bytes) -> None:
    send(request, 200, content)


def cut_at_half(request: BaseHTTPRequestHandler, content: bytes) -> None:
    send(request, 200, content[: len(content) // 2], length=len(content))


def shifted(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """A part that begins elsewhere than asked for."""
    send(request, 206, content[1:], Content_Range=f"bytes 1-{len(content) - 1}/{len(content)}")


def status(code: int) -> Answer:
    return lambda request, content: send(request, code, b"a page that says why")


def other_content(request: BaseHTTPRequestHandler, content: bytes) -> None:
    send(request, 200, b"<html>Log in to this network</html>")


@dataclass
class FileServer:
    """Answers the n-th request with the n-th of `script`, then with `otherwise`; `asked` holds (path, Range)."""

    files: dict[str, bytes]
    script: list[Answer] = field(default_factory=list)
    otherwise: Answer = with_ranges
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append((request.path, request.headers.get("Range")))
        content = self.files.get(request.path.removeprefix("/mirror/"))
        handler = self.script.pop(0) if self.script else self.otherwise
        send(request, 404) if content is None else handler(request, content)


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    served = FileServer({JUDGE_PROMPTS: CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{listening.server_port}/mirror"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, empty, with the network allowed and CONTENT published as the judge prompts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(tmp_path / "official"))
    monkeypatch.delenv("SEFT_BENCH_DATA_URL", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(OFFICIAL_FILES, JUDGE_PROMPTS, OfficialFile(OFFICIAL_FILES[JUDGE_PROMPTS].origin, SHA256))
    return tmp_path / "official"


class Run:
    """One `fetch` of the judge prompts, and what it reported while it went on."""

    def __init__(self, server: FileServer) -> None:
        self.slept: list[float] = []
        self.shown: list[tuple[str, int, int]] = []
        (self.result,) = fetch.fetch(
            [JUDGE_PROMPTS], server.url, lambda *step: self.shown.append(step), self.slept.append
        )


def part_of(folder: Path) -> Path:
    return folder / "mt_bench" / ".judge_prompts.jsonl.part"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".fetch.lock"}


def test_a_good_file_takes_its_name_and_is_not_fetched_again(file_server: FileServer, data_folder: Path) -> None:
    run = Run(file_server)
    assert (run.result.state, run.result.path) == ("fetched", str(data_folder / JUDGE_PROMPTS))
    assert (data_folder / JUDGE_PROMPTS).read_bytes() == CONTENT
    assert files_in(data_folder) == {JUDGE_PROMPTS}
    assert run.shown[-1] == (JUDGE_PROMPTS, 256_000, 256_000)
    assert [done for _, done, _ in run.shown] == sorted({done for _, done, _ in run.shown})
    assert Run(file_server).result.state == "present"
    assert file_server.asked == [(f"/mirror/{JUDGE_PROMPTS}", None)]


@pytest.mark.parametrize("code", [404, 403, 401])
def test_a_refusal_is_said_once_with_its_status(file_server: FileServer, data_folder: Path, code: int) -> None:
    file_server.otherwise = status(code)
    run = Run(file_server)
    assert run.result.state == "failed"
    assert f"status {code}" in run.result.message
    assert file_server.url in run.result.message
    assert len(file_server.asked) == 1
    assert files_in(data_folder) == set()


def test_other_content_is_kept_nowhere(file_server: FileServer, data_folder: Path) -> None:
    file_server.otherwise = other_content
    run = Run(file_server)
    assert run.result.state == "failed"
    assert "refused" in run.result.message
    assert SHA256[:16] in run.result.message
    assert files_in(data_folder) == set()


def test_an_endless_body_is_given_up(
    file_server: FileServer, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 100_000)
    assert "more than 100000 bytes" in Run(file_server).result.message
    assert files_in(data_folder) == set()


def test_a_cut_connection_goes_on_where_it_broke_off(file_server: FileServer, data_folder: Path) -> None:
    file_server.script = [cut_at_half]
    run = Run(file_server)
    assert run.result.state == "fetched"
    assert (data_folder / JUDGE_PROMPTS).read_bytes() == CONTENT
    assert [asked for _, asked in file_server.asked] == [None, f"bytes={HALF}-"]
    assert run.slept == [1.0]


def test_what_came_before_giving_up_is_kept_for_the_next_command(file_server: FileServer, data_folder: Path) -> None:
    file_server.script = [cut_at_half, *[status(503)] * (fetch.TRIES - 1)]
    run = Run(file_server)
    assert run.result.state == "failed"
    assert f"{HALF} bytes are kept" in run.result.message
    assert "status 503" in run.result.message
    assert run.slept == [1.0, 2.0, 4.0]
    assert part_of(data_folder).read_bytes() == CONTENT[:HALF]
    assert file_status(JUDGE_PROMPTS).state == "missing"  # a part never counts as the file
    assert Run(file_server).result.state == "fetched"
    assert file_server.asked[-1][1] == f"bytes={HALF}-"
    assert files_in(data_folder) == {JUDGE_PROMPTS}


@pytest.mark.parametrize(("answer", "requests"), [(without_range, 1), (shifted, 2)])
def test_a_server_that_does_not_send_the_rest_is_asked_for_the_whole(
    file_server: FileServer, data_folder: Path, answer: Answer, requests: int
) -> None:
    part_of(data_folder).parent.mkdir(parents=True)
    part_of(data_folder).write_bytes(CONTENT[:HALF])
    file_server.script = [answer]
    assert Run(file_server).result.state == "fetched"
    assert (data_folder / JUDGE_PROMPTS).read_bytes() == CONTENT
    assert [asked for _, asked in file_server.asked] == [f"bytes={HALF}-", None][:requests]


@pytest.mark.parametrize(
    "part", [b"of another file", CONTENT, CONTENT + b"more"], ids=["foreign", "complete", "too long"]
)
def test_any_part_that_lies_there_ends_in_the_published_file(
    file_server: FileServer, data_folder: Path, part: bytes
) -> None:
    part_of(data_folder).parent.mkdir(parents=True)
    part_of(data_folder).write_bytes(part)
    assert Run(file_server).result.state == "fetched"
    assert (data_folder / JUDGE_PROMPTS).read_bytes() == CONTENT
    assert [asked for _, asked in file_server.asked] == [f"bytes={len(part)}-", None]


def test_a_server_that_goes_silent_is_asked_again(
    file_server: FileServer, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.1)
    over = threading.Event()

    def silent(request: BaseHTTPRequestHandler, content: bytes) -> None:
        over.wait(10)
        request.close_connection = True

    file_server.script = [silent]
    try:
        assert Run(file_server).result.state == "fetched"
    finally:
        over.set()


def test_offline_asks_nobody_but_leaves_what_is_there(
    file_server: FileServer, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Run(file_server).result.state == "fetched"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seen = seft_bench("data", "fetch", "mt_bench", "--base-url", file_server.url)
    assert [line.split("\t")[:2] for line in seen.out.splitlines()] == [
        ["failed", QUESTIONS],
        ["present", JUDGE_PROMPTS],
        ["failed", "mt_bench/reference_answer/gpt-4.jsonl"],
        ["failed", "mt_bench/reference_answer/gpt-4-0125-preview_pr3158.jsonl"],
    ]
    assert_refused(seen, "HF_HUB_OFFLINE", str(data_folder / QUESTIONS))
    assert len(file_server.asked) == 1


def test_an_unreachable_host_is_tried_once_for_all_files(data_folder: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        seen = seft_bench("data", "fetch", "--base-url", f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert_refused(seen, "cannot be reached", "refused", "--base-url", str(data_folder))
    assert seen.err.count("was not tried") == len(OFFICIAL_FILES) - 1
    assert [line.split("\t")[0] for line in seen.out.splitlines()] == ["failed"] * len(OFFICIAL_FILES)
    assert files_in(data_folder) == set()


def test_two_at_once_download_once(file_server: FileServer, data_folder: Path) -> None:
    runs: list[Run] = []
    threads = [threading.Thread(target=lambda: runs.append(Run(file_server))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(run.result.state for run in runs) == ["fetched", "present"]
    assert len(file_server.asked) == 1


def test_a_file_of_the_users_own_stays(file_server: FileServer, data_folder: Path) -> None:
    (data_folder / "mt_bench").mkdir(parents=True)
    (data_folder / JUDGE_PROMPTS).write_text("my own prompts")
    run = Run(file_server)
    assert run.result.state == "failed"
    assert "left as it is" in run.result.message
    assert (data_folder / JUDGE_PROMPTS).read_text() == "my own prompts"
    assert file_server.asked == []


def test_a_folder_without_rights_is_said(file_server: FileServer, data_folder: Path) -> None:
    data_folder.write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"cannot be written.*SEFT_BENCH_DATA_DIR"):
        Run(file_server)


def test_a_failing_file_does_not_keep_the_others(file_server: FileServer, data_folder: Path) -> None:
    seen = seft_bench("data", "fetch", JUDGE_PROMPTS, QUESTIONS, "--base-url", file_server.url)
    assert seen.out == f"failed\t{QUESTIONS}\t-\nfetched\t{JUDGE_PROMPTS}\t{data_folder / JUDGE_PROMPTS}\n"
    assert_refused(seen, "status 404", QUESTIONS)
    assert f"{JUDGE_PROMPTS}: 256000 done" in seen.err  # the progress, on stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mt_bench/other.jsonl"], "unknown official file"),
        (["--base-url", "file:///etc"], "http:// or https://"),
        (["--base-url", "http://127.0.0.1:port"], "a port that is a number"),
        (["--base-url", "https://"], "with a host"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, data_folder: Path) -> None:
    assert_refused(seft_bench("data", "fetch", *arguments), said)


def test_addresses_come_from_the_table() -> None:
    assert (
        fetch.address(BASELINE)
        == "https://huggingface.co/datasets/tatsu-lab/alpaca_eval/resolve/main/alpaca_eval_gpt4_baseline.json"
    )
    assert (
        fetch.address(QUESTIONS)
        == "https://raw.githubusercontent.com/lm-sys/FastChat/main/fastchat/llm_judge/data/mt_bench/question.jsonl"
    )
    pinned = "https://raw.githubusercontent.com/lm-sys/FastChat/962316eba4e9db86bc8002243290e4074dabf48e/fastchat/llm_judge/data/mt_bench/reference_answer"
    assert fetch.address(CORRECTED_REFERENCES) == f"{pinned}/gpt-4-0125-preview.jsonl"
    assert all(fetch.address(name).startswith("https://") for name in OFFICIAL_FILES)
    assert fetch.address(QUESTIONS, "http://host/a/") == "http://host/a/mt_bench/question.jsonl"


def test_missing_data_names_the_command(data_folder: Path) -> None:
    with pytest.raises(InputError, match="Run `seft-bench data fetch`"):
        official_path(QUESTIONS)


# The real files


@pytest.fixture
def real_files(shared_data: Path, file_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, with all real files on the server, named by the variable."""
    file_server.files = {name: (shared_data / "official" / name).read_bytes() for name in OFFICIAL_FILES}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SEFT_BENCH_DATA_URL", file_server.url)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return tmp_path / "cache" / "seft-bench" / "data"


def test_all_official_files_are_fetched_and_verified(real_files: Path, file_server: FileServer) -> None:
    seen = seft_bench("data", "fetch")
    assert seen.status == 0, seen.err
    assert seen.out == "".join(f"fetched\t{name}\t{real_files / name}\n" for name in OFFICIAL_FILES)
    assert files_in(real_files) == set(OFFICIAL_FILES)
    assert all((real_files / name).read_bytes() == content for name, content in file_server.files.items())
    assert seft_bench("data", "verify").status == 0
    again = seft_bench("data", "fetch")
    assert (again.status, again.out) == (0, seen.out.replace("fetched", "present"))
    assert len(file_server.asked) == len(OFFICIAL_FILES)


def test_a_table_in_another_byte_form_is_accepted_by_its_content_and_a_changed_one_is_not(
    real_files: Path, file_server: FileServer
) -> None:
    file_server.files[DIFFICULTY] = file_server.files[DIFFICULTY].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    rows = list(csv.reader(file_server.files[GAMED].decode().splitlines()))
    column = rows[0].index("preference")
    rows[1][column] = str(float(rows[1][column]) + 0.5)
    file_server.files[GAMED] = "".join(",".join(row) + "\n" for row in rows).encode()
    seen = seft_bench("data", "fetch", "alpaca_eval")
    assert [line.split("\t")[0] for line in seen.out.splitlines()] == ["fetched", "failed", "fetched"]
    assert_refused(seen, "does not hold the published gamed rows")
    file_server.files[GAMED] = b"a,b\n1,2\n"
    assert_refused(seft_bench("data", "fetch", GAMED), "column std_delta_len", GAMED)
    assert files_in(real_files) == {BASELINE, DIFFICULTY}


def assert_refused(seen: Seen, *said: str) -> None:
    assert seen.status == 2
    assert "Traceback" not in seen.err
    assert not [text for text in said if text not in seen.err], seen.err
    assert ".part" not in seen.err
