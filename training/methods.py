"""Methods as lists of stages: one entry in `METHODS` a method.

A stage (`training.stages`) says its inputs and its settings; `seft_bench.stages` runs it. Policies start from one SFT
policy, stage "start" (ORPO's from the base), or where `init` says. Defaults are the tinyworld's, tuned on its tuning
questions; recipes for larger models give their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from seft_bench.config import Strict, validate
from seft_bench.errors import InputError, unknown_name
from seft_bench.records import Base, Data, Model, Output

from .aligner import AlignerSettings, aligner_stages
from .graders import REWARD_MODEL, TRAINED_REWARD_MODEL
from .loss_table import LOSSES
from .preferences import preference_stages, settings_class
from .realign import RealignSettings, realign_stages
from .reinforce import GrpoSettings, RlooSettings, grpo_stages, rloo_stages
from .reward_models import RewardModelSettings, RewardTraining, reward_model_stages
from .sampled import (
    BestOfSettings,
    IterativeDpoSettings,
    SpinSettings,
    best_of_stages,
    iterative_dpo_stages,
    spin_stages,
)
from .seft import SeftSettings, seft_stages
from .self_rewarding import SelfRewardingSettings, self_rewarding_stages
from .settings import LENGTHS, DraftSettings, TrainSettings
from .stages import First, Sample, Shape, Stage, Train
from .start import SftSettings, good_answers_stage, policy_start, sft_stage, start_stages


class SizeSettings(Strict):
    """Keys of config.json that make a blank model larger or smaller; those that are not given stay as they are."""

    hidden_size: int | None = Field(default=None, gt=0)
    intermediate_size: int | None = Field(default=None, gt=0)
    num_hidden_layers: int | None = Field(default=None, gt=0)
    num_attention_heads: int | None = Field(default=None, gt=0)
    num_key_value_heads: int | None = Field(default=None, gt=0)


class PretrainSettings(Strict):
    """Language modelling from a fresh initialisation."""

    size: SizeSettings = SizeSettings()
    train: TrainSettings = TrainSettings(
        learning_rate=9e-3,
        epochs=1,
        global_batch_size=24,
        micro_batch_size=24,
        warmup_ratio=0.03,
        weight_decay=0.01,
        adam_betas=(0.9, 0.98),
    )


class ChosenSettings(SftSettings):
    """SFT on the good answers of the preference data, from the start."""

    policy: TrainSettings = TrainSettings(learning_rate=1e-3, max_steps=150)


class SelfLabelSettings(ChosenSettings):
    """Control: the SFT-on-good-answers model answers the unannotated prompts itself.

    It answers greedily; the policy learns those answers and the good ones.
    """

    policy: TrainSettings = TrainSettings(learning_rate=1e-3, max_steps=150)
    teacher: TrainSettings = TrainSettings(learning_rate=2.5e-4, max_steps=150)
    prompts: int | None = Field(default=None, gt=0)
    drafts: DraftSettings = DraftSettings(temperature=0.0)


def pretrain_stages(settings: PretrainSettings, checkpoints: int) -> list[Stage]:
    shape = Shape("documents")
    return [Train("base", Base(), Data("pretrain"), shape, settings.train, checkpoints=checkpoints, fresh=True)]


def sft_stages(settings: SftSettings, checkpoints: int) -> list[Stage]:
    """Train on annotated conversations, from the base or from a ready model: this is the start itself."""
    start = policy_start(settings)
    return [sft_stage(start if isinstance(start, Model) else Base(), settings, checkpoints)]


def chosen_stages(settings: ChosenSettings, checkpoints: int) -> list[Stage]:
    policy = good_answers_stage(policy_start(settings), settings.policy, checkpoints)
    return [*start_stages(settings, checkpoints), policy]


def self_label_stages(settings: SelfLabelSettings, checkpoints: int) -> list[Stage]:
    start = policy_start(settings)
    teacher = good_answers_stage(start, settings.teacher, checkpoints)
    drafts = Sample(
        "self-drafts", Output(teacher.name), Data("prompts"), settings.drafts, first=First(settings.prompts)
    )
    policy = Train(
        "self-label",
        start,
        Output(drafts.name),
        Shape("drafts_and_good_answers"),
        settings.policy,
        checkpoints=checkpoints,
        preferences=Data("preferences"),
    )
    return [*start_stages(settings, checkpoints), teacher, drafts, policy]


@dataclass(frozen=True)
class Method:
    """A method: its settings class, its stages, and one sentence."""

    settings: type[Strict]
    stages: Callable[[Any, int], list[Stage]]
    summary: str


METHODS: dict[str, Method] = {
    "pretrain": Method(
        PretrainSettings, pretrain_stages, "language modelling from scratch (makes the tinyworld's base)"
    ),
    "sft": Method(SftSettings, sft_stages, "SFT on annotated conversations: the start of every other method"),
    "sft-chosen": Method(ChosenSettings, chosen_stages, "SFT on the good answers of the preference data"),
    "seft": Method(
        SeftSettings,
        seft_stages,
        "self-evolution fine-tuning with an adaptive reviser (arXiv 2406.10813, our reading)",
    ),
    "realign": Method(
        RealignSettings,
        realign_stages,
        "SEFT's reviser, and DPO on revised against original drafts (2025.findings-emnlp.642, our reading)",
    ),
    "aligner": Method(
        AlignerSettings,
        aligner_stages,
        "Aligner: a reviser corrects the answers of a policy that is not trained (arXiv 2402.02416)",
    ),
    "best-of-n": Method(BestOfSettings, best_of_stages, "RAFT: SFT on the best of own samples (arXiv 2304.06767)"),
    "iterative-dpo": Method(
        IterativeDpoSettings, iterative_dpo_stages, "DPO on the best against the worst of own samples, by rounds"
    ),
    "self-rewarding": Method(
        SelfRewardingSettings,
        self_rewarding_stages,
        "iterative DPO whose judge is the policy itself (arXiv 2401.10020)",
    ),
    "spin": Method(
        SpinSettings, spin_stages, "self-play: DPO on annotated answers against own ones (arXiv 2401.01335)"
    ),
    "grpo": Method(GrpoSettings, grpo_stages, LOSSES["grpo"].summary),
    "rloo": Method(RlooSettings, rloo_stages, LOSSES["rloo"].summary),
    REWARD_MODEL: Method(
        RewardModelSettings, reward_model_stages, f"{LOSSES[REWARD_MODEL].summary}: it grades answers, and writes none"
    ),
    "self-label": Method(
        SelfLabelSettings,
        self_label_stages,
        "control: the SFT-on-good-answers model labels the unannotated prompts itself",
    ),
} | {
    name: Method(settings_class(name), partial(preference_stages, name), loss.summary)
    for name, loss in LOSSES.items()
    if loss.rows in ("pairs", "labels")
}


EVERY_TRAINING = "training"
"""Key of a recipe's settings that hold for every training stage of its method, below each stage's own."""


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
    return find_method(method).stages(checked_settings(method, settings), checkpoints)


def checked_settings(method: str, settings: Mapping[str, Any]) -> Strict:
    """Lay settings over a method's defaults, and check them.

    Raises:
        InputError: as `build_stages`.
    """
    entry = find_method(method)
    common, own = _for_every_training(entry.settings, settings)
    merged = merge_settings(merge_settings(entry.settings().model_dump(exclude_none=True), common), own)
    checked: Strict = validate(merged, entry.settings, f"settings of method {method!r}")
    _refuse_unused_rewards(method, checked, common)
    return checked


def _refuse_unused_rewards(method: str, settings: Strict, common: Mapping[str, Any]) -> None:
    """Refuse settings of a reward model that is never trained, since something else grades."""
    grader = getattr(settings, "grader", TRAINED_REWARD_MODEL)
    if not isinstance(settings, RewardTraining) or grader == TRAINED_REWARD_MODEL:
        return
    plain = {name: given for name, given in common.items() if name in RewardTraining.model_fields}
    unused = RewardTraining(**merge_settings(RewardTraining().model_dump(exclude_none=True), plain))
    keys = [key for key in RewardTraining.model_fields if getattr(settings, key) != getattr(unused, key)]
    if keys:
        raise InputError(
            f"settings of method {method!r}:\n  {', '.join(keys)}: of a reward model that is trained first, and grader "
            f"is {grader}: give grader: {TRAINED_REWARD_MODEL}, or leave them out"
        )


def _for_every_training(model: type[Strict], settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take `training` out of the settings: it holds for every training stage that does not say otherwise.

    Returns:
        What it means, by stage; and the other settings.

    Raises:
        InputError: `training` is no mapping, or has keys that no training stage knows.
    """
    own = {key: value for key, value in settings.items() if key != EVERY_TRAINING}
    given = settings.get(EVERY_TRAINING) or {}
    if not isinstance(given, Mapping) or not given.keys() <= TrainSettings.model_fields.keys():
        unknown = (
            sorted(map(str, given.keys() - TrainSettings.model_fields.keys())) if isinstance(given, Mapping) else []
        )
        what = f"unknown key {', '.join(unknown)}" if unknown else f"a mapping is expected, got {given!r}"
        raise InputError(
            f"settings.{EVERY_TRAINING}: {what}; allowed are {', '.join(sorted(TrainSettings.model_fields))}"
        )
    trained = [name for name, entry in model.model_fields.items() if entry.annotation is TrainSettings]
    return {name: dict(given) for name in trained}, own


def merge_settings(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what was given over the defaults, at every depth: `policy: {learning_rate: 2e-4}` keeps the other defaults.

    `epochs`, `max_steps` and `max_tokens` exclude each other, so one that is given takes the others' default away.
    """
    merged = dict(defaults)
    for given_length in LENGTHS:
        for other in LENGTHS if given.get(given_length) is not None else ():
            merged.pop(other, None)
    for key, value in given.items():
        below = merged.get(key)
        merged[key] = (
            merge_settings(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return merged
