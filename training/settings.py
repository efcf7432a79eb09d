"""Settings of training runs and of sampling, their checks, and the arithmetic of steps and learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from seft_bench.config import Strict
from seft_bench.errors import InputError
from seft_bench.records import Row

from .loss_table import Loss, LossSettings, find_loss
from .schedules import Course, DecayShape, ScheduleName, scheduled_learning_rate

TrackerName = Literal["tensorboard", "wandb", "trackio"]


class LoraSettings(Strict):
    """LoRA (arXiv 2106.09685): low-rank matrices are learnt beside frozen weights, through peft.

    Rank and alpha as in alignment-handbook's `zephyr-7b-beta/sft/config_qlora.yaml` (which has a dropout of 0.05 on
    top); all linear layers as in QLoRA (arXiv 2305.14314).

    Attributes:
        rank: of the matrices.
        alpha: what they add is scaled by alpha / rank.
        dropout: of what enters them, while training.
        target_modules: "all-linear" (but the output layer), or names of layers, such as q_proj.
        use_rslora: scale by alpha / sqrt(rank) (arXiv 2312.03732).
    """

    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    use_rslora: bool = False


class EarlyStop(Strict):
    """When a run ends before its last step: the held-out loss got no better.

    Attributes:
        patience: measurements in a row without a better one.
        min_delta: a loss is better when it lies more than this below the best one.
    """

    patience: int = Field(default=3, gt=0)
    min_delta: float = Field(default=0.0, ge=0)


class ValidationSettings(Strict):
    """A part of the data that is not learnt, on which loss and reward accuracy are measured.

    Attributes:
        share, rows: how much is held out, by questions (see `validation`); exactly one of them is given.
        every_steps: steps between two measurements; the last step is always measured.
        early_stop: ends the run when the held-out loss no longer falls; the best checkpoint is then the last one.
    """

    share: float | None = Field(default=None, gt=0, lt=1)
    rows: int | None = Field(default=None, gt=0)
    every_steps: int = Field(default=50, gt=0)
    early_stop: EarlyStop | None = None

    @model_validator(mode="after")
    def _one_size(self) -> ValidationSettings:
        if (self.share is None) == (self.rows is None):
            raise ValueError(f"give exactly one of share and rows, got share={self.share!r} and rows={self.rows!r}")
        return self


Momentum = Annotated[float, Field(ge=0, lt=1)]


class TrainSettings(Strict):
    """Hyperparameters of one training run, as a recipe gives them.

    Attributes:
        learning_rate: of AdamW, after warmup.
        epochs, max_steps, max_tokens: how long; exactly one of them is given. Of tokens, as many steps as stay within
            them (both sides of pairs, padding not counted).
        global_batch_size: examples (a pair is one) between two optimizer steps.
        micro_batch_size: examples in one forward; changes memory and speed, not the result.
        warmup_ratio: share of the steps in which the learning rate rises linearly.
        warmup_steps: their number, which goes before the ratio where it is given.
        schedule: after warmup: "cosine" or "linear" (to 0 at the end), "constant", "inverse_sqrt", or "wsd" (constant,
            then a decay), see `schedules`.
        decay_ratio, decay_shape: share of the steps in which "wsd" decays, and how: "linear" or "1-sqrt".
        weight_decay: of matrices only, never of norms and biases.
        max_grad_norm: the gradient's norm is cut to this.
        max_length: tokens of prompt and answer together.
        device: "auto", "cpu", "cuda", ...
        precision: "float32"; "mixed": bfloat16 in the forward over float32 weights; "bfloat16": weights in bfloat16,
            with an optimizer that keeps what their rounding would lose.
        optimizer: "adamw", or "adamw_8bit": moments of float32 weights in 8 bits, by blocks (bitsandbytes).
        sharding: with several processes: "ddp", each holds the whole model, or "fsdp", each holds a part of it.
        save_state_every_minutes: how often what a killed run goes on from is saved; seldomer where that would take
            more than 5 % of the time.
        lora: train an adapter over the frozen model, and save adapters; None trains all weights.
        dropout: keep the model's own dropout; off, policy and reference compute the same function.
        gradient_checkpointing: keep each layer's input only, and compute the layer again for its gradient.
        attention: kernel; "auto" takes the best that is there.
        padding_free: the sequences of a micro-batch stand in one row, none padded, and attention keeps them apart.
        validation: holds a part of the data out and measures the loss on it; None learns all rows.
        report_to: trackers that are told the run's figures: "tensorboard", "wandb", "trackio"; None is TensorBoard
            where it is installed.
        learn: of rows with `messages` the last answer, or all of them; a row's own `learn` goes before it.
        max_dropped_share: of a data set's rows that may be dropped (too long a prompt, an empty answer, a pair of equal
            ones); above it nothing is trained.
    """

    learning_rate: float = Field(gt=0)
    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    global_batch_size: int = Field(default=16, gt=0)
    micro_batch_size: int = Field(default=16, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    schedule: ScheduleName = "cosine"
    decay_ratio: float = Field(default=0.1, gt=0, le=1)
    decay_shape: DecayShape = "linear"
    weight_decay: float = Field(default=0.0, ge=0)
    adam_betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=512, ge=2)
    device: str = "auto"
    precision: Literal["float32", "mixed", "bfloat16"] = "float32"
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    sharding: Literal["ddp", "fsdp"] = "ddp"
    save_state_every_minutes: float = Field(default=10.0, gt=0)
    lora: LoraSettings | None = None
    dropout: bool = False
    gradient_checkpointing: bool = False
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] = "auto"
    padding_free: bool = False
    validation: ValidationSettings | None = None
    report_to: list[TrackerName] | None = None
    learn: Literal["last", "all"] = "last"
    max_dropped_share: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _one_length(self) -> TrainSettings:
        if self.max_tokens is not None:
            if self.epochs is not None or self.max_steps is not None:
                raise ValueError("give max_tokens alone, without epochs and max_steps")
        elif (self.epochs is None) == (self.max_steps is None):
            raise ValueError(
                f"give exactly one of epochs and max_steps, got epochs={self.epochs!r} and max_steps={self.max_steps!r}"
            )
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> TrainSettings:
        if self.schedule == "wsd" and self.warmup_steps is None and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError(
                f"warmup_ratio and decay_ratio are shares of one run, got {self.warmup_ratio} and {self.decay_ratio}"
            )
        return self

    @model_validator(mode="after")
    def _flash_is_half(self) -> TrainSettings:
        if self.attention.startswith("flash_attention") and self.precision == "float32":
            raise ValueError(f"attention: {self.attention} computes in bfloat16: give precision: mixed or bfloat16")
        return self

    @model_validator(mode="after")
    def _moments_in_8_bits(self) -> TrainSettings:
        if self.optimizer != "adamw_8bit":
            return self
        if self.precision == "bfloat16" and self.lora is None:
            raise ValueError(
                "optimizer: adamw_8bit is of float32 weights: give precision: mixed, or optimizer: adamw, whose state "
                "is small in bfloat16"
            )
        if self.sharding == "fsdp":
            raise ValueError("optimizer: adamw_8bit cannot be sharded: give sharding: ddp, or optimizer: adamw")
        return self

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: object) -> object:
        if isinstance(values, dict) and "dtype" in values:
            raise ValueError("`dtype` is called `precision`: write `precision: mixed` for `dtype: bfloat16`")
        return values

    def identity_row(self) -> Row:
        """Render what decides a run's outcome: run.json and the names of stage folders are made of it.

        A setting that came after the first ones is left out where it has its default: a new one renames no folder.
        """
        row = self.model_dump(mode="json")
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {
            name: value
            for name, value in row.items()
            if name not in OUTCOME_STAYS and (name in FIRST_SETTINGS or getattr(self, name) != defaults[name])
        }


LENGTHS = ("epochs", "max_steps", "max_tokens")
"""Settings that say how long a run is; one of them is given."""

FIRST_SETTINGS = frozenset(
    "learning_rate epochs max_steps global_batch_size micro_batch_size warmup_ratio schedule weight_decay adam_betas "
    "max_grad_norm max_length device precision".split()
)
"""Settings of the first format, which are always part of a run's identity."""

OUTCOME_STAYS = frozenset(
    ["save_state_every_minutes", "report_to", "max_dropped_share", "sharding", "min_graded_share"]
)
"""Settings that change how a run is watched, kept or spread, never what it makes."""


def without_outcome_stays(given: Any) -> Any:
    """Return a recipe's settings, at every depth, without those that change nothing of what is made."""
    if isinstance(given, Mapping):
        return {key: without_outcome_stays(value) for key, value in given.items() if key not in OUTCOME_STAYS}
    return given


Advantages = Literal["group", "batch", "none", "leave_one_out"]
"""An answer's reward less its group's mean, over the spread of the group's or of the global batch's rewards, or over
nothing (`losses.online.group_advantages`); or less the mean of the others of its group (`leave_one_out`)."""


@dataclass(frozen=True)
class Online:
    """How a policy draws the answers that it learns from.

    Attributes:
        samples: answers to each prompt; `global_batch_size` counts answers, and is a multiple of it.
        updates: optimizer steps on each batch of answers.
        max_new_tokens: of an answer.
        sampling_batch_size: answers that are drawn at a time.
        advantages: what an answer is worth beside the others.
        reward_beta: weight of the divergence from the reference that is taken off the reward.
        mask_truncated: answers that were cut at `max_new_tokens` are not learnt.
        judge: name of the judge that grades, or its file; None where a model's likelihood does.
    """

    samples: int
    updates: int
    max_new_tokens: int
    sampling_batch_size: int
    advantages: Advantages
    reward_beta: float = 0.0
    mask_truncated: bool = False
    judge: str | None = None

    def prompts_in_batch(self, settings: TrainSettings) -> int:
        return settings.global_batch_size // self.samples


@dataclass(frozen=True)
class TrainJob:
    """All that decides a training run beside its model and its data; a wrong one is refused when it is made.

    Attributes:
        loss: a name in `LOSSES`.
        loss_settings: its settings, defaults where absent.
        checkpoints: how many are saved, evenly spaced, the last one at the end.
        seed: of the order of examples, of a fresh initialisation, and of dropout.
        fresh: a model folder without weights starts from an initialisation, where it is else refused.
        online: how answers are drawn, where the rows are prompts.

    Raises:
        InputError: unknown loss, a setting that it does not take, or no checkpoint asked for.
    """

    settings: TrainSettings
    loss: str = "sft"
    loss_settings: LossSettings = field(default_factory=dict)
    checkpoints: int = 1
    seed: int = 0
    fresh: bool = False
    online: Online | None = None

    def __post_init__(self) -> None:
        if self.loss_entry.is_of_rewards and self.settings.padding_free:
            raise InputError(f"training settings: padding_free cannot be true with the loss {self.loss!r}")
        if not self.checkpoints > 0:
            raise InputError(f"training settings: checkpoints must be greater than 0, got {self.checkpoints!r}")

    @property
    def loss_entry(self) -> Loss:
        return find_loss(self.loss, self.loss_settings)

    def as_row(self) -> Row:
        """Render the job as run.json holds it: a run is recognised by this row."""
        return {
            "loss": self.loss,
            **self.settings.identity_row(),
            "loss_settings": self.loss_entry.identity_row(self.loss_settings),
            "seed": self.seed,
            "checkpoints": self.checkpoints,
            **({"online": asdict(self.online)} if self.online else {}),
        }

    def batches_in_epoch(self, examples: int) -> int:
        """Count the global batches that use each example once."""
        size = self.online.prompts_in_batch(self.settings) if self.online else self.settings.global_batch_size
        return steps_in_epoch(examples, size)

    def steps(self, examples: int) -> int:
        """Count the optimizer steps of the run, at least 1; of `max_tokens` the fewest, see `data.planned_steps`."""
        if self.settings.max_tokens is not None:
            longest = self.settings.global_batch_size * self.settings.max_length * self.loss_entry.sides
            return max(1, self.settings.max_tokens // longest)
        if self.online is None or self.settings.max_steps is not None:
            return total_steps(self.settings, examples)
        return max(1, round((self.settings.epochs or 0) * self.batches_in_epoch(examples))) * self.online.updates


class DraftSettings(Strict):
    """Settings with which a policy answers prompts."""

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=64, gt=0)
    batch_size: int = Field(default=128, gt=0)


def steps_in_epoch(examples: int, global_batch_size: int) -> int:
    """Count the optimizer steps that use each example once; the last batch may be smaller."""
    return math.ceil(examples / global_batch_size)


def total_steps(settings: TrainSettings, examples: int) -> int:
    """Count the optimizer steps of the run, at least 1."""
    if settings.max_steps is not None:
        return settings.max_steps
    return max(1, round((settings.epochs or 0) * steps_in_epoch(examples, settings.global_batch_size)))


def checkpoint_steps(steps: int, checkpoints: int) -> list[int]:
    """Space the steps at which a checkpoint is saved evenly, the last step among them.

    There are fewer than asked for where there are fewer steps.

    >>> checkpoint_steps(150, 2), checkpoint_steps(2, 4)
    ([75, 150], [1, 2])
    """
    return sorted({max(1, round(steps * part / checkpoints)) for part in range(1, checkpoints + 1)})


def learning_rate_at(settings: TrainSettings, step: int, steps: int) -> float:
    """Learning rate of one step, counted from 1: linear warmup, then the schedule."""
    return scheduled_learning_rate(settings.learning_rate, settings.schedule, course_of(settings, steps), step)


def course_of(settings: TrainSettings, steps: int) -> Course:
    """Lay the settings' shares out in the steps of a run.

    Raises:
        InputError: a given number of warmup steps takes the whole run, or meets the decay.
    """
    decay = math.ceil(settings.decay_ratio * steps) if settings.schedule == "wsd" else 0
    if settings.warmup_steps is None:
        warmup = math.ceil(settings.warmup_ratio * steps)
        return Course(steps, warmup, min(decay, steps - warmup), settings.decay_shape)
    if settings.warmup_steps >= steps or settings.warmup_steps + decay > steps:
        raise InputError(
            f"training settings: {settings.warmup_steps} warmup_steps{f' and {decay} of decay' if decay else ''} do "
            f"not fit into the run's {steps} steps. Give fewer, or a warmup_ratio"
        )
    return Course(steps, settings.warmup_steps, decay, settings.decay_shape)
