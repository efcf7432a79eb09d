"""Who grades samples: the names that `grader` of a recipe's settings may have, and the stage that each one means.

A name that is none of these is a judge's: a shipped one, or its YAML file.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from seft_bench.records import Base, Model, Output, Source

from .stages import Grade

BASE_LIKELIHOOD, START_LIKELIHOOD, POLICY_LIKELIHOOD = "base-likelihood", "start-likelihood", "policy-likelihood"
MODEL_LIKELIHOOD = "likelihood:"
"""Before the folder or the hub id of a ready model."""

REWARD_MODEL, TRAINED_REWARD_MODEL = "reward-model", "trained-reward-model"
"""The stage that trains a reward model on the annotated pairs, and the grader that means it."""
MODEL_REWARD = "reward:"
"""Before the folder or the hub id of a ready reward model."""

REWARDS = (TRAINED_REWARD_MODEL, f"{MODEL_REWARD}MODEL")
LIKELIHOODS = (BASE_LIKELIHOOD, START_LIKELIHOOD, POLICY_LIKELIHOOD, f"{MODEL_LIKELIHOOD}MODEL")


def check_grader(name: str) -> str:
    """Return a grader's name.

    Raises:
        ValueError: it is a likelihood's, and no model's that there could be.
    """
    model = name.removeprefix(MODEL_LIKELIHOOD) if name.startswith(MODEL_LIKELIHOOD) else "given"
    if not model.strip() or (name.endswith("-likelihood") and name not in LIKELIHOODS):
        raise ValueError(f"a likelihood is one of {', '.join(LIKELIHOODS)}, with the folder or the hub id of a model")
    if name.startswith(MODEL_REWARD) and not name.removeprefix(MODEL_REWARD).strip():
        raise ValueError(f"{MODEL_REWARD}MODEL needs the folder or the hub id of a reward model")
    return name


def is_likelihood(name: str) -> bool:
    return name in LIKELIHOODS or name.startswith(MODEL_LIKELIHOOD)


GraderName = Annotated[str, AfterValidator(check_grader)]

GRADED_BY = (
    "what grades the samples: their mean log-probability per token under a model "
    f"({', '.join(LIKELIHOODS)}), their reward by a reward model ({', '.join(REWARDS)}), or a judge by name or file"
)
LEAST_GRADED = 0.9
GRADED_ENOUGH = "share of the samples that must get a grade, or nothing is trained on them"


def likelihood_model(grader: str, policy: Source, start: Source) -> Source | None:
    """Find the model whose likelihood a grader's name means; None of a judge.

    Args:
        policy: what the round starts from.
        start: what the first round starts from.
    """
    models: dict[str, Source] = {BASE_LIKELIHOOD: Base(), START_LIKELIHOOD: start, POLICY_LIKELIHOOD: policy}
    if grader.startswith(MODEL_LIKELIHOOD):
        models[grader] = Model(grader.removeprefix(MODEL_LIKELIHOOD))
    return models.get(grader)


def rewarding_model(grader: str) -> Source | None:
    """Find the reward model that a grader's name means; None of a likelihood and of a judge."""
    if grader.startswith(MODEL_REWARD):
        return Model(grader.removeprefix(MODEL_REWARD))
    return Output(REWARD_MODEL) if grader == TRAINED_REWARD_MODEL else None


def grade_stage(name: str, samples: Source, grader: str, policy: Source, start: Source, least_share: float) -> Grade:
    """Build the stage that grades samples.

    Args:
        policy, start: as of `likelihood_model`.
        least_share: of the samples that must get a grade.
    """
    model, rewards = likelihood_model(grader, policy, start), rewarding_model(grader)
    judge = None if model or rewards else grader
    return Grade(name, samples, judge, model, reward_model=rewards, least_share=least_share)
