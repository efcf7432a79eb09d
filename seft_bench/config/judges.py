"""The keys of a judge's YAML, by the judge's kind.

A key is never in it: `api_key_env` names the environment variable.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from seft_bench.config.loading import Strict
from seft_bench.config.servers import ServerSettings


class RubricJudgeConfig(Strict):
    """The tinyworld's deterministic rubric."""

    name: str
    kind: Literal["rubric"]
    length_bias: float = Field(
        default=0.0, description="added to a pair's log-odds per unit of tanh(standardised length difference)"
    )
    description: str = ""


class ReplayJudgeConfig(Strict):
    """Judgments recorded before, ours or in the official tools' formats."""

    name: str
    kind: Literal["replay"]
    path: str = Field(description="file of judgments")
    description: str = ""


class OpenAIJudgeConfig(ServerSettings):
    """Any OpenAI-compatible chat-completions server."""

    name: str
    kind: Literal["openai"]
    model: str
    templates: Literal["official", "seft-bench"] = Field(
        default="official", description="the official tools' prompts, or our own"
    )
    temperature: float | None = Field(default=None, ge=0, description="null: the protocol's own")
    max_tokens: int | None = Field(default=None, gt=0, description="null: the protocol's own")
    preference_from: Literal["logprobs", "choice", "samples", "token"] = Field(
        default="logprobs",
        description=(
            "the first token's log-probabilities, those under a constraint to m or M (vLLM), several samples, or one "
            "verdict"
        ),
    )
    samples: int | None = Field(
        default=None, ge=2, description="verdicts a preference, with `preference_from: samples`; null: 5"
    )
    seed: int | None = Field(default=None, ge=0, description="sent with each request, plus the number of the sample")
    epoch: str = Field(default="", description="another word asks everything again, under another id")
    context_tokens: int | None = Field(default=None, gt=0)
    tokenizer: str | None = Field(
        default=None,
        description="folder or hub id: prompts are counted exactly against context_tokens, not by their characters",
    )
    retired_on: date | None = Field(default=None, description="day from which the provider no longer serves the model")
    description: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.samples is not None and self.preference_from != "samples":
            raise ValueError(f"`samples` needs `preference_from: samples`, which is {self.preference_from}")
        if self.preference_from == "samples" and self.temperature == 0:
            raise ValueError(
                "`preference_from: samples` needs a temperature above 0 (null: the protocol's 1): samples of a greedy "
                "judge are all the same"
            )
        if self.temperature is not None and not self.send_temperature:
            raise ValueError(
                "`temperature` is set, and `send_temperature: false` says that none is sent: leave one of them out"
            )
        return self


class VLLMJudgeConfig(Strict):
    """A model in a vLLM server that is started when the first judgment is asked for, and stopped after the last."""

    name: str
    kind: Literal["vllm"]
    model: str = Field(description="checkpoint folder, or a hub id that was fetched before")
    templates: Literal["official", "seft-bench"] = Field(
        default="seft-bench", description="the official tools' prompts, or our own"
    )
    temperature: float | None = Field(default=None, ge=0, description="of grades; null: the protocol's own")
    max_tokens: int | None = Field(default=None, gt=0, description="of grades; null: the protocol's own")
    server_arguments: list[str] = Field(
        default_factory=list, description="added to the server's command line, as in --max-model-len, 8192"
    )
    start_seconds: float = Field(default=1800.0, gt=0, description="how long a start may take")
    max_in_flight: int = Field(default=256, gt=0)
    description: str = ""


class LocalJudgeConfig(Strict):
    """Settings that judges in this process share."""

    name: str
    model: str = Field(description="checkpoint folder or hub id, safetensors only")
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model; dangerous")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_size: int = Field(default=16, gt=0)
    context_tokens: int | None = Field(
        default=None, gt=0, description="null: the model's own; longer prompts are over_length"
    )
    description: str = ""


class TransformersJudgeConfig(LocalJudgeConfig):
    """A causal language model in this process."""

    kind: Literal["transformers"]
    templates: Literal["official", "seft-bench"] = Field(
        default="official", description="the official tools' prompts, or our own"
    )
    max_tokens: int | None = Field(default=None, gt=0, description="of a grade or verdict; null: the protocol's own")


class GradedAnswersConfig(Strict):
    """Answers whose grades are known, to calibrate on."""

    answers: str = Field(description="file of answers: ours, or FastChat's model_answer")
    judgments: str = Field(description="file of their grades: ours, or FastChat's model_judgment")
    suite: str = Field(default="mtbench", description="suite that the questions belong to")


class RewardModelJudgeConfig(LocalJudgeConfig):
    """A sequence-classification model with one output in this process."""

    kind: Literal["reward-model"]
    temperature: float = Field(
        default=1.0, gt=0, description="a preference's log-odds are the difference of rewards over this"
    )
    calibration: GradedAnswersConfig | None = Field(
        default=None, description="grades come from a map fitted on these; null: from reference answers"
    )


JudgeConfig = (
    RubricJudgeConfig
    | ReplayJudgeConfig
    | OpenAIJudgeConfig
    | VLLMJudgeConfig
    | TransformersJudgeConfig
    | RewardModelJudgeConfig
)
JUDGE: TypeAdapter[JudgeConfig] = TypeAdapter(Annotated[JudgeConfig, Field(discriminator="kind")])
