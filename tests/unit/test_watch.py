"""Watching a run: its pace, its figures in words and logs, and trackers that may fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from seft_bench import console
from seft_bench.console import TrainingLines
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, sha256_json, write_jsonl
from training.loop import TrainJob, TrainSettings, train
from training.trackers import TRACKERS, Tracked, Trackers, chosen_trackers
from training.watch import Pace, cut_logs, describe

STAND_IN = """
import json, os
from pathlib import Path
TOLD = Path(os.environ["TOLD"])
def tell(*said):
    with TOLD.open("a") as file:
        file.write(json.dumps([*said, os.environ["TOLD_SECRET"] in repr(said)]) + "\\n")
def init(**given):
    tell(__name__, "init", given)
    return Run()
class Run:
    def log(self, figures, step): tell(__name__, "log", figures, step)
    def finish(self): tell(__name__, "finish")
def log(figures, step): tell(__name__, "log", figures, step)
def finish(): tell(__name__, "finish")
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {"prompt": [{"role": "user", "content": f"What is {number}?"}], "chosen": f"It is {number}.", "rejected": "No"}
        for number in range(8)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    return tmp_path / "pairs.jsonl"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins of both libraries, which write down what they are told in the file returned."""
    for name in ("wandb", "trackio"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / "libraries" / name).mkdir(parents=True)
        (tmp_path / "libraries" / name / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "libraries")
    monkeypatch.setenv("TOLD", str(tmp_path / "told.jsonl"))
    monkeypatch.setenv("TOLD_SECRET", "a-key-that-nobody-may-see")
    monkeypatch.setenv("WANDB_API_KEY", "a-key-that-nobody-may-see")
    return tmp_path / "told.jsonl"


def settings(**changes: Any) -> TrainSettings:
    given = {"learning_rate": 1e-3, "max_steps": 3, "global_batch_size": 4, "micro_batch_size": 4, "device": "cpu"}
    return TrainSettings(**{**given, **changes})


# --- pace and words


def test_the_pace_is_that_of_the_last_steps() -> None:
    """10 tokens a second, then 20: after the window of 50 steps the first ones no longer count."""
    clock = Clock()
    pace = Pace(200, seconds=clock)
    pace.start(0, 0)
    clock.now = 2
    assert pace.after(1, 20) == {"tokens_per_second": 10.0, "eta_seconds": 398.0}
    for step in range(2, 53):
        clock.now += 1
        last = pace.after(step, 20 * step)
    assert last == {"tokens_per_second": 20.0, "eta_seconds": 148.0}


def test_the_pace_of_a_resumed_run_starts_where_it_goes_on() -> None:
    clock = Clock()
    pace = Pace(100, seconds=clock)
    pace.start(90, 9000)
    clock.now = 4
    assert pace.after(92, 9200) == {"tokens_per_second": 50.0, "eta_seconds": 16.0}


def test_figures_in_words() -> None:
    figures = {"step": 3, "loss": 0.5, "reward_accuracy": 0.75, "reward_margin": 0.1234, "log_ratio": -0.25}
    timing = {"grad_norm": 1.234, "tokens_per_second": 12345.6, "gpu_megabytes": 4096.0, "eta_seconds": 7260}
    assert describe(figures | timing) == (
        "loss 0.5, accuracy 75 %, margin 0.123, KL (mean log-ratio) -0.25, gradient 1.23, 12,346 tokens/s, "
        "GPU 4.0 GB, 2.0 h to go"
    )
    assert describe({"loss": 2.0, "rss_megabytes": 900}) == "loss 2, memory 900 MB"


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 seconds: a line each half minute, and one at the end of each stage."""
    said: list[str] = []
    monkeypatch.setattr(console, "note", said.append)
    clock = Clock()
    lines = TrainingLines(clock)
    for step in range(1, 9):
        lines.watch("policy", step, 8, f"loss {step}")
        clock.now += 10
    assert said == [
        "  policy: step 4 of 8, loss 4",
        "  policy: step 7 of 8, loss 7",
        "  policy: 8 steps done, loss 8",
    ]


def test_a_terminal_shows_the_figures_below_the_bar() -> None:
    from rich.text import Text

    shown: list[tuple[str, int, int]] = []

    class Bars:
        def show(self, *what: Any) -> None:
            shown.append(what)

    figures = Text()
    bars = console.TrainingBars(Bars(), figures)
    bars.watch("policy", 1, 2, "loss 1\x1b[0m")
    assert figures.plain == "  loss 1\N{REPLACEMENT CHARACTER}[0m"
    bars.watch("policy", 2, 2, "loss 1")
    assert (figures.plain, shown) == ("", [("policy", 1, 2), ("policy", 2, 2)])


# --- logs


def test_a_run_logs_what_follows_from_it_apart_from_what_a_clock_says(
    tiny_model: Path, pairs: Path, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []
    job = TrainJob(settings(report_to=[]), "dpo")
    train(tiny_model, pairs, tmp_path / "run", job, on_step=lambda done, steps, figures: seen.append(figures))
    logged, timed = (read_jsonl(tmp_path / "run" / name) for name in ("train.jsonl", "timings.jsonl"))
    assert set(logged[0]) == {
        *("step", "epoch", "tokens", "learning_rate", "loss", "grad_norm"),
        *("reward_accuracy", "reward_margin", "chosen_reward", "rejected_reward", "log_ratio"),
    }
    assert set(timed[0]) == {"step", "tokens_per_second", "eta_seconds", "rss_megabytes"}
    assert seen == [row | timing for row, timing in zip(logged, timed, strict=True)]
    assert (timed[-1]["eta_seconds"], len(timed)) == (0.0, 3)
    # The mean log-ratio is the mean of both rewards, over beta.
    last = logged[-1]
    assert last["log_ratio"] == pytest.approx((last["chosen_reward"] + last["rejected_reward"]) / 0.2, rel=1e-5)


def test_logs_are_cut_where_a_run_goes_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"step": step} for step in range(1, 6)])
    cut_logs(tmp_path, 3)
    assert [row["step"] for row in read_jsonl(tmp_path / "train.jsonl")] == [1, 2, 3]
    cut_logs(tmp_path, 0)
    assert not (tmp_path / "train.jsonl").exists()


# --- trackers


def test_wandb_and_trackio_are_told_every_step_and_no_key(
    told: Path, tiny_model: Path, pairs: Path, tmp_path: Path
) -> None:
    job = TrainJob(settings(report_to=["wandb", "trackio"]), "dpo")
    train(tiny_model, pairs, tmp_path / "my-run", job)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert not any(line[-1] for line in lines)  # whether a key was in it
    logged, run = (
        read_jsonl(tmp_path / "my-run" / "train.jsonl"),
        json.loads((tmp_path / "my-run/run.json").read_text()),
    )
    for library in ("wandb", "trackio"):
        first, *steps, last = [line[1:-1] for line in lines if line[0] == library]
        assert (first[0], last) == ("init", ["finish"])
        assert first[1]["project"] == "seft-bench"
        assert (first[1]["name"], first[1]["config"]) == ("my-run", run["settings"])
        training = [(figures, step) for _, figures, step in steps if "train/loss" in figures]
        assert [step for _, step in training] == [1, 2, 3]
        assert [figures["train/loss"] for figures, _ in training] == [row["loss"] for row in logged]
        assert sum("timing/tokens_per_second" in figures for _, figures, _ in steps) == 3


def test_a_tracker_that_fails_is_left_out_with_one_note(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("no route; the key was a-key-that-nobody-may-see")

    import wandb

    monkeypatch.setattr(wandb.Run, "log", broken)
    trackers = Trackers(["wandb", "trackio"], Tracked(tmp_path / "run", "key", {}))
    for step in (1, 2):
        trackers.log("train", {"loss": 1.0, "stage": "policy"}, step)
    trackers.close()
    assert capsys.readouterr().err.splitlines() == ["wandb failed (ConnectionError): training goes on without it"]
    others = [line[1:4] for line in map(json.loads, told.read_text().splitlines()) if line[0] == "trackio"]
    assert others[1:3] == [["log", {"train/loss": 1.0}, 1], ["log", {"train/loss": 1.0}, 2]]


def test_a_tracker_that_does_not_open_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TRACKERS, "wandb", lambda run: (_ for _ in ()).throw(PermissionError("log in first")))
    trackers = Trackers(["wandb"], Tracked(tmp_path, "key", {}))
    trackers.log("train", {"loss": 1.0}, 1)
    assert capsys.readouterr().err == "wandb failed (PermissionError): training goes on without it\n"


def test_what_is_not_installed_is_refused_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert chosen_trackers(None) == []
    with pytest.raises(InputError, match="report_to names wandb, trackio, which is not installed: pip install wandb"):
        chosen_trackers(["wandb", "trackio"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert chosen_trackers(None) == ["tensorboard"]
    assert chosen_trackers([]) == []


def test_what_is_reported_to_whom_renames_nothing() -> None:
    jobs = [TrainJob(settings(**given)) for given in ({}, {"report_to": ["wandb"], "save_state_every_minutes": 1})]
    assert len({sha256_json(job.as_row()) for job in jobs}) == 1


def test_tensorboard_gets_event_files_that_it_can_read(tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny_model, pairs, tmp_path / "run", TrainJob(settings(), "dpo"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    logged = read_jsonl(tmp_path / "run" / "train.jsonl")
    told = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert told == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in logged]
