"""SEFT as stages: a reviser learns from annotated pairs, then improves the policy's own drafts, round after round.

After arXiv 2406.10813, in our reading (docs/seft.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from seft_bench.records import Base, Data, Output, Source

from .revisers import (
    ReviserSettings,
    calibration_stages,
    decider_of,
    first_stages,
    named_model,
    reviser_of,
    reviser_stages,
    revising,
)
from .rounds import round_settings
from .settings import TrainSettings
from .stages import First, Learnt, Part, Revise, Sample, Shape, Stage, Train
from .start import policy_start, refuse


class EvolutionSettings(ReviserSettings):
    """A reviser improves the policy's answers to unannotated prompts, which the policy learns from; in rounds."""

    rounds: int = Field(default=2, gt=0, description="internal_then_external has at least 2")
    evolution: Literal["external", "internal", "internal_then_external"] = Field(
        default="internal_then_external",
        description=(
            "learn revised drafts, or the best of the policy's own samples by keep score, or first the one, then the "
            "other"
        ),
    )
    internal_samples: int = Field(default=8, gt=1)
    candidates: int = Field(
        default=1, gt=0, description="with decision candidates: drafts of each prompt, each of which is revised"
    )
    evidence: int = Field(
        default=0, ge=0, description="other drafts of the prompt that the reviser sees, in training and at use"
    )
    evidence_temperature: float = Field(default=0.7, gt=0, description="of those; drafts have their own")
    prompts: int | None = Field(
        default=None, gt=0, description="unannotated prompts to use in all rounds together; null: all"
    )
    draft_policy: str = Field(
        default="policy",
        min_length=1,
        description="who drafts in the first round: policy (where it starts), start, chosen (SFT on the good answers, "
        "from init), base, or a ready model; later rounds are drafted by the round before",
    )
    policy_init: Literal["last_round", "init"] = Field(
        default="last_round",
        description="where each round's policy starts: at the round before, or at init anew, with all steps",
    )
    policy: TrainSettings = TrainSettings(learning_rate=3e-4, max_steps=150)

    @model_validator(mode="after")
    def _rounds_fit(self) -> Self:
        refuse(self.round_conflicts())
        return self

    def evidence_stages(self, name: str, rows: Source, drafter: Source) -> list[Stage]:
        """Build the stage of that name which draws other drafts beside rows, where the reviser sees such."""
        drafts = self.drafts.model_copy(update={"temperature": self.evidence_temperature})
        return [Sample(name, drafter, rows, drafts, samples=self.evidence, beside=True)] if self.evidence else []

    @property
    def external_samples(self) -> int:
        """Drafts of each prompt that an external round draws."""
        return self.candidates

    @property
    def is_confident(self) -> bool:
        """Return whether rows shall say how sure the decision on their drafts was."""
        return False

    def round_conflicts(self) -> list[str]:
        """Say which settings of the rounds cannot work together."""
        found, greedy = [], self.drafts.temperature == 0
        if self.evidence and self.decision == "never":
            found.append(f"evidence: {self.evidence} is what a reviser sees, and decision: never asks none")
        if not self.evidence:
            unused = self.changed(("evidence_temperature",))
            found += [f"{key}: {getattr(self, key)} is for evidence, and evidence is 0" for key in unused]
        found_evolutions = evolutions(self)
        if "external" not in found_evolutions and self.decision in ("margin", "candidates"):
            found.append(f"decision: {self.decision} is of external rounds, and evolution: internal has none")
        if "internal" in found_evolutions and greedy:
            found.append(
                f"drafts.temperature: 0 makes all samples of a prompt alike, and evolution: {self.evolution} chooses "
                "among them. Give evolution: external, or a temperature"
            )
        if self.candidates > 1 and self.decision != "candidates":
            found.append(f"candidates: {self.candidates} are for decision: candidates, and it is {self.decision}")
        elif self.candidates > 1 and greedy:
            found.append(f"drafts.temperature: 0 makes all {self.candidates} candidates of a prompt alike")
        return found


class SeftSettings(EvolutionSettings):
    """SEFT: train a reviser, let it improve the policy's answers to unannotated prompts, learn those; in rounds."""

    good_answers: bool = Field(default=False, description="the policy learns the annotated good answers as well")
    learn: Learnt = Field(
        default="all",
        description="which drafts of an external round the policy learns: all, or those kept, or those revised",
    )
    weights: Literal["none", "confidence"] = Field(
        default="none",
        description="with confidence, the policy's loss weighs each draft of an external round by how far its "
        "statistic lies from the threshold",
    )

    @property
    def is_confident(self) -> bool:
        return self.weights == "confidence"

    def round_conflicts(self) -> list[str]:
        """Say which settings of the rounds cannot work together."""
        found = super().round_conflicts()
        if self.is_confident and self.decision not in ("likelihood", "margin"):
            found.append(
                f"weights: confidence is a distance from a threshold of likelihoods, and decision: {self.decision} has "
                "none. Give decision: likelihood or margin"
            )
        if self.is_confident and self.decision == "margin" and not self.margin:
            found.append("weights: confidence is measured by the margin, and margin is 0")
        empty = {("always", "kept"): "keeps no draft", ("never", "revised"): "revises no draft"}
        if why := empty.get((self.decision, self.learn)):
            found.append(f"decision: {self.decision} {why}, so learn: {self.learn} leaves nothing to learn")
        if "external" not in evolutions(self):
            found += [
                f"{key}: {getattr(self, key)} is of external rounds, and evolution: internal has none"
                for key in self.changed(("learn", "weights"))
            ]
        return found


def seft_stages(settings: SeftSettings, checkpoints: int) -> list[Stage]:
    """Start, reviser, then for each round: drafts, revisions, policy."""
    good = Data("preferences") if settings.good_answers else None

    def learn(number: int, policy: Source, revised: str, steps: TrainSettings) -> list[Stage]:
        name, rows, shape = f"policy-{number}", Output(revised), Shape("drafts")
        if evolutions(settings)[number - 1] == "external":
            shape = Shape("drafts", learn=settings.learn, weighted=settings.is_confident)
        return [Train(name, policy, rows, shape, steps, checkpoints=checkpoints, preferences=good)]

    return all_stages(settings, learn, checkpoints)


Learn = Callable[[int, Source, str, TrainSettings], list[Stage]]
"""Makes the stages of a round's training, the training last: of its number, the policy that it starts from, the stage
of revised drafts, and its settings."""


def all_stages(
    settings: EvolutionSettings, learn: Learn, checkpoints: int, rewards: Sequence[Stage] = ()
) -> list[Stage]:
    revises = settings.decision != "never"
    named = [settings.draft_policy, *([settings.reviser_init] if revises else [])]
    start = ["start"] if settings.init == "start" else []
    reviser = reviser_stages(settings, _first_drafter(settings)) if revises else []
    return [*first_stages(settings, [*start, *named], checkpoints), *reviser, *rewards, *_rounds(settings, learn)]


def _first_drafter(settings: EvolutionSettings) -> Source:
    return policy_start(settings) if settings.draft_policy == "policy" else named_model(settings.draft_policy)


def _rounds(settings: EvolutionSettings, learn: Learn) -> list[Stage]:
    stages: list[Stage] = []
    policy, planned = policy_start(settings), evolutions(settings)
    drafter = _first_drafter(settings)
    for number, evolution in enumerate(planned, start=1):
        anew = settings.policy_init == "init"
        steps = settings.policy if anew else round_settings(settings.policy, number, len(planned))
        stages += _revised_drafts(settings, number, evolution, drafter)
        stages += learn(number, policy, stages[-1].name, steps)
        drafter = Output(stages[-1].name)
        policy = policy if anew else drafter
    return stages


Evolution = Literal["external", "internal"]


def evolutions(settings: EvolutionSettings) -> list[Evolution]:
    """Say what each round learns: internal evolution comes first; own drafts (decision: never) are learnt as is."""
    if settings.decision == "never":
        return ["external"] * settings.rounds
    if settings.evolution == "internal_then_external":
        later: list[Evolution] = ["external"] * max(1, settings.rounds - 1)
        return ["internal", *later]
    return [settings.evolution] * settings.rounds


def _revised_drafts(settings: EvolutionSettings, number: int, evolution: Evolution, drafter: Source) -> list[Stage]:
    """Draw a round's drafts, calibrate where that is due, and revise; the revised drafts come last."""
    rounds = len(evolutions(settings))
    drafts = Sample(
        f"drafts-{number}",
        drafter,
        Data("prompts"),
        settings.drafts,
        samples=settings.internal_samples if evolution == "internal" else settings.external_samples,
        first=First(settings.prompts),
        part=Part(number - 1, rounds),
    )
    evidence = settings.evidence_stages(f"evidence-{number}", Output(drafts.name), drafter)
    decision = "best_sample" if evolution == "internal" else settings.decision
    # Each round is calibrated anew, with drafts of the one who drafts in it.
    calibrated = decision in ("likelihood", "token")
    calibration = calibration_stages(settings, f"-{number}", drafter) if calibrated else []
    revised = Revise(
        f"revised-{number}",
        Output(evidence[-1].name if evidence else drafts.name),
        decision,
        revising(settings),
        reviser=None if decision == "never" else reviser_of(settings),
        decider=decider_of(settings),
        calibration=Output(calibration[-1].name) if calibration else None,
        margin=settings.margin if decision == "margin" else None,
        likelihoods=(drafter, Base()) if decision == "candidates" else None,
        confident=settings.is_confident and evolution == "external",
        round=number,
    )
    return [drafts, *evidence, *calibration, revised]
