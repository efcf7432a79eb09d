"""Learning-rate schedules by hand, against transformers' where the two agree, and the rhythm of saved states."""

from __future__ import annotations

from typing import Any

import pytest

from seft_bench.config import validate
from seft_bench.errors import InputError
from training.saving import StateRhythm
from training.schedules import SCHEDULES
from training.settings import TrainSettings, course_of, learning_rate_at


def curve(steps: int, **given: Any) -> list[float]:
    settings = plan(**given)
    return [learning_rate_at(settings, step, steps) for step in range(1, steps + 1)]


def plan(**given: Any) -> TrainSettings:
    return validate({"learning_rate": 1.0, "epochs": 1, **given}, TrainSettings, "training settings")


def test_the_learning_rate_rises_over_the_warmup_and_falls_as_a_cosine() -> None:
    """20 steps, warmup 2: half, full, then 0.5 (1 + cos(pi k / 18)) for k = 0..17; at k = 9 that is one half."""
    cosine = curve(20)
    assert cosine[:3] == [0.5, 1.0, 1.0]
    assert cosine[11] == pytest.approx(0.5)
    assert cosine[19] == pytest.approx(0.0075961, abs=1e-6)  # 0.5 (1 + cos(17 pi / 18))
    assert cosine[2:] == sorted(cosine[2:], reverse=True)
    assert curve(20, warmup_ratio=0.0)[0] == 1.0


def test_constant_linear_and_inverse_square_root() -> None:
    assert curve(20, schedule="constant")[:3] == [0.5, 1.0, 1.0]
    assert set(curve(20, schedule="constant")[1:]) == {1.0}
    assert curve(6, schedule="linear", warmup_steps=2) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    # Warmup 4: sqrt(4 / (step - 1)), which is a half at step 17, whatever the length of the run.
    for steps in (17, 100):
        falling = curve(steps, schedule="inverse_sqrt", warmup_steps=4)
        assert falling[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
        assert falling[16] == 0.5
    assert curve(3, schedule="inverse_sqrt", warmup_steps=0)[0] == 1.0


def test_warmup_stable_decay() -> None:
    """10 steps, 1 of warmup, the last 4 decay: 1, 3/4, 1/2, 1/4; or 1 - sqrt(k / 4): 1, 1/2, 0.2929, 0.1340."""
    wsd = {"schedule": "wsd", "warmup_steps": 1, "decay_ratio": 0.4}
    assert curve(10, **wsd) == [1.0] * 7 + [0.75, 0.5, 0.25]
    rooted = curve(10, **wsd, decay_shape="1-sqrt")
    assert rooted[:8] == [1.0] * 7 + [0.5]
    assert rooted[8:] == pytest.approx([0.292893, 0.133975], abs=1e-6)
    # The ratios' steps are rounded up: 1 and 3 of 3 steps; the decay takes what warmup leaves.
    assert curve(3, schedule="wsd", warmup_ratio=0.1, decay_ratio=0.9) == [1.0, 1.0, 0.5]


def test_warmup_steps_go_before_the_ratio_and_must_leave_some() -> None:
    assert curve(10, warmup_ratio=0.5, warmup_steps=1)[:2] == [1.0, 1.0]
    for given, message in (
        ({"warmup_steps": 10}, r"10 warmup_steps do not fit into the run's 10 steps"),
        ({"warmup_steps": 8, "schedule": "wsd", "decay_ratio": 0.3}, r"8 warmup_steps and 3 of decay do not fit"),
    ):
        with pytest.raises(InputError, match=message):
            course_of(plan(**given), 10)


def test_after_warmup_every_schedule_is_that_of_transformers() -> None:
    """In warmup transformers is one step behind: it takes its first step with a learning rate of 0."""
    import torch
    from transformers import optimization

    steps, warmup = 40, 8
    decays = {"num_decay_steps": 12, "num_stable_steps": steps - warmup - 12}
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = {
        ("cosine", ""): optimization.get_cosine_schedule_with_warmup(optimizer, warmup, steps),
        ("constant", ""): optimization.get_constant_schedule_with_warmup(optimizer, warmup),
        ("linear", ""): optimization.get_linear_schedule_with_warmup(optimizer, warmup, steps),
        ("inverse_sqrt", ""): optimization.get_inverse_sqrt_schedule(optimizer, warmup),
        **{
            ("wsd", shape): optimization.get_wsd_schedule(optimizer, warmup, **decays, decay_type=shape)
            for shape in ("linear", "1-sqrt")
        },
    }
    assert {name for name, _ in theirs} == set(SCHEDULES)
    for (name, shape), scheduler in theirs.items():
        expected = [scheduler.lr_lambdas[0](step - 1) for step in range(1, steps + 1)]
        ours = curve(steps, schedule=name, warmup_steps=warmup, decay_ratio=0.3, **{"decay_shape": shape or "linear"})
        assert ours[warmup:] == pytest.approx(expected[warmup:], rel=1e-12), name
        assert [expected[0], ours[0]] == [0.0, 1 / warmup]


# --- when the state is saved


class Clock:
    """Seconds that pass only when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def saves(rhythm: StateRhythm, clock: Clock, steps: int, step_seconds: float, save_seconds: float) -> list[float]:
    """Moments at which the state was saved, of steps and saves that take so long."""
    moments = []
    for step in range(1, steps + 1):
        clock.now += step_seconds
        if rhythm.is_due(step, at_checkpoint=False):
            moments.append(clock.now)
            with rhythm.measured():
                clock.now += save_seconds
    return moments


def test_the_state_is_saved_by_the_clock_and_the_first_one_soon() -> None:
    """Steps of 10 seconds, saves of 1: after a minute, then every ten minutes after the end of the last save."""
    clock = Clock()
    assert saves(StateRhythm(600, seconds=clock), clock, 140, 10, 1) == [60, 661, 1262]
    clock = Clock()
    assert saves(StateRhythm(20, seconds=clock), clock, 6, 10, 1) == [20, 41, 62]


def test_saving_takes_at_most_a_twentieth_of_the_time() -> None:
    """Saves of 100 seconds: the second waits until two make a twentieth of 4,000 seconds, the third for 6,000."""
    clock = Clock()
    moments = saves(StateRhythm(600, seconds=clock), clock, 900, 10, 100)
    assert moments[:4] == [60, 4000, 6000, 8000]
    assert len(moments) * 100 <= 0.05 * clock.now


def test_a_checkpoint_is_a_moment_to_save_where_time_allows() -> None:
    clock = Clock()
    rhythm = StateRhythm(600, seconds=clock)
    clock.now = 5
    assert rhythm.is_due(1, at_checkpoint=True)
    with rhythm.measured():
        clock.now += 10
    assert not rhythm.is_due(2, at_checkpoint=True)  # two such saves are more than a twentieth of 15 seconds
    clock.now = 400
    assert rhythm.is_due(3, at_checkpoint=True)


def test_saves_can_be_forced_by_steps() -> None:
    rhythm = StateRhythm(600, every_steps=3, seconds=Clock())
    assert [step for step in range(1, 10) if rhythm.is_due(step, at_checkpoint=step == 4)] == [3, 4, 6, 9]
