"""The records that flow between stages: frozen, documented, the same words everywhere.

`question_id` of AlpacaEval-like suites derives from the instruction (`instruction_id`), never from a position.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from seft_bench.texts import utf8

Row = dict[str, Any]
"""A JSON object: one line of a file of rows."""

Message = dict[str, str]
"""One chat message: `{"role": "system" | "user" | "assistant", "content": text}`."""

Status = Literal["ok", "parse_error", "api_error", "refused", "over_length"]
STATUSES: tuple[Status, ...] = ("ok", "parse_error", "api_error", "refused", "over_length")

AnswerStatus = Literal["ok", "empty", "refused", "cut", "over_length", "partial", "api_error"]
"""What came of one turn of an answer.

    ok           a text
    empty        nothing, though no fault is known
    refused      a refusal, or a content filter: nothing
    cut          at the limit of tokens, perhaps before a word of the answer
    over_length  the prompt did not fit: nothing came
    partial      a text that an error cut short
    api_error    an error in place of a text
"""
ANSWERED: tuple[AnswerStatus, ...] = ("ok", "empty", "refused", "cut")
"""Statuses that are final, and judged; a turn of any other status has no answer, and is asked again."""
UNANSWERED: tuple[AnswerStatus, ...] = ("over_length", "partial", "api_error")

LOWEST_GRADE, HIGHEST_GRADE = 1.0, 10.0
FASTCHAT_SCORE = "fastchat_score"
"""Key of `Judgment.details` for the grade that FastChat itself reads, where it is another one than ours, or none."""

MINIMUM_COVERAGE = 0.98
"""Share of questions that must be scored before a figure may be published."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a suite.

    Attributes:
        suite: name of the suite.
        id: key of the question; `instruction_id(turns[0])` in AlpacaEval-like suites.
        category: name of the category ("math"), "" where the suite has none.
        turns: the user's turns, in order.
        reference: reference answers: one a turn for graded suites (may be empty), for pairwise suites the one answer
            that the model's answer is compared with.
        metadata: suite's own extras ("dataset", "annotated").
    """

    suite: str
    id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to every turn of one question.

    Attributes:
        turns: answer texts, one a turn.
        messages: the messages as really sent for the last turn (so all turns but the last answer are in it).
        finish_reasons: "stop" or "length", one a turn ("" where unknown).
        prompt_tokens, completion_tokens: one a turn (empty where unknown).
        decoding: name of the decoding ("sampled", "greedy", "official", "given").
        decoding_hash: hash of the decoding's settings.
        statuses: an `AnswerStatus` a turn; empty in rows of earlier versions (`answers.statuses_of`).
        reasoning: the model's reasoning as it was written, one a turn; it is neither judged nor counted in lengths.
            Empty where there is none.
        why: what the server said where a turn has no answer.
        drafts: of an aligner's answer what its policy wrote, one a turn, before the reviser; nobody judges it.
    """

    suite: str
    question_id: str
    model_id: str
    turns: tuple[str, ...]
    messages: tuple[Message, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    prompt_tokens: tuple[int, ...] = ()
    completion_tokens: tuple[int, ...] = ()
    decoding: str = "given"
    decoding_hash: str = ""
    statuses: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    why: str = ""
    drafts: tuple[str, ...] = ()


def preference_key(question_id: str, turn: int, candidate_first: bool) -> str:
    """Key of a comparison within one model's judgments."""
    return f"{question_id}/{turn}/preference/{'candidate-first' if candidate_first else 'candidate-second'}"


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A request to a judge; it never says which model or method wrote an answer.

    Attributes:
        kind: "grade" (one answer, 1-10) or "preference" (two answers, in [1, 2]; 2: the candidate wins).
        turn: the turn to judge, from 1; turn 2 is judged with turn 1 before it.
        candidate: the answer texts to judge, one a turn up to `turn`.
        baseline: the answer texts to compare with, one a turn up to `turn` (preferences only).
        candidate_first: order in which a preference judge is shown the two.
        repeat: 0, or which repetition on purpose this is: the judge is asked anew, and no stored response of another
            repeat serves it.
    """

    kind: Literal["grade", "preference"]
    question: Question
    turn: int
    candidate: tuple[str, ...]
    baseline: tuple[str, ...] = ()
    candidate_first: bool = False
    repeat: int = 0

    @property
    def key(self) -> str:
        """Key within one model's judgments."""
        key = (
            f"{self.question.id}/{self.turn}/grade"
            if self.kind == "grade"
            else preference_key(self.question.id, self.turn, self.candidate_first)
        )
        return f"{key}/repeat-{self.repeat}" if self.repeat else key

    @property
    def answer_hash(self) -> str:
        """Hash of every answer text that is judged: the candidate's turns, then the baseline's."""
        return text_hash(*self.candidate, *self.baseline)


@dataclass(frozen=True, slots=True)
class Judgment:
    """One verdict. `score` and `preference` are None unless `status` is "ok".

    Attributes:
        key: `JudgeRequest.key`.
        answer_hash: hash of the texts that were judged: a changed answer is judged again.
        judge_id: name of the judge and hash of its settings.
        requested_model, returned_model: as sent, and as the server said.
        prompt_hash: hash of the rendered prompt ("" for judges without one).
        order: "single", "candidate_first" or "candidate_second".
        score: grade 1-10.
        preference: in [1, 2], 2 means that the candidate wins.
        raw: the judge's reply.
        details: parts of the verdict ({"content": 0.5, ...}, log-probabilities).
        price_usd: None where unknown, never invented.
    """

    suite: str
    question_id: str
    model_id: str
    turn: int
    key: str
    answer_hash: str
    judge_id: str
    requested_model: str
    returned_model: str
    prompt_hash: str
    order: str
    status: Status
    score: float | None = None
    preference: float | None = None
    raw: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_seconds: float | None = None
    price_usd: float | None = None
    judged_at: str = ""


def is_grade(score: float) -> bool:
    return LOWEST_GRADE <= score <= HIGHEST_GRADE


def on_the_scale(judgment: Judgment) -> Judgment:
    """Return the judgment; one whose grade lies beyond 1-10 as a parse error.

    What was recorded elsewhere (it has no hash of a prompt of ours) keeps a grade below 1, which FastChat reads out of
    code (`x[0]`): its published figures hold some.
    """
    lowest = LOWEST_GRADE if judgment.prompt_hash else 0.0
    if judgment.status != "ok" or judgment.score is None or lowest <= judgment.score <= HIGHEST_GRADE:
        return judgment
    details = {FASTCHAT_SCORE: judgment.score, **judgment.details}
    return dataclasses.replace(judgment, status="parse_error", score=None, details=details)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The training run behind a checkpoint, or what stands for it behind a control without a model.

    Attributes:
        row: name of its row in the matrix; of a run outside a matrix the run's own.
        label: the row's name in tables.
        role: "start", "method", "ablation" or "control".
        method: what trained it ("seft").
        seed: of the training; 0 for a control.
        step: of the checkpoint, counted from the start of the policy's training.
        final: True for the run's last checkpoint, and for a control.
        steps: of the whole run, stages shared with other runs included, as in all costs; None for a control.
        unannotated_prompts: that the run used.
        tokens_trained: that its stages trained on.
        tokens_generated: drafts, revisions and whatever else its stages sample, stop tokens included.
        cpu_seconds: of all its stages.
        annotated_pairs, annotated_labels, annotated_conversations: distinct rows of its data that its stages read:
            preference pairs, single answers called good or bad, and answers to be learnt (of the start, mostly).
        judge_calls, judge_usd: of grading for the training; diagnostics are none.
        gpu_seconds: wall time of its stages, times the GPUs of each.
        control: name of the control without a model ("constant"); "" for what was trained.
        base: name of the run's base, where its matrix has several; else "".
        data: name of its data set, where its matrix has several; else "".
    """

    row: str
    label: str
    role: str
    method: str
    seed: int
    step: int
    final: bool
    steps: int | None = None
    unannotated_prompts: int | None = None
    tokens_trained: int | None = None
    tokens_generated: int | None = None
    cpu_seconds: float | None = None
    annotated_pairs: int | None = None
    annotated_labels: int | None = None
    annotated_conversations: int | None = None
    judge_calls: int | None = None
    judge_usd: float | None = None
    gpu_seconds: float | None = None
    control: str = ""
    base: str = ""
    data: str = ""

    @property
    def group(self) -> str:
        """Base and data in a matrix that has several, else "": methods are compared within a group."""
        return ", ".join(name for name in (self.base, self.data) if name)


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one model on one suite.

    Attributes:
        metrics: flat, named as in the suite's documentation; intervals stand beside their figure ("lc_low", "lc_high");
            None where a figure cannot be given.
        notes: how figures were made, and anything a reader must know, one sentence each.
        n, n_scored, n_unscored: judgments expected, with status ok, and the rest.
        withheld: coverage of judgments or answers is under 98 %, so the figures are shown but must not be ranked.
        answers: what became of the turns to be answered: "n", "coverage", "cut_share", "empty_share", "refused", and
            "statuses" with their counts; {} where no answers are at hand.
        per_question: question id -> the figure that enters the mean (for paired comparison).
        parts: part of a verdict ("content") -> question id -> its mean over the question's judgments; empty where the
            judge reports no parts.
        covariates: of a length-controlled win rate, so that it can be fitted again and compared in pairs:
            "length_difference" (characters) and "lc_influence" (percent, see `stats.length_control`) -> question id ->
            value.
        run: the training run behind a checkpoint; None for models that we did not train.
    """

    suite: str
    model: str
    metrics: Mapping[str, Any]
    n: int
    n_scored: int
    n_unscored: int
    coverage: float
    withheld: bool
    judge_id: str = ""
    decoding: str = "given"
    notes: tuple[str, ...] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    per_question: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    covariates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    run: RunFacts | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)


def run_of(result: Result) -> RunFacts:
    """Return the run behind a result of a matrix or a control, which has one.

    Raises:
        ValueError: it has none; callers choose the results that have.
    """
    if result.run is None:
        raise ValueError(f"no training run is known behind {result.model!r} on {result.suite!r}")
    return result.run


@dataclass(frozen=True, slots=True)
class Manifest:
    """Record of how something was made.

    Times are ISO 8601 in UTC; `parents` maps a role to the fingerprint of an input.
    """

    command: str
    config: Mapping[str, Any]
    config_hash: str
    git_commit: str
    git_dirty: bool | None
    packages: Mapping[str, str]
    data_hashes: Mapping[str, str]
    seed: int
    hardware: Mapping[str, Any]
    started_at: str
    ended_at: str
    parents: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Base:
    """Input of a stage: the base model that the recipe names."""

    def __str__(self) -> str:
        return "base"


@dataclass(frozen=True, slots=True)
class Data:
    """Input of a stage: a data set."""

    name: str

    def __str__(self) -> str:
        return f"data:{self.name}"


@dataclass(frozen=True, slots=True)
class Output:
    """Input of a stage: what an earlier stage of the method made, its last checkpoint or its rows."""

    stage: str

    def __str__(self) -> str:
        return f"stage:{self.stage}"


@dataclass(frozen=True, slots=True)
class Model:
    """Input of a stage: a model that is ready, by its folder (an adapter's too) or its hub id."""

    name: str

    def __str__(self) -> str:
        return f"model:{self.name}"


Source = Base | Data | Output | Model
"""Where an input of a stage comes from; the stages themselves stand in `training.stages`."""


RecordT = TypeVar("RecordT")


def to_row(record: Any) -> dict[str, Any]:
    """A record as a JSON-ready dict."""
    return dataclasses.asdict(record)


def from_row(kind: type[RecordT], row: Mapping[str, Any]) -> RecordT:
    """The record of a dict: unknown keys are dropped (newer files stay readable), lists become tuples.

    Raises:
        ValueError: a key is missing, or holds another kind of value than the record has.
    """
    known = _kinds(cast("Hashable", kind))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known}
    for name, value in values.items():
        fits, expected = known[name]
        if not fits(value):
            raise ValueError(f"{name} is {str(row[name])[:40]!r} ({type(row[name]).__name__}); {expected}")
    if missing := [name for name in _needed(cast("Hashable", kind)) if name not in values]:
        raise ValueError(f"{', '.join(missing)} is missing")
    return kind(**values)


@lru_cache(maxsize=16)
def _needed(kind: Any) -> tuple[str, ...]:
    """Name a record's fields without a default."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return tuple(item.name for item in fields if item.default is missing and item.default_factory is missing)


@lru_cache(maxsize=16)
def _kinds(kind: Any) -> dict[str, tuple[Callable[[Any], bool], str]]:
    """Map a record's fields to what tells their values, and to what messages say of these."""
    return {name: (_test_of(hint), _in_words(hint)) for name, hint in get_type_hints(kind).items()}


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"allowed are {', '.join(get_args(hint))}"
    return f"expected is {getattr(hint, '__name__', hint) if not get_args(hint) else hint}"


def _test_of(hint: Any) -> Callable[[Any], bool]:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda _: True
    if origin is Literal:
        return lambda value: value in inner
    if origin in (Union, UnionType):
        tests = [_test_of(part) for part in inner]
        return lambda value: any(test(value) for test in tests)
    if origin is tuple:
        item = _test_of(inner[0])
        return lambda value: type(value) is tuple and all(map(item, value))
    if origin in (Mapping, dict):
        below = _test_of(inner[1])
        return lambda value: type(value) is dict and all(map(below, value.values()))
    if hint is float:
        return lambda value: type(value) in (float, int)
    return lambda value: isinstance(value, hint) and (hint is not int or type(value) is int)


_ONLY_WHERE_THEY_APPLY = ("control", "base", "data")
COSTS = (
    "unannotated_prompts annotated_pairs annotated_labels annotated_conversations steps tokens_trained "
    "tokens_generated judge_calls judge_usd cpu_seconds gpu_seconds"
).split()
"""Fields of `RunFacts` that say what training took; None is not known."""
_FIRST_COSTS = ("unannotated_prompts", "steps", "tokens_trained", "tokens_generated", "cpu_seconds")
_EVERY_RUN_SAYS = ("row", "label", "role", "method", "seed", "step", "final")


def run_to_row(run: RunFacts | None) -> Row:
    """Return a run as `result.json` holds it: {} where there is none, and keys that do not apply left out."""
    if run is None:
        return {}
    later = [cost for cost in COSTS if cost not in _FIRST_COSTS and getattr(run, cost) is None]
    unsaid = {*later, *(key for key in _ONLY_WHERE_THEY_APPLY if not getattr(run, key))}
    return {key: value for key, value in to_row(run).items() if key not in unsaid}


def run_from_row(row: Mapping[str, Any] | None) -> RunFacts | None:
    """Return the run of a `result.json`; None where it names none, or lacks what every run of ours says."""
    return from_row(RunFacts, row) if row and all(key in row for key in _EVERY_RUN_SAYS) else None


@lru_cache(maxsize=4096)  # every file of a question set asks for the same ones
def instruction_id(instruction: str) -> str:
    """Key of a question by its text: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(utf8(instruction)).hexdigest()[:16]


# Seeding the generator is most of the time of scoring, and a table of models asks for the same again and again.
@lru_cache(maxsize=4096)
def candidate_first(instruction: str) -> bool:
    """Return whether the judge is shown the candidate first: alpaca_eval's seed rule (`annotators/base.py`, 0.6.6)."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


@lru_cache(maxsize=1024)  # a judgment read back and the request that it answers hash the same texts
def text_hash(*texts: str) -> str:
    """Hash of several texts, in order, unambiguous about where one ends."""
    digest = hashlib.sha256()
    for text in texts:
        data = utf8(text)
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]
