"""Methods as lists of stages: one entry in `METHODS` a method.

A stage names its inputs ("base", "data:preferences", "stage:start") and its settings; `seft_bench.stages` runs it.
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
from seft_bench.records import Stage

INSTRUCTION = "Please revise the answer."


class TrainStep(Strict):
    """Hyperparameters of one training stage; names as in `training.settings.TrainSettings`."""

    learning_rate: float = Field(gt=0)
    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, gt=0)
    global_batch_size: int = Field(default=16, gt=0)
    micro_batch_size: int = Field(default=16, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, gt=0)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"


class PretrainSettings(Strict):
    """Language modelling from a fresh initialisation."""

    train: TrainStep = TrainStep(
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

    start: TrainStep = TrainStep(learning_rate=5e-4, epochs=3)


class ChosenSettings(SftSettings):
    """SFT on the good answers of the preference data, from the start."""

    policy: TrainStep = TrainStep(learning_rate=1e-3, max_steps=150)


class DpoSettings(SftSettings):
    """DPO on preference pairs, from the start, which is also the reference."""

    policy: TrainStep = TrainStep(learning_rate=2e-4, max_steps=150)
    beta: float = Field(default=0.1, gt=0)


class OrpoSettings(SftSettings):
    """ORPO on preference pairs, from the base model, as in the paper, or from the start."""

    policy: TrainStep = TrainStep(learning_rate=6e-4, max_steps=150)
    beta: float = Field(default=0.5, gt=0, description="weight of the odds-ratio term, lambda in the paper")
    init: Literal["start", "base"] = "base"


class DraftSettings(Strict):
    """How a policy answers unannotated prompts."""

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=64, gt=0)
    batch_size: int = Field(default=128, gt=0)


class SeftSettings(SftSettings):
    """SEFT: train a reviser, let it improve the policy's answers to unannotated prompts, learn the result; round after
    round.
    """

    instruction: str = Field(default=INSTRUCTION, min_length=1)
    preliminary: TrainStep = TrainStep(learning_rate=5e-4, epochs=1)
    label_levels: Literal[2, 3] = 3
    reviser: TrainStep = TrainStep(learning_rate=5e-4, epochs=1)
    copies_share: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="share of good answers that the reviser learns to leave alone, by copying them",
    )
    decision: Literal["likelihood", "token", "always", "never"] = Field(
        default="likelihood",
        description=(
            "who decides to revise: a threshold, an emitted label, nobody (always rewrite), nobody (never: own drafts)"
        ),
    )
    statistic: Literal["keep", "mode"] = "mode"
    max_poor_kept: float = Field(
        default=0.1, ge=0, le=1, description="share of poor calibration drafts that the threshold may keep"
    )
    decider: TrainStep = TrainStep(learning_rate=1e-3, epochs=3)
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
    policy: TrainStep = TrainStep(learning_rate=3e-4, max_steps=150)


class SelfLabelSettings(ChosenSettings):
    """Control: the SFT-on-good-answers model answers the unannotated prompts greedily; the policy learns those and the
    good answers.
    """

    policy: TrainStep = TrainStep(learning_rate=1e-3, max_steps=150)
    teacher: TrainStep = TrainStep(learning_rate=2.5e-4, max_steps=150)
    prompts: int | None = Field(default=None, gt=0)
    drafts: DraftSettings = DraftSettings(temperature=0.0)


def _train(
    name: str,
    shape: str,
    step: TrainStep,
    inputs: Mapping[str, str],
    checkpoints: int = 1,
    loss: str = "sft",
    loss_settings: Mapping[str, float] | None = None,
    shape_settings: Mapping[str, Any] | None = None,
) -> Stage:
    train = {
        **step.model_dump(exclude_none=True),
        "loss": loss,
        "checkpoints": checkpoints,
        "loss_settings": dict(loss_settings or {}),
    }
    return Stage(name, "train", dict(inputs), {"shape": shape, "train": train, **(shape_settings or {})})


def _start(settings: SftSettings, checkpoints: int) -> Stage:
    return _train("start", "answers", settings.start, {"model": "base", "data": "data:sft"}, checkpoints)


def pretrain_stages(settings: PretrainSettings, checkpoints: int) -> list[Stage]:
    return [_train("base", "documents", settings.train, {"model": "base", "data": "data:pretrain"}, checkpoints)]


def sft_stages(settings: SftSettings, checkpoints: int) -> list[Stage]:
    return [_start(settings, checkpoints)]


def chosen_stages(settings: ChosenSettings, checkpoints: int) -> list[Stage]:
    policy = _train(
        "chosen", "good_answers", settings.policy, {"model": "stage:start", "data": "data:preferences"}, checkpoints
    )
    return [_start(settings, checkpoints), policy]


def dpo_stages(settings: DpoSettings, checkpoints: int) -> list[Stage]:
    inputs = {"model": "stage:start", "reference": "stage:start", "data": "data:preferences"}
    policy = _train(
        "dpo", "pairs", settings.policy, inputs, checkpoints, loss="dpo", loss_settings={"beta": settings.beta}
    )
    return [_start(settings, checkpoints), policy]


def orpo_stages(settings: OrpoSettings, checkpoints: int) -> list[Stage]:
    source = "base" if settings.init == "base" else "stage:start"
    inputs = {"model": source, "data": "data:preferences"}
    policy = _train(
        "orpo", "pairs", settings.policy, inputs, checkpoints, loss="orpo", loss_settings={"beta": settings.beta}
    )
    return [policy] if settings.init == "base" else [_start(settings, checkpoints), policy]


def self_label_stages(settings: SelfLabelSettings, checkpoints: int) -> list[Stage]:
    teacher = _train(
        "chosen", "good_answers", settings.teacher, {"model": "stage:start", "data": "data:preferences"}, checkpoints
    )
    sampling = _draft_settings(settings.drafts, 1) | {"count": settings.prompts}
    drafts = Stage("self-drafts", "sample", {"model": "stage:chosen", "prompts": "data:prompts"}, sampling)
    inputs = {"model": "stage:start", "data": "stage:self-drafts", "preferences": "data:preferences"}
    return [
        _start(settings, checkpoints),
        teacher,
        drafts,
        _train("self-label", "drafts_and_good_answers", settings.policy, inputs, checkpoints),
    ]


def seft_stages(settings: SeftSettings, checkpoints: int) -> list[Stage]:
    """Start, reviser, then for each round: drafts, revisions, policy."""
    stages = [_start(settings, checkpoints), *_reviser_stages(settings)]
    policy = "stage:start"
    for number, evolution in enumerate(_evolutions(settings), start=1):
        stages += _round(settings, number, evolution, policy, checkpoints)
        policy = f"stage:policy-{number}"
    return stages


def _reviser_stages(settings: SeftSettings) -> list[Stage]:
    """The preliminary reviser labels the annotated pairs; the adaptive one learns to revise the poor and to copy the
    good.
    """
    if settings.decision == "never":
        return []
    instruction = {"instruction": settings.instruction}
    preliminary = _train(
        "preliminary-reviser",
        "revisions",
        settings.preliminary,
        {"model": "base", "data": "data:preferences"},
        shape_settings=instruction,
    )
    labels = Stage(
        "labels",
        "score",
        {"reviser": "stage:preliminary-reviser", "data": "data:preferences"},
        {"what": "labels", "levels": settings.label_levels, **instruction},
    )
    learns = {"copies_share": settings.copies_share, **instruction}
    adaptive = _train(
        "reviser",
        "labelled_revisions",
        settings.reviser,
        {"model": "base", "data": "stage:labels"},
        shape_settings=learns,
    )
    stages = [preliminary, labels, adaptive]
    if settings.decision == "token":
        stages.append(
            _train(
                "decider",
                "labels",
                settings.decider,
                {"model": "stage:reviser", "data": "stage:labels"},
                shape_settings=instruction,
            )
        )
    return stages


def _evolutions(settings: SeftSettings) -> list[str]:
    """What each round learns; internal evolution comes first. Own drafts (decision: never) are learnt as they are."""
    if settings.decision == "never":
        return ["external"] * settings.rounds
    if settings.evolution == "internal_then_external":
        return ["internal", *["external"] * max(1, settings.rounds - 1)]
    return [settings.evolution] * settings.rounds


def _round(settings: SeftSettings, number: int, evolution: str, policy: str, checkpoints: int) -> list[Stage]:
    rounds = len(_evolutions(settings))
    samples = settings.internal_samples if evolution == "internal" else 1
    drafts = Stage(
        f"drafts-{number}",
        "sample",
        {"model": policy, "prompts": "data:prompts"},
        _draft_settings(settings.drafts, samples) | {"part": number - 1, "parts": rounds, "count": settings.prompts},
    )
    decision = "best_sample" if evolution == "internal" else settings.decision
    revised = Stage(
        f"revised-{number}", "revise", _revise_inputs(settings, number, decision), _revise_settings(settings, decision)
    )
    step = settings.policy.model_copy(update={"max_steps": _part_of_steps(settings, number, rounds)})
    train = _train(
        f"policy-{number}", "drafts", step, {"model": policy, "data": f"stage:revised-{number}"}, checkpoints
    )
    calibration = _calibration(settings, number, policy) if decision in ("likelihood", "token") else []
    return [drafts, *calibration, revised, train]


def _part_of_steps(settings: SeftSettings, number: int, rounds: int) -> int | None:
    """A round's share of the policy's steps, so that more rounds do not mean more training."""
    total = settings.policy.max_steps
    return None if total is None else max(1, round(total * number / rounds) - round(total * (number - 1) / rounds))


def _calibration(settings: SeftSettings, number: int, policy: str) -> list[Stage]:
    """Each round anew, on annotated prompts that no policy was trained on, with drafts drawn as at use."""
    drafts = Stage(
        f"calibration-drafts-{number}",
        "sample",
        {"model": policy, "prompts": "data:calibration"},
        _draft_settings(settings.drafts, 1),
    )
    what = {
        "what": "calibration",
        "statistic": settings.statistic,
        "max_poor_kept": settings.max_poor_kept,
        "decision": settings.decision,
    }
    inputs = {**_deciders(settings), "data": f"stage:calibration-drafts-{number}"}
    return [
        drafts,
        Stage(
            f"calibration-{number}", "score", inputs, {**what, "instruction": settings.instruction, **_greedy(settings)}
        ),
    ]


def _deciders(settings: SeftSettings) -> dict[str, str]:
    return {"reviser": "stage:reviser", **({"decider": "stage:decider"} if settings.decision == "token" else {})}


def _revise_inputs(settings: SeftSettings, number: int, decision: str) -> dict[str, str]:
    inputs = {"data": f"stage:drafts-{number}"}
    if decision != "never":
        inputs |= _deciders(settings)
    if decision in ("likelihood", "token"):
        inputs["calibration"] = f"stage:calibration-{number}"
    return inputs


def _revise_settings(settings: SeftSettings, decision: str) -> dict[str, Any]:
    """`decision`: "best_sample" (internal evolution), or who decides in external evolution."""
    return {
        "decision": decision,
        "statistic": settings.statistic,
        "instruction": settings.instruction,
        **_greedy(settings),
    }


def _greedy(settings: SeftSettings) -> dict[str, Any]:
    """Revisions are greedy: at temperature 1 they flatter the draft and give a worse policy."""
    return {"max_new_tokens": settings.drafts.max_new_tokens, "batch_size": settings.drafts.batch_size}


def _draft_settings(drafts: DraftSettings, samples: int) -> dict[str, Any]:
    return {**drafts.model_dump(), "samples": samples}


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
    """The entry of a method.

    Raises:
        InputError: naming the known methods.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, "See `seft-bench methods list`.")
    return METHODS[name]


def build_stages(method: str, settings: Mapping[str, Any], checkpoints: int) -> list[Stage]:
    """The stages of a method with its settings checked.

    Raises:
        InputError: unknown method, or wrong settings, all of them at once.
    """
    entry = find_method(method)
    merged = merge_settings(entry.settings().model_dump(exclude_none=True), settings)
    return entry.stages(validate(merged, entry.settings, f"settings of method {method!r}"), checkpoints)


def merge_settings(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with what was given laid over them, at every depth: `policy: {learning_rate: 2e-4}` keeps the other
    defaults.

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
