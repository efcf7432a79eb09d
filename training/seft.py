"""SEFT as stages: a reviser learns from annotated pairs, then improves the policy's own drafts, round after round.

After arXiv 2406.10813, in our reading (docs/seft.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from seft_bench.records import Base, Data, Output, Source

from .reviser import LabelRule
from .rounds import dpo_round, round_settings
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
from .start import SftSettings, policy_start, start_stages

INSTRUCTION = "Please revise the answer."


class SeftSettings(SftSettings):
    """SEFT: train a reviser, let it improve the policy's answers to unannotated prompts, learn those; in rounds."""

    instruction: str = Field(default=INSTRUCTION, min_length=1)
    preliminary: TrainSettings = TrainSettings(learning_rate=5e-4, epochs=1)
    label_levels: Literal[2, 3] = 3
    label_rule: LabelRule = Field(
        default="likelihood",
        description="which poor answers the reviser learns to revise: those that the preliminary reviser would not "
        "rather copy, or all that the annotation calls poor",
    )
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
            "who decides to revise: a calibrated threshold, a fixed one (margin), an emitted label, nobody (always "
            "rewrite), nobody (never: own drafts)"
        ),
    )
    statistic: Statistic = "mode"
    margin: float = Field(
        default=-0.2,
        allow_inf_nan=False,
        description="with decision margin: drafts whose statistic reaches it are kept; it needs no calibration",
    )
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


def seft_stages(settings: SeftSettings, checkpoints: int) -> list[Stage]:
    """Start, reviser, then for each round: drafts, revisions, policy."""

    def learn(number: int, policy: Source, revised: str, steps: TrainSettings) -> Train:
        return Train(f"policy-{number}", policy, Output(revised), Shape("drafts"), steps, checkpoints=checkpoints)

    return [*start_stages(settings, checkpoints), *_reviser_stages(settings), *_rounds(settings, learn)]


class RealignSettings(SeftSettings):
    """ReAlign: the policy learns pairs of a revised and an original draft by DPO, where SEFT learns the revision."""

    evolution: Literal["external"] = Field(default="external", description="a pair needs a revision")
    policy: TrainSettings = TrainSettings(learning_rate=2e-4, max_steps=150)
    beta: float = Field(default=0.1, gt=0)


def realign_stages(settings: RealignSettings, checkpoints: int) -> list[Stage]:
    """Run SEFT's stages, but for the policy's training: by DPO, from and against the round's own start.

    After ReAlign (Findings of EMNLP 2025, 642), the successor of SEFT's authors, in our reading.
    """

    def learn(number: int, policy: Source, revised: str, steps: TrainSettings) -> Train:
        pairs, shape = Output(revised), "revised_against_drafts"
        return dpo_round(number, policy, pairs, shape, steps, settings.beta, policy, checkpoints)

    return [*start_stages(settings, checkpoints), *_reviser_stages(settings), *_rounds(settings, learn)]


Learn = Callable[[int, Source, str, TrainSettings], Train]
"""Makes a round's training: its number, the policy that it starts from, the stage of revised drafts, its settings."""


def _rounds(settings: SeftSettings, learn: Learn) -> list[Stage]:
    stages: list[Stage] = []
    policy, evolutions = policy_start(settings), _evolutions(settings)
    for number, evolution in enumerate(evolutions, start=1):
        steps = round_settings(settings.policy, number, len(evolutions))
        stages += _revised_drafts(settings, number, evolution, policy)
        stages.append(learn(number, policy, stages[-1].name, steps))
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
    labels = LabelPairs(
        "labels", Output(preliminary.name), pairs, settings.label_levels, instruction, settings.label_rule
    )
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


def _revised_drafts(settings: SeftSettings, number: int, evolution: Evolution, policy: Source) -> list[Stage]:
    """Draw a round's drafts, calibrate where that is due, and revise; the revised drafts come last."""
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
        margin=settings.margin if decision == "margin" else None,
        round=number,
    )
    return [drafts, *calibration, revised]


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
