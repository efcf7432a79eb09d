"""Watching a run: what each step says of itself, in its logs, for trackers, and in words for people who wait.

Figures that follow from the run alone are rows of train.jsonl, and a resumed run repeats them bit for bit; what a clock
says is in timings.jsonl. Several processes that train together have one watch, in the first of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seft_bench.files import append_rows, read_log, write_jsonl
from seft_bench.records import Row

from .record import peak_gpu_megabytes, peak_rss_megabytes
from .trackers import Trackers

TRAIN_LOG, TIMINGS_LOG, VALIDATION_LOG = "train.jsonl", "timings.jsonl", "validation.jsonl"
LOGS = (TRAIN_LOG, TIMINGS_LOG, VALIDATION_LOG)
"""Logs of a run, each with rows of a step."""

OnStep = Callable[[int, int, Row], None]
"""Called after every step with (steps done, steps in all, figures by name)."""

PACE_STEPS = 50
"""Speed and time to go are those of the last so many steps."""


def cut_logs(out: Path, step: int) -> None:
    """Leave in a run's logs what it logged up to a step; from step 0, nothing."""
    for name in LOGS:
        if step == 0:
            (out / name).unlink(missing_ok=True)
        elif (out / name).exists():
            write_jsonl(out / name, [row for row in read_log(out / name) if row["step"] <= step])


@dataclass
class Pace:
    """The speed of a run, by a clock that also counts what comes between steps."""

    steps: int
    seconds: Callable[[], float] = time.monotonic
    moments: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=PACE_STEPS + 1))

    def start(self, step: int, tokens: int) -> None:
        """Note where the run stands before its first step."""
        self.moments.append((self.seconds(), step, tokens))

    def after(self, step: int, tokens: int) -> Row:
        """Return tokens per second and the seconds that the rest will take."""
        first_seconds, first_step, first_tokens = self.moments[0]
        self.moments.append((self.seconds(), step, tokens))
        passed = max(self.moments[-1][0] - first_seconds, 1e-9)
        return {
            "tokens_per_second": round((tokens - first_tokens) / passed, 1),
            "eta_seconds": round((self.steps - step) * passed / (step - first_step), 1),
        }


class Watch:
    """Logs a run's steps and validations, tells trackers, and shows both to whoever waits."""

    def __init__(self, out: Path, pace: Pace, trackers: Trackers, on_step: OnStep | None = None) -> None:
        self.out, self.pace, self.trackers, self.on_step = out, pace, trackers, on_step
        self.latest: Row = {}

    def stepped(self, row: Row) -> None:
        """Log a step: before anything of it is saved, so that a saved state never knows more than the log."""
        timing = {"step": row["step"], **self.pace.after(row["step"], row["tokens"]), **_memory()}
        append_rows(self.out / TRAIN_LOG, [row])
        append_rows(self.out / TIMINGS_LOG, [timing])
        self.latest |= row | timing
        self.trackers.log("train", row, row["step"])
        self.trackers.log("timing", timing, row["step"])

    def validated(self, row: Row) -> None:
        """Log a measurement on what is held out, and show it with the steps that follow."""
        append_rows(self.out / VALIDATION_LOG, [row])
        self.latest |= {f"held_out_{name}": value for name, value in row.items() if name != "step"}
        self.trackers.log("validation", row, row["step"])

    def show(self) -> None:
        """Show the last step, when all that belongs to it is saved."""
        if self.on_step:
            self.on_step(self.latest["step"], self.pace.steps, dict(self.latest))


def _memory() -> Row:
    """Return the peak memory of the GPU where one is used, else of the process, in MB."""
    gpu = peak_gpu_megabytes()
    return {"rss_megabytes": peak_rss_megabytes()} if gpu is None else {"gpu_megabytes": gpu}


# Words

_SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("loss", "loss", lambda value: f"{value:.4g}"),
    ("reward", "reward", lambda value: f"{value:.4g}"),
    ("kl", "KL", lambda value: f"{value:.3g}"),
    ("answer_tokens", "tokens an answer", lambda value: f"{value:.1f}"),
    ("truncated_share", "truncated", lambda value: f"{100 * value:.0f} %"),
    ("reward_accuracy", "accuracy", lambda value: f"{100 * value:.0f} %"),
    ("reward_margin", "margin", lambda value: f"{value:.3g}"),
    ("log_odds_ratio", "log odds ratio", lambda value: f"{value:.3g}"),
    ("log_ratio", "KL (mean log-ratio)", lambda value: f"{value:.3g}"),
    ("held_out_loss", "held-out loss", lambda value: f"{value:.4g}"),
    ("held_out_reward_accuracy", "held-out accuracy", lambda value: f"{100 * value:.0f} %"),
    ("held_out_reward_margin", "held-out margin", lambda value: f"{value:.3g}"),
    ("grad_norm", "gradient", lambda value: f"{value:.3g}"),
    ("tokens_per_second", "", lambda value: f"{value:,.0f} tokens/s"),
    ("gpu_megabytes", "GPU", lambda value: _memory_in_words(value)),
    ("rss_megabytes", "memory", lambda value: _memory_in_words(value)),
    ("eta_seconds", "", lambda value: f"{duration(value)} to go"),
)
"""Figure, its name for people, and how it is written."""


def describe(figures: Mapping[str, Any]) -> str:
    """Say the figures of a step in one line.

    >>> describe({"step": 5, "loss": 0.6931, "reward_accuracy": 0.5, "tokens_per_second": 1234.5, "eta_seconds": 90})
    'loss 0.6931, accuracy 50 %, 1,234 tokens/s, 90 s to go'
    """
    shown = [(key, name, write) for key, name, write in _SHOWN if key in figures]
    if not figures.get("eta_seconds"):
        shown = [item for item in shown if item[0] != "eta_seconds"]
    return ", ".join(f"{name} {write(figures[key])}".strip() for key, name, write in shown)


def _memory_in_words(megabytes: float) -> str:
    return f"{megabytes:.0f} MB" if megabytes < 1024 else f"{megabytes / 1024:.1f} GB"


def duration(seconds: float) -> str:
    """Say a time in the unit that fits.

    >>> duration(90), duration(600), duration(9000)
    ('90 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
