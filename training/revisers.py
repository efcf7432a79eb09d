"""Revisers as stages: which model revises, how it is trained, and who decides to revise. SEFT and the Aligner share it.

After arXiv 2406.10813, in our reading (docs/seft.md).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Self

from pydantic import Field, model_validator

from seft_bench.records import Base, Data, Model, Output, Source

from .reviser import LabelRule, PoorAnswers
from .settings import DraftSettings, TrainSettings
from .stages import Calibrate, Decision, LabelPairs, Revising, Sample, Shape, Stage, Statistic, Train
from .start import SftSettings, good_answers_stage, policy_start, refuse, sft_stage

INSTRUCTION = "Please improve that."
"""As the tinyworld's base has read it; better than "Please revise the answer." on its tuning questions."""

ReviserKind = Literal["adaptive", "plain", "untrained"]


class ReviserSettings(SftSettings):
    """A reviser, and the decision to use it."""

    instruction: str = Field(
        default=INSTRUCTION, pattern=r"\S", description="what the reviser is asked, in words that its base knows"
    )
    reviser_init: str = Field(
        default="base",
        min_length=1,
        description="where the reviser's training starts: base, start, chosen (SFT on the good answers), or a ready "
        "model of any size, with a tokenizer and a template of its own: its folder, a run's, or a hub id",
    )
    reviser_kind: ReviserKind = Field(
        default="adaptive",
        description="adaptive: SEFT's, which learns to revise the poor answers that a preliminary reviser labels, and "
        "to copy good ones; plain: learns poor answer -> good answer and the copies, without labels; untrained: "
        "reviser_init as it is, which is asked in words that it knows",
    )
    reviser_pairs: PoorAnswers = Field(
        default="annotated",
        description="which answers the reviser learns to revise into the annotated good ones: the annotated poor ones, "
        "drafts of the same prompts by the one who drafts first (on_policy), or both",
    )
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
            "who decides to revise: a calibrated threshold, a fixed one (margin), an emitted label, the likelihood of "
            "drafts and revisions under policy and base (candidates), nobody (always rewrite), nobody (never: own "
            "drafts)"
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
    teacher: TrainSettings = Field(
        default=TrainSettings(learning_rate=2.5e-4, max_steps=150),
        description="of the chosen policy, where something starts from it",
    )
    drafts: DraftSettings = DraftSettings()

    @model_validator(mode="after")
    def _reviser_fits(self) -> Self:
        refuse(self.reviser_conflicts())
        return self

    def reviser_conflicts(self) -> list[str]:
        """Say which settings of the reviser cannot work together."""
        kind, found = self.reviser_kind, []
        if kind != "adaptive" and self.decision == "token":
            found.append(f"decision: token has a decider learn labels, and reviser_kind: {kind} makes none")
        unlearnt = (*LABELLING, "copies_share", "reviser_pairs")
        unused = {"adaptive": (), "plain": LABELLING, "untrained": unlearnt}[kind]
        found += [
            f"{key}: {getattr(self, key)} is for a reviser that learns it, and reviser_kind is {kind}"
            for key in self.changed(unused)
        ]
        if self.decision == "never":
            keys = self.changed(("reviser_kind", "reviser_init", "reviser_pairs"))
            found += [f"{key}: {getattr(self, key)} names a reviser, and decision: never asks none" for key in keys]
        return found

    def evidence_stages(self, name: str, rows: Source, drafter: Source) -> list[Stage]:
        """Build the stage of that name which draws other drafts beside rows, where the reviser sees such."""
        return []


LABELLING = ("label_rule", "label_levels")


REVISER, DECIDER = Output("reviser"), Output("decider")


def named_model(name: str) -> Source:
    """Say which model settings name: base, start, chosen, or a ready one."""
    known: dict[str, Source] = {"base": Base(), "start": Output("start"), "chosen": Output("chosen")}
    return known.get(name, Model(name))


def first_stages(settings: ReviserSettings, names: Collection[str], checkpoints: int) -> list[Stage]:
    """Build the start and the chosen policy, as far as one of the names wants them; chosen starts at `init`."""
    chosen = [good_answers_stage(policy_start(settings), settings.teacher, checkpoints)] if "chosen" in names else []
    wants_start = "start" in names or (chosen and settings.init == "start")
    return [*([sft_stage(Base(), settings, checkpoints)] if wants_start else []), *chosen]


def reviser_of(settings: ReviserSettings) -> Source:
    """Say which model revises."""
    return named_model(settings.reviser_init) if settings.reviser_kind == "untrained" else REVISER


def decider_of(settings: ReviserSettings) -> Source | None:
    return DECIDER if settings.decision == "token" else None


def reviser_stages(settings: ReviserSettings, drafter: Source) -> list[Stage]:
    """Train what the settings say: nothing, one plain reviser, or SEFT's two, and the decider where labels decide.

    The preliminary reviser labels the annotated pairs; the adaptive one learns to revise the poor and to copy the good.

    Args:
        drafter: answers the annotated prompts, where the reviser learns from such answers or sees them.
    """
    if settings.reviser_kind == "untrained":
        return []
    drawn = _drawn_for_pairs(settings, drafter)
    pairs = Output(drawn[-1].name) if drawn else Data("preferences")
    return [*drawn, *_trained_on(settings, pairs)]


def _drawn_for_pairs(settings: ReviserSettings, drafter: Source) -> list[Stage]:
    """Draw what the annotated pairs lack: own drafts of their prompts, and other drafts as evidence."""
    pairs = Data("preferences")
    own = [Sample("reviser-drafts", drafter, pairs, settings.drafts)] if settings.reviser_pairs != "annotated" else []
    return [*own, *settings.evidence_stages("reviser-evidence", Output(own[0].name) if own else pairs, drafter)]


def _trained_on(settings: ReviserSettings, pairs: Source) -> list[Stage]:
    instruction, copies, poor = settings.instruction, settings.copies_share, settings.reviser_pairs
    init = named_model(settings.reviser_init)
    if settings.reviser_kind == "plain":
        shape = Shape("revisions_and_copies", instruction, copies, poor=poor)
        return [Train("reviser", init, pairs, shape, settings.reviser)]
    first = Shape("revisions", instruction, poor=poor)
    preliminary = Train("preliminary-reviser", init, pairs, first, settings.preliminary)
    labels = LabelPairs(
        "labels", Output(preliminary.name), pairs, settings.label_levels, instruction, settings.label_rule, poor
    )
    labelled = Output(labels.name)
    adaptive = Train("reviser", init, labelled, Shape("labelled_revisions", instruction, copies), settings.reviser)
    decider = Train("decider", REVISER, labelled, Shape("labels", instruction), settings.decider)
    return [preliminary, labels, adaptive, *([decider] if settings.decision == "token" else [])]


def revising(settings: ReviserSettings) -> Revising:
    """Revisions are greedy: at temperature 1 they flatter the draft and give a worse policy."""
    drafts = settings.drafts
    return Revising(settings.statistic, settings.instruction, drafts.max_new_tokens, drafts.batch_size)


def calibration_stages(settings: ReviserSettings, name: str, drafter: Source) -> list[Stage]:
    """Draw drafts as at use on annotated prompts that no policy was trained on, and set the threshold by them.

    Args:
        name: what tells these stages from those of another round; "" where there is but one calibration.
    """
    drafts = Sample(f"calibration-drafts{name}", drafter, Data("calibration"), settings.drafts)
    evidence = settings.evidence_stages(f"calibration-evidence{name}", Output(drafts.name), drafter)
    threshold = Calibrate(
        f"calibration{name}",
        reviser_of(settings),
        Output(evidence[-1].name if evidence else drafts.name),
        settings.decision,
        settings.max_poor_kept,
        revising(settings),
        decider=decider_of(settings),
    )
    return [drafts, *evidence, threshold]
