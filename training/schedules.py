"""Learning-rate schedules as pure functions of the step: each gives its share of the full learning rate.

Steps are counted from 1. After warmup all of them equal transformers' functions of the same names at `step - 1`, which
is the value that its scheduler holds when that step is taken. In warmup ours is one step ahead: step 1 learns with
1 / warmup steps, where transformers wastes it at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["cosine", "constant", "linear", "inverse_sqrt", "wsd"]
DecayShape = Literal["linear", "1-sqrt"]

TIMESCALE_WITHOUT_WARMUP = 10_000
"""Of the inverse square root where there is no warmup to take it from, as in transformers."""


@dataclass(frozen=True)
class Course:
    """Where a run's learning rate rises, stays and falls, in steps.

    Attributes:
        steps: of the whole run.
        warmup: steps of the linear rise.
        decay: last steps, in which "wsd" falls.
        decay_shape: of that fall.
    """

    steps: int
    warmup: int = 0
    decay: int = 0
    decay_shape: DecayShape = "linear"

    def done(self, step: int) -> float:
        """Share of the steps after warmup that were taken before this one."""
        return (step - 1 - self.warmup) / (self.steps - self.warmup)


def _constant(course: Course, step: int) -> float:
    return 1.0


def _cosine(course: Course, step: int) -> float:
    """Fall as half a cosine, to 0 just after the last step."""
    return 0.5 * (1 + math.cos(math.pi * course.done(step)))


def _linear(course: Course, step: int) -> float:
    """Fall on a line, to 0 just after the last step."""
    return 1 - course.done(step)


def _inverse_sqrt(course: Course, step: int) -> float:
    """Fall as one over the root of the step, whatever the length of the run (Vaswani et al. 2017, arXiv 1706.03762)."""
    timescale = course.warmup or TIMESCALE_WITHOUT_WARMUP
    return math.sqrt(timescale / (step - 1 - course.warmup + timescale))


def _wsd(course: Course, step: int) -> float:
    """Stay, then fall in the last steps: warmup-stable-decay (Hu et al. 2024, MiniCPM, arXiv 2404.06395).

    "1-sqrt" is 1 - sqrt(share of the decay that is done), the best of the shapes that Hägele et al. tried (2024,
    arXiv 2405.18392, section 3).
    """
    done = (step - 1 - (course.steps - course.decay)) / course.decay if course.decay else -1.0
    if done <= 0:
        return 1.0
    return 1 - (math.sqrt(done) if course.decay_shape == "1-sqrt" else done)


SCHEDULES: dict[ScheduleName, Callable[[Course, int], float]] = {
    "cosine": _cosine,
    "constant": _constant,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _wsd,
}


def scheduled_learning_rate(full: float, schedule: ScheduleName, course: Course, step: int) -> float:
    """Return the learning rate of a step: linear warmup to `full`, then the schedule.

    >>> [scheduled_learning_rate(1.0, "linear", Course(steps=6, warmup=2), step) for step in range(1, 7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step <= course.warmup:
        return full * step / course.warmup
    return full * SCHEDULES[schedule](course, step)
