"""Aligners, found and opened: what answers for a policy and a reviser, whose decision is that of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.checkpoints import ALIGNER, is_aligner
from seft_bench.checkpoints.aligners import Aligner, Revision, read_aligner
from seft_bench.console import note
from seft_bench.data.training import open_ready_model, ready_folder
from seft_bench.files import read_json
from seft_bench.records import Message
from seft_bench.stages import door
from seft_bench.stages.engines import Answered, OwnEngine, mean_logprobs
from seft_bench.stages.runs import checkpoint_name
from seft_bench.stages.score import label_statistics

if TYPE_CHECKING:
    from seft_bench.generators.revised import AlignerGenerator, Corrector, Keeps
    from seft_bench.generators.transformers import TransformersGenerator
    from seft_bench.stages.door import logprobs


def aligner_generator(model_id: str, aligner: Aligner, trust_remote_code: bool = False) -> AlignerGenerator:
    """Return what answers for an aligner; its two models are loaded when the first answer is asked for."""
    from seft_bench.generators.revised import AlignerGenerator

    policy = partial(_open, aligner.policy, trust_remote_code)
    return AlignerGenerator(model_id, policy, partial(open_corrector, aligner, trust_remote_code))


def open_corrector(aligner: Aligner, trust_remote_code: bool = False) -> Corrector:
    """Load a reviser, and what decides for it."""
    from seft_bench.generators.revised import Corrector, revise_all

    revision, reviser = aligner.revision, _open(aligner.reviser, trust_remote_code)
    return Corrector(
        reviser,
        partial(_asked, revision.instruction),
        revise_all if revision.threshold is None else _deciding(aligner, reviser, trust_remote_code),
        revision.temperature,
        revision.max_new_tokens,
    )


def _asked(instruction: str, conversation: Sequence[Message], draft: str) -> list[Message]:
    return door.reviser.revision_prompt(conversation, draft, instruction)


def _open(model: Path, trust_remote_code: bool) -> TransformersGenerator:
    from seft_bench.generators.transformers import TransformersGenerator

    return TransformersGenerator(model, model.name, trust_remote_code=trust_remote_code)


class _Loaded(OwnEngine):
    """Measures likelihoods under a model that is in memory already."""

    def __init__(self, model: TransformersGenerator) -> None:
        super().__init__()
        self._model = model

    def score(self, model: Path, lists: Sequence[Answered]) -> list[list[logprobs.AnswerLogprob]]:
        return door.logprobs.score_lists(self._model.model, self._model.tokenizer, lists)


def _deciding(aligner: Aligner, reviser: TransformersGenerator, trust_remote_code: bool) -> Keeps:
    """Return what keeps a draft whose statistic reaches the threshold, measured as in a stage that revises."""
    revision = aligner.revision
    threshold = revision.threshold
    assert threshold is not None  # of an aligner that decides
    if aligner.decider:
        engine, decider = _Loaded(_open(aligner.decider, trust_remote_code)), aligner.decider
    else:
        engine, decider = _Loaded(reviser), None

    def keeps(asked: Sequence[Sequence[Message]], drafts: Sequence[str], revisions: Sequence[str]) -> Sequence[bool]:
        if decider:
            values = label_statistics(engine, decider, asked)
        elif revision.statistic == "keep":
            [own] = mean_logprobs(engine, aligner.reviser, asked, drafts)
            values = [door.reviser.keep_statistic(value) for value in own]
        else:
            own, revised = mean_logprobs(engine, aligner.reviser, asked, drafts, revisions)
            values = [door.reviser.mode_statistic(*both) for both in zip(own, revised, strict=True)]
        return [value >= threshold for value in values]

    return keeps


# Named ad hoc


def find_corrector(reviser: str) -> tuple[Aligner, str]:
    """Find a reviser with what is told it: an aligner's, or a model that stands for itself until a policy is known.

    Returns:
        The two, and the reviser's name in tables.
    """
    place = Path(reviser)
    found = place if is_aligner(place) else ready_folder(reviser)
    if found and is_aligner(found):
        return read_aligner(found), checkpoint_name(found)
    model = found or open_ready_model(reviser, "reviser of an aligner")
    return Aligner(model, model, Revision(_instruction_of(model))), checkpoint_name(model) if found else reviser


def _instruction_of(reviser: Path) -> str:
    """Return what a reviser of ours was trained to be told; of another one our default, and say so."""
    stage = reviser.parent.parent / "stage.json"
    record = read_json(stage, "record of a stage") if stage.is_file() else {}
    if instruction := record.get("identity", {}).get("settings", {}).get("instruction"):
        return str(instruction)
    note(
        f"reviser {reviser} does not say what it is to be told: {door.revisers.INSTRUCTION!r} is. An {ALIGNER} with "
        "`instruction` says otherwise"
    )
    return door.revisers.INSTRUCTION
