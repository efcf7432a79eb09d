"""A run that draws the answers it learns from: a batch of prompts, several answers to each, grades, then updates.

What draws and what grades is given from outside (`Helpers`). A batch follows from the run's seed, its number and the
policy of that moment alone, so a run that was killed goes on bit for bit: its state is saved between two batches only.

An answer is the very token ids that were drawn; its last one is the stop token where it stopped. All answers to a
prompt are drawn, graded and learnt by one process; what else means go over is the global batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seft_bench.chat import answer_text, stop_ids
from seft_bench.errors import InputError
from seft_bench.records import Message, Row

from .data import Example, batch_plan
from .distributed import ALONE, Processes
from .drawn import Drawn, arrange, count, shares_of, worth
from .logprobs import answer_token_logprobs
from .losses.online import Sampled, divergence_of
from .precision import autocast
from .run import Run
from .settings import Online, TrainJob
from .sharding import placed
from .tokens import Tokens

Draw = Callable[[Any, Sequence[Sequence[int]], Sequence[str]], list[list[int]]]
"""(model, prompts' ids, a key of each) -> ids drawn from the policy itself, with the stop token where one stopped."""

GradeAnswers = Callable[[Sequence[tuple[Sequence[Message], str]]], Sequence[float | None]]
"""Prompts with an answer each -> their rewards, None where one has none."""


@dataclass(frozen=True)
class Helpers:
    """What a run is given to draw and grade answers with."""

    draw: Draw
    grade: GradeAnswers


class OnlineRun(Run):
    """A run over prompts."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Example],
        tokenizer: Any,
        helpers: Helpers,
        job: TrainJob,
        reference: Any | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Put the models on their device.

        Args:
            prompts: examples without answers.
            reference: the frozen model, where the loss or the reward has a use for one.
        """
        super().__init__(model, prompts, None, job, processes)
        self.online, self.helpers, self.tokenizer = online_of(job), helpers, tokenizer
        self.stops = frozenset(stop_ids(tokenizer))
        self.frozen = None if reference is None else placed(reference, self.settings, processes).eval()
        self.sampled_tokens = self.sampled_answers = 0
        self.drawn: Drawn | None = None

    # Steps and batches: several updates may learn one batch of answers

    @property
    def batch(self) -> int:
        """Number of the current step's batch, from 0."""
        return (self.step - 1) // self.online.updates

    @property
    def is_first_update(self) -> bool:
        return (self.step - 1) % self.online.updates == 0

    @property
    def may_pause(self) -> bool:
        return self.step % self.online.updates == 0

    def position(self) -> Row:
        epoch = self.step / self.online.updates / self.batches_in_epoch
        return {"step": self.step, "epoch": round(epoch, 6), "tokens": self.tokens}

    def facts(self) -> Row:
        return super().facts() | {"sampled_tokens": self.sampled_tokens, "sampled_answers": self.sampled_answers}

    def restore(self, tensors: Mapping[str, Tensor], facts: Row) -> None:
        super().restore(tensors, facts)
        self.sampled_tokens, self.sampled_answers = facts["sampled_tokens"], facts["sampled_answers"]

    def summary(self) -> Row:
        """Return what the run has drawn, for its summary."""
        first_epoch = batch_plan(self.lengths, self.online.prompts_in_batch(self.settings), self.job.seed, 0)
        prompts = sum(len(batch) for batch in first_epoch[: self.batch + 1])
        return {"prompts": prompts, "answers": self.sampled_answers, "tokens": self.sampled_tokens}

    def _global_batch(self) -> list[int]:
        epoch, index = divmod(self.batch, self.batches_in_epoch)
        if self.plan[0] != epoch:
            size = self.online.prompts_in_batch(self.settings)
            self.plan = (epoch, batch_plan(self.lengths, size, self.job.seed, epoch))
        return self.plan[1][index]

    # One update

    def _forward_backward(self, batch: Sequence[int]) -> dict[str, Tensor]:
        """Draw a batch of answers where one is due; add this process's part of the gradient of an update on it."""
        if self.is_first_update:
            self.drawn = self._draw_batch(batch)
        drawn = self.drawn
        if drawn is None:
            raise RuntimeError("a run went on from the middle of a batch, whose answers are no longer there")
        measured: dict[str, Tensor] = {}
        for number in range(len(drawn.parts)):
            for name, share in self._learn(drawn, number).items():
                measured[name] = measured[name] + share if name in measured else share
        self.tokens += drawn.tokens
        self.labelled_tokens += drawn.totals.tokens
        return measured | drawn.figures(self.device)

    def _learn(self, drawn: Drawn, number: int) -> dict[str, Tensor]:
        """Add one micro-batch's gradient; return its share of the loss and the metrics, zeros where it counts not."""
        with autocast(self.settings, self.device):
            policy = self._logprobs(self.model, drawn, drawn.parts[number])
        if self.is_first_update:  # the policy is the one that drew them, so the ratio is 1, and not nearly 1
            drawn.policy[number : number + 1] = [policy.detach()]
        sampled = self._record(drawn, number, policy)
        loss, metrics = self.loss.function(sampled, drawn.totals, **self.job.loss_settings)
        shares = {"loss": loss, **metrics}
        if not drawn.counts:
            shares = {name: 0 * share for name, share in shares.items()}
        shares["loss"].backward()
        return {name: share.detach() for name, share in shares.items()}

    def _record(self, drawn: Drawn, number: int, policy: Tensor) -> Sampled:
        part = drawn.parts[number]
        reference = None if drawn.reference is None else drawn.reference[number]
        learnt, advantages = drawn.mask(part).to(self.device), drawn.advantages[part].to(self.device)
        return Sampled(policy, drawn.policy[number], learnt, advantages, reference)

    def _logprobs(self, model: Any, drawn: Drawn, part: Sequence[int]) -> Tensor:
        answers = [drawn.answers[index] for index in part]
        return answer_token_logprobs(model, answers, self.device, self.settings.padding_free)

    # A batch of answers

    def _draw_batch(self, batch: Sequence[int]) -> Drawn:
        """Draw and grade the answers to this process's prompts of a batch, and say what each is worth."""
        mine = list(batch[self.processes.rank :: self.processes.size])
        counts, mine = bool(mine), mine or [batch[0]]
        answers = self._answers(mine)
        size, mask = self.settings.micro_batch_size, self.online.mask_truncated
        drawn = arrange(answers, self._rewards(mine, answers), self.stops, mask, size, counts)
        drawn.reference = self._reference(drawn)
        advantages = worth(self._penalised(drawn), self.online.advantages, counts, self.processes)
        drawn.advantages = advantages.flatten()[drawn.places].float()
        count(drawn, len(batch) * self.online.samples, self.online.max_new_tokens, self.processes)
        drawn.shares = shares_of(drawn, self.processes)
        self.sampled_answers += drawn.totals.answers
        self.sampled_tokens += drawn.sampled_tokens
        return drawn

    def _answers(self, prompts: Sequence[int]) -> list[Tokens]:
        """Draw all answers to prompts, in their order."""
        keys = [(index, sample) for index in prompts for sample in range(self.online.samples)]
        asked = [self.examples[index].chosen.ids.tolist() for index, _ in keys]
        self.model.eval()
        with torch.no_grad(), autocast(self.settings, self.device):
            # Not under inference_mode: what a model keeps of these forwards is used again with gradients.
            found = self.helpers.draw(self.model, asked, [f"{self.batch}/{index}/{sample}" for index, sample in keys])
        self.model.train()
        return [Tokens.of(prompt, answer) for prompt, answer in zip(asked, found, strict=True)]

    def _rewards(self, prompts: Sequence[int], answers: Sequence[Tokens]) -> Tensor:
        """Grade answers: [prompts, samples] float64, NaN where one has no grade.

        Raises:
            InputError: no answer of the first batch has one.
        """
        asked = [self.examples[index].messages or [] for index in prompts for _ in range(self.online.samples)]
        ids = [answer.ids[answer.prompt_tokens :].tolist() for answer in answers]
        texts = [answer_text(self.tokenizer, each, tuple(self.stops)) for each in ids]
        grades = self.helpers.grade(list(zip(asked, texts, strict=True)))
        values = torch.tensor([math.nan if grade is None else grade for grade in grades], dtype=torch.float64)
        if self.batch == 0 and not self.processes.total(float((~values.isnan()).sum())):
            raise InputError(
                f"none of the {len(values)} answers of the first batch has a grade: all of them are empty, or the "
                "grader could not say. Look at what the policy answers, or give another grader"
            )
        return values.reshape(len(prompts), self.online.samples)

    def _reference(self, drawn: Drawn) -> list[Tensor] | None:
        """Return the log-probabilities of each micro-batch under the frozen model."""
        frozen = self.frozen
        if frozen is None:
            return None
        with torch.no_grad(), autocast(self.settings, self.device):
            return [self._logprobs(frozen, drawn, part) for part in drawn.parts]

    def _penalised(self, drawn: Drawn) -> Tensor:
        """Take the divergence from the reference off the rewards, where it is a part of them."""
        if not self.online.reward_beta:
            return drawn.rewards
        rewards, drawn.divergence = drawn.rewards.flatten().clone(), 0.0
        with torch.no_grad(), autocast(self.settings, self.device):
            drawn.policy = [self._logprobs(self.model, drawn, part) for part in drawn.parts]
        for number, part in enumerate(drawn.parts):
            places = torch.tensor([drawn.places[index] for index in part])
            record = self._record(drawn, number, drawn.policy[number])
            divergence = divergence_of(record).cpu().double()
            rewards[places] -= self.online.reward_beta * divergence
            drawn.divergence += float(divergence.sum())
        return rewards.reshape(drawn.rewards.shape)


def longest_answers(prompts: Sequence[Example], drawing: Online) -> list[Example]:
    """Make the examples that a pass over prompts learns at most: every answer is as long as it may become."""
    answer = [0] * drawing.max_new_tokens
    return [Example(Tokens.of(prompt.chosen.ids, answer)) for prompt in prompts for _ in range(drawing.samples)]


def online_of(job: TrainJob) -> Online:
    if job.online is None:
        raise TypeError("this job says nothing of how answers are drawn")
    return job.online
