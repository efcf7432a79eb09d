"""YAML -> strict pydantic models: unknown keys are refused and all errors are shown at once.

Config objects stop at the door: commands turn them into plain arguments. A key is never written into a
config; `api_key_env` names the environment variable that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, field_validator, model_validator

from seft_bench.errors import InputError, unknown_name

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Strict(BaseModel):
    """Base of all configs: frozen, and a key that nobody reads is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DecodingConfig(Strict):
    """How answers are drawn."""

    temperature: float = Field(ge=0, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1)
    by_category: dict[str, float] = Field(default_factory=dict, description="temperature of a category, instead of `temperature`")


class SuiteConfig(Strict):
    """One evaluation suite: a protocol over questions, answers of a reference model, and a default judge."""

    name: str
    kind: Literal["alpacaeval", "mtbench"]
    source: Literal["official", "tinyworld", "tinyworld-tuning"] = Field(description="where questions and references come from")
    default_judge: str
    decodings: dict[str, DecodingConfig] = Field(min_length=1, description="name of a column -> how its answers are drawn")
    max_new_tokens: int = Field(gt=0)
    max_questions: int | None = Field(default=None, gt=0, description="use the first ones only")
    description: str


class RubricJudgeConfig(Strict):
    """The tinyworld's deterministic rubric."""

    name: str
    kind: Literal["rubric"]
    length_bias: float = Field(default=0.0, description="added to a pair's log-odds per unit of tanh(standardised length difference)")
    description: str = ""


class ReplayJudgeConfig(Strict):
    """Judgments recorded before, ours or in the official tools' formats."""

    name: str
    kind: Literal["replay"]
    path: str = Field(description="file of judgments")
    description: str = ""


SET_BY_OTHER_KEYS = {
    **dict.fromkeys(("model", "temperature", "max_tokens", "seed", "api_key"), "has a key of its own in the YAML"),
    "max_completion_tokens": "is `max_tokens` with `max_tokens_parameter: max_completion_tokens`",
    "n": "is `preference_from: samples` with `samples`",
    **dict.fromkeys(("logprobs", "top_logprobs", "structured_outputs", "guided_choice", "response_format"), "is what `preference_from` decides"),
    **dict.fromkeys(("messages", "top_p", "stream", "stream_options", "stop"), "is fixed by the protocol"),
}
"""Parameters of a request that `extra_body` must not set, and why."""


class OpenAIJudgeConfig(Strict):
    """Any OpenAI-compatible chat-completions server."""

    name: str
    kind: Literal["openai"]
    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = Field(
        default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="NAME of the variable with the key; null for servers without one"
    )
    templates: Literal["official", "seft-bench"] = Field(default="official", description="the official tools' prompts, or our own")
    temperature: float | None = Field(default=None, ge=0, description="null: the protocol's own")
    max_tokens: int | None = Field(default=None, gt=0, description="null: the protocol's own")
    preference_from: Literal["logprobs", "choice", "samples", "token"] = Field(
        default="logprobs", description="the first token's log-probabilities, those under a constraint to m or M (vLLM), several samples, or one verdict"
    )
    samples: int | None = Field(default=None, ge=2, description="verdicts a preference, with `preference_from: samples`; null: 5")
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(default="max_tokens", description="newer OpenAI models take the second only")
    send_temperature: bool = Field(default=True, description="false: neither temperature nor top_p is sent, for models that refuse them")
    seed: int | None = Field(default=None, ge=0, description="sent with each request, plus the number of the sample")
    extra_body: dict[str, JsonValue] = Field(default_factory=dict, description="more parameters of each request, e.g. reasoning_effort")
    epoch: str = Field(default="", description="another word asks everything again, under another id")
    max_in_flight: int = Field(default=64, gt=0)
    timeout_seconds: float = Field(default=120.0, gt=0)
    max_attempts: int = Field(default=6, gt=0)
    context_tokens: int | None = Field(default=None, gt=0)
    input_usd_per_million_tokens: float | None = Field(default=None, ge=0)
    output_usd_per_million_tokens: float | None = Field(default=None, ge=0)
    price_date: date | None = None
    retired_on: date | None = Field(default=None, description="day from which the provider no longer serves the model")
    description: str = ""

    @field_validator("extra_body")
    @classmethod
    def _leaves_alone_what_others_set(cls, extra_body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := [f"{key} {SET_BY_OTHER_KEYS[key]}" for key in extra_body if key in SET_BY_OTHER_KEYS]:
            raise ValueError("; ".join(taken))
        return extra_body

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.samples is not None and self.preference_from != "samples":
            raise ValueError(f"`samples` needs `preference_from: samples`, which is {self.preference_from}")
        if self.preference_from == "samples" and self.temperature == 0:
            raise ValueError("`preference_from: samples` needs a temperature above 0 (null: the protocol's 1): samples of a greedy judge are all the same")
        if self.temperature is not None and not self.send_temperature:
            raise ValueError("`temperature` is set, and `send_temperature: false` says that none is sent: leave one of them out")
        return self


class LocalJudgeConfig(Strict):
    """What judges that run in this process share."""

    name: str
    model: str = Field(description="checkpoint folder or hub id, safetensors only")
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model; dangerous")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_size: int = Field(default=16, gt=0)
    context_tokens: int | None = Field(default=None, gt=0, description="null: the model's own; longer prompts are over_length")
    description: str = ""


class TransformersJudgeConfig(LocalJudgeConfig):
    """A causal language model in this process."""

    kind: Literal["transformers"]
    templates: Literal["official", "seft-bench"] = Field(default="official", description="the official tools' prompts, or our own")
    max_tokens: int | None = Field(default=None, gt=0, description="of a grade or verdict; null: the protocol's own")


class GradedAnswersConfig(Strict):
    """Answers whose grades are known, to calibrate on."""

    answers: str = Field(description="file of answers: ours, or FastChat's model_answer")
    judgments: str = Field(description="file of their grades: ours, or FastChat's model_judgment")
    suite: str = Field(default="mtbench", description="suite that the questions belong to")


class RewardModelJudgeConfig(LocalJudgeConfig):
    """A sequence-classification model with one output in this process."""

    kind: Literal["reward-model"]
    temperature: float = Field(default=1.0, gt=0, description="a preference's log-odds are the difference of rewards over this")
    calibration: GradedAnswersConfig | None = Field(default=None, description="grades come from a map fitted on these; null: from reference answers")


JudgeConfig = RubricJudgeConfig | ReplayJudgeConfig | OpenAIJudgeConfig | TransformersJudgeConfig | RewardModelJudgeConfig
_JUDGE: TypeAdapter[JudgeConfig] = TypeAdapter(Annotated[JudgeConfig, Field(discriminator="kind")])


class RecipeConfig(Strict):
    """What `seft-bench train` runs: a method on a base model and data."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run's folder")
    method: str
    base: str = Field(description="'tinyworld', a checkpoint folder, or a hub id")
    data: str = Field(default="tinyworld", description="'tinyworld' or a folder of JSONL data sets")
    seed: int = 0
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's settings, see `seft-bench methods show`")
    description: str = ""


class MatrixRow(Strict):
    """One row of the table: a method with its settings."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    role: Literal["start", "method", "ablation", "control"] = "method"
    label: str = ""


class MatrixConfig(Strict):
    """base x method x data x seed x (each saved checkpoint) x suite x judge."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    base: str
    data: str = "tinyworld"
    seeds: list[int] = Field(min_length=1)
    checkpoints: int = Field(default=2, gt=0, description="saved checkpoints a method, evenly over its last training stage")
    suites: list[str] = Field(min_length=1)
    judge: str | None = Field(default=None, description="null: each suite's default judge")
    diagnostics_judge: str | None = Field(default=None, description="grades revisions for the diagnostics only, never for training")
    workers: int = Field(default=1, gt=0, description="cells at a time")
    controls: list[Literal["constant", "copy-prompt", "length-only"]] = Field(default_factory=list, description="answers without a model, at the tables' foot")
    published: str | None = Field(default=None, description="published figures in a table of their own: a shipped set, or a YAML file")
    rows: list[MatrixRow] = Field(min_length=1)


def config_folder() -> Path:
    """The folder of shipped configs: in a checkout its `eval_configs/`, in a wheel the package's copy."""
    checkout = Path(__file__).resolve().parent.parent / "eval_configs"
    return checkout if checkout.is_dir() else Path(str(resources.files("seft_bench"))) / "_eval_configs"


def shipped(kind: str) -> dict[str, Path]:
    """Name -> path of the shipped configs of one kind: "suites", "judges" or "matrices"."""
    return {path.stem: path for path in sorted((config_folder() / kind).glob("*.yaml"))}


def load_suite(name: str) -> SuiteConfig:
    suite: SuiteConfig = load_yaml(_find("suite", "suites", name), SuiteConfig)
    return suite


def load_judge(name: str) -> JudgeConfig:
    judge: JudgeConfig = load_yaml(_find("judge", "judges", name), _JUDGE)
    return judge


def load_matrix(name: str) -> MatrixConfig:
    matrix: MatrixConfig = load_yaml(_find("matrix", "matrices", name), MatrixConfig)
    return matrix


def _find(what: str, kind: str, name: str) -> Path:
    """A shipped config by its name, or a file of the user's."""
    known = shipped(kind)
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise unknown_name(what, name, known, f"A {what} of your own is named by its file, NAME.yaml.")


def load_yaml(path: Path, model: type[ConfigT] | TypeAdapter[Any], overrides: Iterable[str] = ()) -> Any:
    """Read a YAML file into a config.

    Args:
        overrides: "key=value" or "settings.key=value"; the value is read as YAML.

    Raises:
        InputError: with every error of the file at once: key, value, and what is allowed.
    """
    values = read_yaml(path)
    for override in overrides:
        _apply(values, override)
    return validate(values, model, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"configuration file cannot be read: {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"configuration file is not UTF-8 text: {path}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected, this is {type(values).__name__}")
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} is not of the form key=value")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"override {override!r}: {parent!r} holds a value, not keys")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"override {override!r}: the value is not valid YAML") from None


def validate(values: Mapping[str, Any], model: type[ConfigT] | TypeAdapter[Any], source: str) -> Any:
    """Check values against a config class; `source` names them in the message."""
    try:
        return model.validate_python(values) if isinstance(model, TypeAdapter) else model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(item, model) for item in error.errors()]
        raise InputError(f"{source}: {len(lines)} error{'s' if len(lines) > 1 else ''}\n" + "\n".join(lines)) from None


def _describe(item: Any, model: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "(top)"
    if item["type"] == "extra_forbidden":
        allowed = sorted(getattr(model, "model_fields", {})) if len(item["loc"]) == 1 else []
        return f"  {key}: unknown key" + (f"; allowed are {', '.join(allowed)}" if allowed else "")
    if item["type"] == "missing":
        return f"  {key}: is missing"
    if item["type"] == "value_error":
        return f"  {key}: {item['ctx']['error']}"
    return f"  {key}: {item['msg']} (got {item['input']!r})"
