"""A batch of answers that the policy has drawn: what each is worth, and what a step says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .distributed import Processes
from .losses.online import SampledTotals, group_advantages, leave_one_out, spread_of
from .settings import Advantages
from .tokens import Tokens


@dataclass
class Drawn:
    """The answers of one batch that this process learns, sorted by length.

    Attributes:
        answers: prompts with their answers.
        stopped: False of an answer that was cut at the limit.
        learnt: False of an answer that is left out.
        parts: indices of each micro-batch.
        counts: False where this process only keeps step with the others.
        rewards: [prompts, samples] as they were drawn, NaN where an answer has no grade.
        places: of each answer in the flattened rewards.
        advantages: [answers]
        totals, tokens, sampled_tokens: of the global batch: prompts' tokens are in the second, not in the third.
        divergence: sum of log p/r over the learnt tokens, where it is a part of the rewards.
        reference, policy: log-probabilities [n, width] of each micro-batch under the frozen model, where there is one,
            and under the policy that drew the answers, as far as they are known.
        shares: this process's, of what a step says of its answers.
    """

    answers: list[Tokens]
    stopped: list[bool]
    learnt: list[bool]
    parts: list[list[int]]
    counts: bool
    rewards: Tensor
    places: list[int]
    advantages: Tensor
    totals: SampledTotals = field(default_factory=lambda: SampledTotals(0, 0, 0, 0))
    tokens: int = 0
    sampled_tokens: int = 0
    divergence: float | None = None
    reference: list[Tensor] | None = None
    policy: list[Tensor] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def learnt_tokens(self) -> int:
        return sum(answer.labelled for answer, learnt in zip(self.answers, self.learnt, strict=True) if learnt)

    def figures(self, device: torch.device) -> dict[str, Tensor]:
        """Return the shares as a step adds them up."""
        return {name: torch.tensor(share, dtype=torch.float32, device=device) for name, share in self.shares.items()}

    def mask(self, part: Sequence[int]) -> Tensor:
        """[n, longest] bool, True for tokens of the answers of a micro-batch that are learnt."""
        lengths = torch.tensor([self.answers[index].labelled for index in part])
        learnt = torch.tensor([self.learnt[index] for index in part])
        return (torch.arange(int(lengths.max()))[None] < lengths[:, None]) & learnt[:, None]


def arrange(
    drawn: Sequence[Tokens], rewards: Tensor, stops: frozenset[int], mask_truncated: bool, size: int, counts: bool
) -> Drawn:
    """Sort answers by length, and cut them into micro-batches of `size`."""
    places = sorted(range(len(drawn)), key=lambda index: len(drawn[index].ids))
    answers = [drawn[index] for index in places]
    stopped = [answer.ids[-1] in stops for answer in answers]
    learnt = [is_whole or not mask_truncated for is_whole in stopped]
    parts = [list(range(start, min(start + size, len(places)))) for start in range(0, len(places), size)]
    return Drawn(answers, stopped, learnt, parts, counts, rewards, places, torch.zeros(len(places)))


def count(drawn: Drawn, answers: int, limit: int, processes: Processes) -> None:
    """Count the global batch.

    Args:
        answers: in it.
        limit: tokens that an answer may have.
    """
    whole, sampled = (
        sum(len(answer.ids) for answer in drawn.answers),
        sum(answer.labelled for answer in drawn.answers),
    )
    mine = torch.tensor([drawn.learnt_tokens, len(drawn.parts), whole, sampled]) * drawn.counts
    learnt, parts, drawn.tokens, drawn.sampled_tokens = processes.add_up(mine).tolist()
    drawn.totals = SampledTotals(answers, max(1, learnt), parts, limit)


def worth(rewards: Tensor, kind: Advantages, counts: bool, processes: Processes) -> Tensor:
    """Return what each answer is worth beside the others, [prompts, samples].

    Args:
        counts: whether these rewards are part of the global batch.
    """
    if kind == "leave_one_out":
        return leave_one_out(rewards)
    if kind == "none":
        return group_advantages(rewards, None)
    if kind == "group":
        return group_advantages(rewards, spread_of(rewards, by_group=True))
    mine = [None if math.isnan(value) else value for value in rewards.flatten().tolist()] if counts else []
    told = [math.nan if value is None else value for part in processes.gather(mine) for value in part]
    return group_advantages(rewards, spread_of(torch.tensor(told, dtype=torch.float64), by_group=False))


def shares_of(drawn: Drawn, processes: Processes) -> dict[str, float]:
    """Return this process's shares of the global batch's means: reward, answers' length and how they end."""
    absent, answers = drawn.rewards.isnan(), drawn.totals.answers
    graded = processes.total(float((~absent).sum()) if drawn.counts else 0.0)
    highest = drawn.rewards.nan_to_num(nan=-math.inf).amax(dim=1)
    alike = highest <= drawn.rewards.nan_to_num(nan=math.inf).amin(dim=1)
    shares = {
        "reward": float(drawn.rewards.nansum()) / max(1.0, graded),
        "ungraded_share": float(absent.sum()) / answers,
        "alike_share": float(alike.sum()) * drawn.rewards.shape[1] / answers,
        "answer_tokens": sum(answer.labelled for answer in drawn.answers) / answers,
        "truncated_share": drawn.stopped.count(False) / answers,
    }
    if drawn.divergence is not None:
        shares["kl"] = drawn.divergence / drawn.totals.tokens
    return {name: share * drawn.counts for name, share in shares.items()}
