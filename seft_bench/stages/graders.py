"""Judges that grade samples for trainings: which can, how they are opened, and what they would still be asked.

Where their replies are kept, what they are paid, and whether anybody agreed to it is handed in from above: a training
asks a server only after that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.config import JudgeConfig, load_judge, shipped
from seft_bench.errors import InputError
from seft_bench.files import sha256_json
from seft_bench.inference.budget import Budget, meter
from seft_bench.judges import Judge, open_judge
from seft_bench.records import JudgeRequest, Message, Question, Row
from seft_bench.stages import door

if TYPE_CHECKING:
    from seft_bench.stages.door import stages

SUITE = "samples"
JUDGMENTS = "judgments.jsonl"
"""In a grade stage's folder: every judgment, the moment that it arrives."""

REPLIES = "replies.jsonl"
"""The same of a policy that grades in words: its replies."""

Sampled = tuple[Sequence[Message], str]
"""A prompt, and one answer to it."""


def of_filled(sampled: Sequence[Sampled], score: Callable[[list[Sampled]], Iterable[float]]) -> list[float | None]:
    """Score the samples that say something, in their order; an empty one has no grade."""
    scores = iter(score([(prompt, text) for prompt, text in sampled if text.strip()]))
    return [next(scores) if text.strip() else None for _, text in sampled]


@dataclass(frozen=True)
class Graded:
    """Grades of samples, in their order.

    Attributes:
        by: who gave them.
        grades: None where there is none.
        without: why there is none -> how many.
        facts: what the stage's record says beyond counts.
        advice: what to do where there are too few; "" where that depends on why.
    """

    by: str
    grades: Sequence[float | None]
    without: Counter[str]
    facts: Row = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True)
class ToGrade:
    """What a judge would be asked for one stage.

    Attributes:
        wanted: grades in all.
        open_ones: requests without a good verdict; where the samples are not drawn yet, texts as long as they may
            become stand for them.
    """

    stage: str
    judge: Judge
    wanted: int
    open_ones: Sequence[JudgeRequest]


LeftToGrade = Callable[[], list[ToGrade]]
"""Looks up what is left to grade, now."""


def nobody_agreed(left: LeftToGrade) -> None:
    """Refuse to ask a server.

    Raises:
        InputError: a judge would ask one.
    """
    if asking := [item for item in left() if item.judge.client]:
        raise InputError(
            f"stage {asking[0].stage!r}: judge {asking[0].judge.id} asks a server, and nobody agreed to what that may "
            "cost. `seft-bench train` and `seft-bench bench` ask"
        )


class Graders:
    """The judges that grade for one command, each opened when it is first asked for.

    Args:
        store: the response store; None keeps nothing.
        budget: what judges are paid counts into it.
        agree: is told, before anything is trained, what servers would be asked, and raises where that may not be.
    """

    def __init__(
        self,
        store: Path | None = None,
        budget: Budget | None = None,
        agree: Callable[[LeftToGrade], None] = nobody_agreed,
    ) -> None:
        self._store, self._budget, self.agree = store, budget or Budget(), agree
        self._opened: dict[str, Judge] = {}

    def judge(self, name: str) -> Judge:
        if name not in self._opened:
            config = grading_judge(name)
            if self._store:
                self._store.parent.mkdir(parents=True, exist_ok=True)
            judge = self._opened[name] = open_judge(config, self._store)
            meter(judge.client, judge.price, self._budget)
        return self._opened[name]

    def close(self) -> None:
        """Give back what the judges hold: their servers, where those are ours."""
        for judge in self._opened.values():
            judge.close()


def grading_judge(name: str) -> JudgeConfig:
    """Load the config of a judge that can grade single answers.

    Raises:
        InputError: there is no such judge, or it cannot.
    """
    try:
        config = load_judge(name)
    except InputError as error:
        raise InputError(f"grader: {error}. {_others()}") from None
    if config.kind == "replay":
        raise InputError(f"grader: judge {name} repeats recorded verdicts, and samples are new. {_others()}")
    if config.kind == "reward-model" and config.calibration is None:
        raise InputError(
            f"grader: judge {name} can only compare: a reward has no scale, and its YAML names no graded answers "
            f"(`calibration`, docs/add-a-judge.md). {_others()}"
        )
    return config


LIVE_KINDS = ("rubric", "reward-model", "transformers")
"""Kinds of judges that can be asked in every step of a training: in this process, at no price."""


def live_judge(name: str) -> JudgeConfig:
    """Load the config of a judge that can grade while a policy trains.

    Raises:
        InputError: as `grading_judge`, or it asks a server.
    """
    config = grading_judge(name)
    if config.kind not in LIVE_KINDS:
        raise InputError(
            f"grader: judge {name} is of kind {config.kind}, which asks a server, and an online method asks in every "
            f"step: give a judge of kind {', '.join(LIVE_KINDS)}, a likelihood, or a method that samples by rounds "
            "(iterative-dpo, best-of-n)"
        )
    return config


def _others() -> str:
    return (
        f"Samples are graded by their likelihood ({', '.join(door.graders.LIKELIHOODS)}), or by a judge of kind "
        "rubric (the tinyworld's samples only), openai, vllm, transformers, or reward-model with `calibration`"
    )


def judge_identity(name: str) -> Row:
    """Say which judge it is, by its id and its weights: a stage's name is made of it.

    Raises:
        InputError: as `grading_judge`, or a file of the judge is missing.
    """
    judge = open_judge(grading_judge(name), None)
    try:
        return {"id": judge.id, "weights": judge.weights_fingerprint}
    finally:
        judge.close()


def check_judges(plan: Sequence[stages.Stage]) -> None:
    """Refuse judges that cannot grade a method's samples.

    Raises:
        InputError: as `grading_judge`.
    """
    for name in dict.fromkeys(filter(None, map(door.stages.grader_of, plan))):
        grading_judge(name)


def judge_contents(plan: Sequence[stages.Stage]) -> dict[str, str]:
    """Hash the YAML files of the judges that grade for a method, by "grader/FILE"; those that are not there are left
    out, and a shipped judge's name says all.
    """
    found = {}
    for name in dict.fromkeys(filter(None, map(door.stages.grader_of, plan))):
        if name not in shipped("judges") and Path(name).is_file():
            found[f"grader/{name}"] = sha256_json(load_judge(name).model_dump(mode="json"))
    return found


def grade_requests(sampled: Sequence[Sampled], first: int = 0) -> list[JudgeRequest]:
    """Make the request for each sample. The judge sees the conversation and the answer, nothing else.

    Args:
        first: number of the first one.
    """
    return [_request(number, prompt, answer) for number, (prompt, answer) in enumerate(sampled, start=first)]


def _request(number: int, prompt: Sequence[Message], answer: str) -> JudgeRequest:
    turns = tuple(message["content"] for message in prompt if message["role"] == "user")
    earlier = tuple(message["content"] for message in prompt if message["role"] == "assistant")
    return JudgeRequest("grade", Question(SUITE, f"{number:06d}", "", turns), len(turns), (*earlier, answer))
