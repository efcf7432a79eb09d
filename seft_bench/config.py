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
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

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


def _read_c(value: Any) -> Any:
    """C of the length control: a positive number, or the word for choosing it."""
    if value == "cross-validated":
        return value
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError("a positive number or cross-validated is expected")
    return number


class SuiteConfig(Strict):
    """One evaluation suite: a protocol over questions, answers of a reference model, and a default judge."""

    name: str
    kind: Literal["alpacaeval", "mtbench"]
    source: Literal["official", "tinyworld", "tinyworld-tuning", "files"] = Field(description="where questions and references come from")
    questions: str | None = Field(default=None, description="source files: JSON or JSON Lines of your own questions, beside the suite's YAML")
    difficulty: str = Field(default="none", description="source files, kind alpacaeval: none (no length control), zero, or a file of difficulties")
    lc_c: Annotated[float | Literal["cross-validated"], BeforeValidator(_read_c)] = Field(
        default=21.544346900318832, description="kind alpacaeval: C of the length control, or cross-validated"
    )
    lc_interval: Literal["sandwich", "bootstrap"] = Field(default="sandwich", description="kind alpacaeval: how the interval of the length control is made")
    default_judge: str
    decodings: dict[str, DecodingConfig] = Field(min_length=1, description="name of a column -> how its answers are drawn")
    max_new_tokens: int = Field(gt=0)
    max_questions: int | None = Field(default=None, gt=0, description="use the first ones only")
    mode: Literal["single", "pairwise"] = Field(default="single", description="mtbench: grade each answer, or compare it with a baseline's in both orders")
    baseline: str | None = Field(
        default=None,
        description="answers to compare with; pairwise mtbench: a relative path is looked for in the data folders too; "
        "source files, kind alpacaeval: null is the questions' own `output`",
    )
    references: Literal["official", "corrected"] = Field(default="official", description="mtbench: which reference answers the judge is shown")
    parsing: Literal["official", "strict"] = Field(default="official", description="mtbench: how a grade or verdict is read out of the judge's reply")
    description: str

    _folder: Path = PrivateAttr(default_factory=Path)  # of the YAML file: its paths are relative to it, and no result holds a path of the machine

    @model_validator(mode="after")
    def _fields_fit(self) -> SuiteConfig:
        """A key that this kind or source would not read is an error."""
        fields = type(self).model_fields
        changed = {name for name in fields if not fields[name].is_required() and getattr(self, name) != fields[name].default}
        if wrong := sorted(changed & {"difficulty", "lc_c", "lc_interval"}) if self.kind != "alpacaeval" else []:
            raise ValueError(f"{', '.join(wrong)}: for kind alpacaeval only, this suite's kind is {self.kind}")
        if wrong := sorted(changed & {"mode", "references", "parsing"}) if self.kind != "mtbench" else []:
            raise ValueError(f"{', '.join(wrong)}: for kind mtbench only, this suite's kind is {self.kind}")
        if wrong := sorted(changed & {"questions", "difficulty"}) if self.source != "files" else []:
            raise ValueError(f"{', '.join(wrong)}: for source files only, this suite's source is {self.source}")
        if self.source == "files" and self.questions is None:
            raise ValueError("questions: is missing; with source files it names the file of questions")
        return self

    @model_validator(mode="after")
    def _baseline_fits(self) -> SuiteConfig:
        """Only comparisons have a baseline, and the shipped AlpacaEval suites bring their own."""
        own_pairs = self.kind == "alpacaeval" and self.source == "files"
        if self.baseline is not None and not own_pairs and self.mode != "pairwise":
            raise ValueError("baseline: for mode pairwise, or for kind alpacaeval with source files")
        if self.mode == "pairwise" and self.baseline is None:
            raise ValueError("mode: pairwise and baseline go together")
        return self

    @model_validator(mode="after")
    def _variants_are_named(self) -> SuiteConfig:
        """A variant of MT-Bench says so in its name: results and judgments are kept by it, and must not mix with the official ones."""
        variants = [word for word in (self.mode, self.references, self.parsing) if word not in ("single", "official")]
        if variants and self.source.startswith("tinyworld"):
            raise ValueError(f"{', '.join(variants)}: needs a judge that is a language model, the tinyworld's is a rubric")
        if self.references == "corrected" and self.source != "official":
            raise ValueError("references: corrected is a set for the official questions; the source is not official")
        if missing := [word for word in variants if word not in self.name]:
            raise ValueError(f"name must contain {' and '.join(missing)}: results are kept by it, and must not mix with the official ones")
        return self

    @property
    def protocol(self) -> str:
        """Name of the class that runs it: `kind`, and "KIND-pairwise" for MT-Bench's comparisons."""
        return self.kind if self.mode == "single" else f"{self.kind}-{self.mode}"

    def path(self, name: str) -> Path:
        """A file that the suite's YAML names."""
        return self._folder / name


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
    tokenizer: str | None = Field(default=None, description="folder or hub id: prompts are counted exactly against context_tokens, not by their characters")
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


class VLLMJudgeConfig(Strict):
    """A model in a vLLM server that is started when the first judgment is asked for, and stopped after the last."""

    name: str
    kind: Literal["vllm"]
    model: str = Field(description="checkpoint folder, or a hub id that was fetched before")
    templates: Literal["official", "seft-bench"] = Field(default="seft-bench", description="the official tools' prompts, or our own")
    temperature: float | None = Field(default=None, ge=0, description="of grades; null: the protocol's own")
    max_tokens: int | None = Field(default=None, gt=0, description="of grades; null: the protocol's own")
    server_arguments: list[str] = Field(default_factory=list, description="added to the server's command line, as in --max-model-len, 8192")
    start_seconds: float = Field(default=1800.0, gt=0, description="how long a start may take")
    max_in_flight: int = Field(default=256, gt=0)
    description: str = ""


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


JudgeConfig = RubricJudgeConfig | ReplayJudgeConfig | OpenAIJudgeConfig | VLLMJudgeConfig | TransformersJudgeConfig | RewardModelJudgeConfig
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
    base: str | None = None
    bases: list[str] = Field(default_factory=list, description="several bases, instead of `base`")
    data: str | list[str] = Field(default="tinyworld", description="'tinyworld' or a folder of JSONL data sets; several as a list")
    seeds: list[int] = Field(min_length=1)
    checkpoints: int = Field(default=2, gt=0, description="saved checkpoints a method, evenly over its last training stage")
    suites: list[str] = Field(min_length=1)
    judge: str | None = Field(default=None, description="null: each suite's default judge")
    judges: list[str] = Field(default_factory=list, description="several judges, instead of `judge`: each judges every answer")
    diagnostics_judge: str | None = Field(default=None, description="grades revisions for the diagnostics only, never for training")
    workers: int = Field(default=1, gt=0, description="cells at a time")
    cpus_per_cell: int | None = Field(default=None, gt=0, description="null: the cores shared out among the workers; 1 with Ray")
    gpus_per_cell: float | None = Field(default=None, ge=0, description="null: one where there are any")
    controls: list[Literal["constant", "copy-prompt", "length-only"]] = Field(default_factory=list, description="answers without a model, at the tables' foot")
    published: str | None = Field(default=None, description="published figures in a table of their own: a shipped set, or a YAML file")
    rows: list[MatrixRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.base is None) == (not self.bases):
            raise ValueError("give either `base` or `bases`")
        if self.judge is not None and self.judges:
            raise ValueError("give `judge` or `judges`, not both")
        if not self.data:
            raise ValueError("`data` is an empty list")
        for key, values in (("bases", self.bases), ("data", self.all_data), ("judges", self.judges), ("suites", self.suites), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"`{key}` holds something twice: {', '.join(map(str, values))}")
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows have one name: {', '.join(names)}")
        return self

    @property
    def all_bases(self) -> list[str]:
        return self.bases or [str(self.base)]

    @property
    def all_data(self) -> list[str]:
        return [self.data] if isinstance(self.data, str) else self.data

    def as_row(self) -> dict[str, Any]:
        """JSON-ready. Keys that came later are left out where they say nothing, so that old matrices keep their bytes."""
        later = ("bases", "judges", "cpus_per_cell", "gpus_per_cell", "controls", "published")
        return self.model_dump(mode="json", exclude={key for key in later if not getattr(self, key)})


def config_folder() -> Path:
    """The folder of shipped configs: in a checkout its `eval_configs/`, in a wheel the package's copy."""
    checkout = Path(__file__).resolve().parent.parent / "eval_configs"
    return checkout if checkout.is_dir() else Path(str(resources.files("seft_bench"))) / "_eval_configs"


def shipped(kind: str) -> dict[str, Path]:
    """Name -> path of the shipped configs of one kind: "suites", "judges" or "matrices"."""
    return {path.stem: path for path in sorted((config_folder() / kind).glob("*.yaml"))}


def load_suite(name: str, overrides: Iterable[str] = ()) -> SuiteConfig:
    path = _find("suite", "suites", name)
    suite: SuiteConfig = load_yaml(path, SuiteConfig, overrides)
    suite._folder = path.parent
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
    if item["type"] == "value_error" and not item["loc"]:
        return f"  {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "extra_forbidden":
        allowed = sorted(getattr(model, "model_fields", {})) if len(item["loc"]) == 1 else []
        return f"  {key}: unknown key" + (f"; allowed are {', '.join(allowed)}" if allowed else "")
    if item["type"] == "missing":
        return f"  {key}: is missing"
    if item["type"] == "value_error":
        got = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"
        return f"  {key}: {item['ctx']['error']}{got}"
    return f"  {key}: {item['msg']} (got {item['input']!r})"
