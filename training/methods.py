"""Methods as lists of stages: one entry in `METHODS` a method.

A stage (`training.stages`) says its inputs and its settings; `seft_bench.stages` runs it.
Every method but ORPO on a base starts from the same SFT policy, stage "start". Defaults are the tinyworld's, tuned on
its tuning questions; recipes for larger models give their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from seft_bench.config import Strict, validate
from seft_bench.errors import unknown_name
from seft_bench.records import Base, Data, Output, Source

from .settings import DraftSettings, TrainSettings
from .stages import (
    Calibrate,
    Decision,
    First,
    LabelPairs,
    Part,
    Revise,
    Revising,
    Sample,
    Shape,
    Stage,
    Statistic,
    Train,
)

INSTRUCTION = "Please revise the answer."


class PretrainSettings(Strict):
    """Language modelling from a fresh initialisation."""

    train: TrainSettings = TrainSettings(
        learning_rate=9e-3,
        epochs=1,
        global_batch_size=24,
        micro_batch_size=24,
        warmup_ratio=0.03,
        weight_decay=0.01,
        adam_betas=(0.9, 0.98),
    )


class SftSettings(Strict):
    """The start of every method: SFT on annotated conversations."""

    start: TrainSettings = TrainSettings(learning_rate=5e-4, epochs=3)


class ChosenSettings(SftSettings):
    """SFT on the good answers of the preference data, from the start."""

    policy: TrainSettings = TrainSettings(learning_rate=1e-3, max_steps=150)


class DpoSettings(SftSettings):
    """DPO on preference pairs, from the start, which is also the reference."""

    policy: TrainSettings = TrainSettings(learning_rate=2e-4, max_steps=150)
    beta: float = Field(default=0.1, gt=0)


class OrpoSettings(SftSettings):
    """ORPO on preference pairs, from the base model, as in the paper, or from the start."""

    policy: TrainSettings = TrainSettings(learning_rate=6e-4, max_steps=150)
    beta: float = Field(default=0.5, gt=0, description="weight of the odds-ratio term, lambda in the paper")
    init: Literal["start", "base"] = "base"


class SeftSettings(SftSettings):
    """SEFT: train a reviser, let it improve the policy's answers to unannotated prompts, learn those; in rounds."""

    instruction: str = Field(default=INSTRUCTION, min_length=1)
    preliminary: TrainSettings = TrainSettings(learning_rate=5e-4, epochs=1)
    label_levels: Literal[2, 3] = 3
    reviser: TrainSettings = TrainSettings(learning_rate=5e-4, epochs=1)
    copies_share: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="share of good answers that the reviser learns to leave alone, by copying them",
    )
    decision: Decision = Field(
        default="likelihood",
        description=(
            "who decides to revise: a threshold, an emitted label, nobody (always rewrite), nobody (never: own drafts)"
        ),
    )
    statistic: Statistic = "mode"
    max_poor_kept: float = Field(
        default=0.1, ge=0, le=1, description="share of poor calibration drafts that the threshold may keep"
    )
    decider: TrainSettings = TrainSettings(learning_rate=1e-3, epochs=3)
    rounds: int = Field(default=2, gt=0)
    evolution: Literal["external", "internal", "internal_then_external"] = Field(
        default="internal_then_external",
        description=(
            "learn revised drafts, or the best of the policy's own samples by keep score, or first the one, then the "
            "other"
        ),
    )
    internal_samples: int = Field(default=8, gt=1)
    prompts: int | None = Field(
        default=None, gt=0, description="unannotated prompts to use in all rounds together; null: all"
    )
    drafts: DraftSettings = DraftSettings()
    policy: TrainSettings = TrainSettings(learning_rate=3e-4, max_steps=150)


class SelfLabelSettings(ChosenSettings):
    """Control: the SFT-on-good-answers model answers the unannotated prompts itself.

    It answers greedily; the policy learns those answers and the good ones.
    """

    policy: TrainSettings = TrainSettings(learning_rate=1e-3, max_steps=150)
    teacher: TrainSettings = TrainSettings(learning_rate=2.5e-4, max_steps=150)
    prompts: int | None = Field(default=None, gt=0)
    drafts: DraftSettings = DraftSettings(temperature=0.0)


START = Output("start")


def _start(settings: SftSettings, checkpoints: int) -> Train:
    return Train("start", Base(), Data("sft"), Shape("answers"), settings.start, checkpoints=checkpoints)


def _good_answers(settings: TrainSettings, checkpoints: int) -> Train:
    return Train("chosen", START, Data("preferences"), Shape("good_answers"), settings, checkpoints=checkpoints)


def pretrain_stages(settings: PretrainSettings, checkpoints: int) -> list[Stage]:
    return [Train("base", Base(), Data("pretrain"), Shape("documents"), settings.train, checkpoints=checkpoints)]


def sft_stages(settings: SftSettings, checkpoints: int) -> list[Stage]:
    return [_start(settings, checkpoints)]


def chosen_stages(settings: ChosenSettings, checkpoints: int) -> list[Stage]:
    return [_start(settings, checkpoints), _good_answers(settings.policy, checkpoints)]


def dpo_stages(settings: DpoSettings, checkpoints: int) -> list[Stage]:
    policy = Train(
        "dpo",
        START,
        Data("preferences"),
        Shape("pairs"),
        settings.policy,
        loss="dpo",
        loss_settings={"beta": settings.beta},
        checkpoints=checkpoints,
        reference=START,
    )
    return [_start(settings, checkpoints), policy]


def orpo_stages(settings: OrpoSettings, checkpoints: int) -> list[Stage]:
    policy = Train(
        "orpo",
        Base() if settings.init == "base" else START,
        Data("preferences"),
        Shape("pairs"),
        settings.policy,
        loss="orpo",
        loss_settings={"beta": settings.beta},
        checkpoints=checkpoints,
    )
    return [policy] if settings.init == "base" else [_start(settings, checkpoints), policy]


def self_label_stages(settings: SelfLabelSettings, checkpoints: int) -> list[Stage]:
    teacher = _good_answers(settings.teacher, checkpoints)
    drafts = Sample(
        "self-drafts", Output(teacher.name), Data("prompts"), settings.drafts, first=First(settings.prompts)
    )
    policy = Train(
        "self-label",
        START,
        Output(drafts.name),
        Shape("drafts_and_good_answers"),
        settings.policy,
        checkpoints=checkpoints,
        preferences=Data("preferences"),
    )
    return [_start(settings, checkpoints), teacher, drafts, policy]


def seft_stages(settings: SeftSettings, checkpoints: int) -> list[Stage]:
    """Start, reviser, then for each round: drafts, revisions, policy."""
    stages = [_start(settings, checkpoints), *_reviser_stages(settings)]
    policy = START
    for number, evolution in enumerate(_evolutions(settings), start=1):
        stages += _round(settings, number, evolution, policy, checkpoints)
        policy = Output(stages[-1].name)
    return stages


REVISER, DECIDER = Output("reviser"), Output("decider")


def _reviser_stages(settings: SeftSettings) -> list[Stage]:
    """Train the two revisers, and the decider where labels decide.

    The preliminary reviser labels the annotated pairs; the adaptive one learns to revise the poor and to copy the good.
    """
    if settings.decision == "never":
        return []
    pairs, instruction, copies = Data("preferences"), settings.instruction, settings.copies_share
    preliminary = Train("preliminary-reviser", Base(), pairs, Shape("revisions", instruction), settings.preliminary)
    labels = LabelPairs("labels", Output(preliminary.name), pairs, settings.label_levels, instruction)
    labelled = Output(labels.name)
    adaptive = Train("reviser", Base(), labelled, Shape("labelled_revisions", instruction, copies), settings.reviser)
    decider = Train("decider", REVISER, labelled, Shape("labels", instruction), settings.decider)
    return [preliminary, labels, adaptive, *([decider] if settings.decision == "token" else [])]


Evolution = Literal["external", "internal"]


def _evolutions(settings: SeftSettings) -> list[Evolution]:
    """Say what each round learns: internal evolution comes first; own drafts (decision: never) are learnt as is."""
    if settings.decision == "never":
        return ["external"] * settings.rounds
    if settings.evolution == "internal_then_external":
        later: list[Evolution] = ["external"] * max(1, settings.rounds - 1)
        return ["internal", *later]
    return [settings.evolution] * settings.rounds


def _round(settings: SeftSettings, number: int, evolution: Evolution, policy: Source, checkpoints: int) -> list[Stage]:
    rounds = len(_evolutions(settings))
    drafts = Sample(
        f"drafts-{number}",
        policy,
        Data("prompts"),
        settings.drafts,
        samples=settings.internal_samples if evolution == "internal" else 1,
        first=First(settings.prompts),
        part=Part(number - 1, rounds),
    )
    decision = "best_sample" if evolution == "internal" else settings.decision
    calibration = _calibration(settings, number, policy) if decision in ("likelihood", "token") else []
    revised = Revise(
        f"revised-{number}",
        Output(drafts.name),
        decision,
        _revising(settings),
        reviser=None if decision == "never" else REVISER,
        decider=_decider(settings),
        calibration=Output(calibration[-1].name) if calibration else None,
    )
    step = settings.policy.model_copy(update={"max_steps": _part_of_steps(settings, number, rounds)})
    train = Train(f"policy-{number}", policy, Output(revised.name), Shape("drafts"), step, checkpoints=checkpoints)
    return [drafts, *calibration, revised, train]


def _part_of_steps(settings: SeftSettings, number: int, rounds: int) -> int | None:
    """Return a round's share of the policy's steps, so that more rounds do not mean more training."""
    total = settings.policy.max_steps
    return None if total is None else max(1, round(total * number / rounds) - round(total * (number - 1) / rounds))


def _calibration(settings: SeftSettings, number: int, policy: Source) -> list[Stage]:
    """Calibrate each round anew, on annotated prompts that no policy was trained on, with drafts drawn as at use."""
    drafts = Sample(f"calibration-drafts-{number}", policy, Data("calibration"), settings.drafts)
    threshold = Calibrate(
        f"calibration-{number}",
        REVISER,
        Output(drafts.name),
        settings.decision,
        settings.max_poor_kept,
        _revising(settings),
        decider=_decider(settings),
    )
    return [drafts, threshold]


def _decider(settings: SeftSettings) -> Source | None:
    return DECIDER if settings.decision == "token" else None


def _revising(settings: SeftSettings) -> Revising:
    """Revisions are greedy: at temperature 1 they flatter the draft and give a worse policy."""
    drafts = settings.drafts
    return Revising(settings.statistic, settings.instruction, drafts.max_new_tokens, drafts.batch_size)


@dataclass(frozen=True)
class Method:
    """A method: its settings class, its stages, one sentence, and the data sets that it reads."""

    settings: type[Strict]
    stages: Callable[[Any, int], list[Stage]]
    summary: str
    data: tuple[str, ...]


METHODS: dict[str, Method] = {
    "pretrain": Method(
        PretrainSettings, pretrain_stages, "language modelling from scratch (makes the tinyworld's base)", ("pretrain",)
    ),
    "sft": Method(SftSettings, sft_stages, "SFT on annotated conversations: the start of every other method", ("sft",)),
    "sft-chosen": Method(
        ChosenSettings, chosen_stages, "SFT on the good answers of the preference data", ("sft", "preferences")
    ),
    "dpo": Method(DpoSettings, dpo_stages, "direct preference optimisation (arXiv 2305.18290)", ("sft", "preferences")),
    "orpo": Method(
        OrpoSettings, orpo_stages, "odds-ratio preference optimisation (arXiv 2403.07691)", ("sft", "preferences")
    ),
    "seft": Method(
        SeftSettings,
        seft_stages,
        "self-evolution fine-tuning with an adaptive reviser (arXiv 2406.10813, our reading)",
        ("sft", "preferences", "calibration", "prompts"),
    ),
    "self-label": Method(
        SelfLabelSettings,
        self_label_stages,
        "control: the SFT-on-good-answers model labels the unannotated prompts itself",
        ("sft", "preferences", "prompts"),
    ),
}


def find_method(name: str) -> Method:
    """Look a method up.

    Raises:
        InputError: naming the known methods.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, "See `seft-bench methods list`.")
    return METHODS[name]


def build_stages(method: str, settings: Mapping[str, Any], checkpoints: int) -> list[Stage]:
    """Check a method's settings and build its stages.

    Raises:
        InputError: unknown method, or wrong settings, all of them at once.
    """
    entry = find_method(method)
    merged = merge_settings(entry.settings().model_dump(exclude_none=True), settings)
    return entry.stages(validate(merged, entry.settings, f"settings of method {method!r}"), checkpoints)


def merge_settings(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what was given over the defaults, at every depth: `policy: {learning_rate: 2e-4}` keeps the other defaults.

    `epochs` and `max_steps` exclude each other, so one that is given takes the other's default away.
    """
    merged = dict(defaults)
    for one, other in (("epochs", "max_steps"), ("max_steps", "epochs")):
        if given.get(one) is not None:
            merged.pop(other, None)
    for key, value in given.items():
        below = merged.get(key)
        merged[key] = (
            merge_settings(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return merged
