"""The table of losses: what each needs, and the settings that it takes. Light, so that methods can be listed from it.

A new loss is one function in a module of `training.losses` and one entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from seft_bench.errors import InputError, unknown_name

if TYPE_CHECKING:
    from .losses import LossOutput

Rows = Literal["answers", "pairs", "labels", "prompts", "conversations"]
"""(prompt, answer), (prompt, chosen, rejected), (prompt, answer, label), (prompt), whose answers are drawn, or pairs as
two whole conversations, each with a reward."""

LossSettings = Mapping[str, float | str]
"""Values of a loss's settings; those that are absent have their defaults."""


@dataclass(frozen=True)
class Number:
    """A setting that is a number within bounds.

    Attributes:
        above, at_least, below: the bounds; None where there is none on that side.
        quiet: left out of a run's identity where it has its default: it came after the loss's first runs.
    """

    default: float
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    quiet: bool = False

    def fault(self, value: object) -> str | None:
        """Say what the value must be; None where it is that."""
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            low = self.above is None or value > self.above
            least = self.at_least is None or value >= self.at_least
            if low and least and (self.below is None or value < self.below):
                return None
        return f"a number{self._bounds()}"

    def _bounds(self) -> str:
        found = [
            f"{word} {bound:g}"
            for word, bound in (("above", self.above), ("of at least", self.at_least), ("below", self.below))
            if bound is not None
        ]
        return f" {' and '.join(found)}" if found else ""


@dataclass(frozen=True)
class Name:
    """A setting that is one of several names."""

    default: str
    choices: tuple[str, ...]
    quiet: bool = False

    def fault(self, value: object) -> str | None:
        """Say what the value must be; None where it is that."""
        return None if value in self.choices else f"one of {', '.join(self.choices)}"


Setting = Number | Name


@dataclass(frozen=True)
class Loss:
    """A loss and the facts about it that the loop acts on.

    Attributes:
        place: module and function in `training.losses`: (Logprobs, Totals, **settings) -> LossOutput; of rows that
            are prompts, (Sampled, SampledTotals, **settings); of conversations, (Rewards, Totals, **settings).
        rows: the kind of rows that it learns from.
        needs_reference: log-probabilities of a frozen reference model are computed before training.
        needs_mismatched: the reference's and the policy's log-probabilities of answers to other prompts, too.
        needs_shared: sums over the first tokens of both answers of a pair, too.
        length_average: answers are compared by log-probability per token, not by their sum.
        settings: it takes these, and no other.
        summary: what the method that trains by it is, in one sentence.
    """

    place: str
    summary: str
    rows: Rows = "pairs"
    needs_reference: bool = False
    needs_mismatched: bool = False
    needs_shared: bool = False
    length_average: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def sides(self) -> int:
        """Sequences of one example that are learnt."""
        return 2 if self.rows in ("pairs", "conversations") else 1

    @property
    def is_of_rewards(self) -> bool:
        """Return whether what is trained is a reward model: one number for a conversation, in place of tokens."""
        return self.rows == "conversations"

    @property
    def columns(self) -> int:
        """Log-probabilities of one example that the reference gives."""
        return self.sides * (2 if self.needs_shared else 1) + self.needs_mismatched

    @property
    def function(self) -> Callable[..., LossOutput]:
        module, _, name = self.place.partition(".")
        # Imported when it is needed, since listing methods does without torch.
        found: Callable[..., LossOutput] = getattr(import_module(f".losses.{module}", __package__), name)
        return found

    def identity_row(self, given: LossSettings) -> dict[str, float | str]:
        """Render the settings of a stage as its name holds them: a quiet one only where it is not its default."""
        return {key: value for key, value in given.items() if not self._is_quiet(key, value)}

    def _is_quiet(self, key: str, value: float | str) -> bool:
        return self.settings[key].quiet and value == self.settings[key].default


POSITIVE_BETA = Number(0.1, above=0)
NLL_WEIGHT = Number(0.0, at_least=0, quiet=True)


def _of_pairs(place: str, summary: str, **settings: Setting) -> Loss:
    """Make an entry for a loss of pairs that has a reference, and compares sums."""
    settings = {"beta": POSITIVE_BETA, **settings, "nll_weight": NLL_WEIGHT}
    return Loss(place, summary, needs_reference=True, settings=settings)


_OF_LABELS = {
    "beta": POSITIVE_BETA,
    "desirable_weight": Number(1.0, at_least=0),
    "undesirable_weight": Number(1.0, at_least=0),
}

_OF_SAMPLES = {"epsilon": Number(0.2, above=0, below=1), "epsilon_high": Number(0.2, above=0)}

LOSSES: dict[str, Loss] = {
    "sft": Loss("answers.sft_loss", "SFT on annotated conversations", "answers", length_average=True),
    "dpo": _of_pairs("with_reference.dpo_loss", "direct preference optimisation (arXiv 2305.18290)"),
    "dpo-hinge": _of_pairs("with_reference.dpo_hinge_loss", "DPO with a hinge (arXiv 2309.06657)"),
    "dpo-robust": _of_pairs(
        "with_reference.dpo_robust_loss",
        "DPO for labels of which a share is flipped (arXiv 2403.00409)",
        label_smoothing=Number(0.1, at_least=0, below=0.5),
    ),
    "dpo-exo": _of_pairs(
        "with_reference.dpo_exo_loss", "EXO of pairs (arXiv 2402.00856)", label_smoothing=Number(1e-3, above=0, below=1)
    ),
    "dpo-norm": replace(
        _of_pairs(
            "with_reference.dpo_norm_loss", "length-normalised DPO (arXiv 2411.15124)", beta=Number(5.0, above=0)
        ),
        length_average=True,
    ),
    "r-dpo": _of_pairs(
        "with_reference.r_dpo_loss",
        "DPO for a reward less alpha per token (arXiv 2403.19159)",
        alpha=Number(0.05, at_least=0),
    ),
    "ld-dpo": replace(
        _of_pairs(
            "with_reference.ld_dpo_loss",
            "DPO that discounts what only the longer answer has (arXiv 2409.06411)",
            alpha=Number(0.5, at_least=0),
        ),
        needs_shared=True,
    ),
    "ipo": _of_pairs("with_reference.ipo_loss", "identity preference optimisation over sums (arXiv 2310.12036)"),
    "ipo-mean": replace(
        _of_pairs("with_reference.ipo_mean_loss", "identity preference optimisation over means per token, as in TRL"),
        length_average=True,
    ),
    "apo-zero": _of_pairs("with_reference.apo_zero_loss", "anchored preference optimisation, zero (arXiv 2408.06266)"),
    "apo-down": _of_pairs("with_reference.apo_down_loss", "anchored preference optimisation, down (arXiv 2408.06266)"),
    "nca": _of_pairs(
        "with_reference.nca_loss", "noise contrastive alignment of pairs (arXiv 2402.05369)", beta=Number(0.01, above=0)
    ),
    "sppo": _of_pairs(
        "with_reference.sppo_loss", "self-play preference optimisation with hard labels (arXiv 2405.00675)"
    ),
    "discopop": _of_pairs(
        "with_reference.discopop_loss",
        "DiscoPOP (arXiv 2406.08414)",
        beta=Number(0.05, above=0),
        tau=Number(0.05, above=0),
    ),
    "orpo": Loss(
        "without_reference.orpo_loss",
        "odds-ratio preference optimisation (arXiv 2403.07691)",
        length_average=True,
        settings={"beta": POSITIVE_BETA},
    ),
    "cpo": Loss(
        "without_reference.cpo_loss",
        "contrastive preference optimisation (arXiv 2401.08417)",
        settings={"beta": POSITIVE_BETA, "nll_weight": Number(1.0, at_least=0)},
    ),
    "simpo": Loss(
        "without_reference.simpo_loss",
        "simple preference optimisation (arXiv 2405.14734)",
        length_average=True,
        settings={
            "beta": Number(2.0, above=0),
            "gamma_beta_ratio": Number(0.5, at_least=0),
            "nll_weight": NLL_WEIGHT,
        },
    ),
    "slic": Loss(
        "without_reference.slic_loss",
        "sequence likelihood calibration (arXiv 2305.10425)",
        settings={"delta": Number(1.0, at_least=0), "nll_weight": Number(0.1, at_least=0)},
    ),
    "kto": Loss(
        "labelled.kto_loss",
        "Kahneman-Tversky optimisation (arXiv 2402.01306)",
        "labels",
        needs_reference=True,
        needs_mismatched=True,
        settings=_OF_LABELS,
    ),
    "apo-zero-labelled": Loss(
        "labelled.apo_zero_labelled_loss",
        "anchored preference optimisation of labelled answers (arXiv 2408.06266)",
        "labels",
        needs_reference=True,
        settings=_OF_LABELS,
    ),
    "grpo": Loss(
        "online.grpo_loss",
        "online: GRPO with Dr. GRPO's, DAPO's and GSPO's choices (arXiv 2402.03300)",
        "prompts",
        settings={
            **_OF_SAMPLES,
            "beta": Number(0.0, at_least=0),
            "loss_type": Name("dapo", ("grpo", "dapo", "dr_grpo", "bnpo")),
            "ratio": Name("token", ("token", "sequence")),
        },
    ),
    "rloo": Loss(
        "online.rloo_loss", "online: REINFORCE leave-one-out (arXiv 2402.14740)", "prompts", settings=_OF_SAMPLES
    ),
    "reward-model": Loss(
        "rewards.bradley_terry_loss",
        "reward model by Bradley and Terry, from preference pairs (arXiv 2203.02155)",
        "conversations",
        settings={"centering": Number(0.0, at_least=0)},
    ),
}
"""Name -> loss. The name is also that of the method which trains a policy by it, see `training.methods`."""


def find_loss(name: str, settings: LossSettings) -> Loss:
    """Look a loss up, and check its settings.

    Raises:
        InputError: unknown loss, a setting that the loss does not take, or a value that it cannot have.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    loss = LOSSES[name]
    for key, value in settings.items():
        if key not in loss.settings:
            raise unknown_name(f"setting of the loss {name!r}", key, loss.settings)
        if fault := loss.settings[key].fault(value):
            raise InputError(f"setting {key!r} of the loss {name!r} must be {fault}, got {value!r}")
    return loss
