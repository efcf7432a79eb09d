"""The keys of the YAML of a recipe and of a matrix."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_serializer, model_validator

from seft_bench.config.data import AnyData, DataConfig, TrainingData, data_label
from seft_bench.config.engines import EngineName, VLLMConfig
from seft_bench.config.loading import Strict

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class RecipeConfig(Strict):
    """A training that `seft-bench train` runs: a method on a base model and data."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run's folder")
    method: str
    base: str = Field(
        description="'tinyworld' or 'tinyworld-no-threads', a checkpoint folder, or a hub id (owner/name@revision)"
    )
    data: TrainingData = Field(
        default="tinyworld",
        description="'tinyworld' (with settings as a mapping), a folder of JSONL data sets, or a source for each role",
    )
    chat_template: str | None = Field(
        default=None, description="instead of the base's own: a shipped one's name, a .jinja file, or Jinja text"
    )
    seed: Seed = 0
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the method's settings, see `seft-bench methods show`"
    )
    engine: EngineName = Field(
        default="transformers", description="who draws drafts and revisions and measures likelihoods"
    )
    vllm: VLLMConfig = Field(default=VLLMConfig(), description="how `engine: vllm` starts its server")
    description: str = ""

    def as_row(self) -> dict[str, Any]:
        """JSON-ready; keys that came later are left out at their defaults, so that old runs are found again."""
        return self.model_dump(mode="json", exclude=_at_default(self, "engine", "vllm"))


_DataOfMatrix = Annotated[
    Annotated[TrainingData, Tag("(one)")] | Annotated[list[TrainingData], Tag("(several)")],
    Discriminator(lambda value: "(several)" if isinstance(value, list) else "(one)"),
]


class MatrixRow(Strict):
    """One row of the table: a method with its settings."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    role: Literal["start", "method", "ablation", "control"] = "method"
    label: str = ""
    gpus: int | None = Field(default=None, gt=0, description="null: the matrix's")
    data: list[str] | None = Field(
        default=None, min_length=1, description="names of the matrix's data sets that it runs on; null: all"
    )
    line: str = Field(default="", description="rows of one line are one method in `study.md` and its pictures")

    def runs_on(self, data: AnyData) -> bool:
        return self.data is None or data_label(data) in self.data


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict | CompareConfig) else value


class CompareConfig(Strict):
    """A row that others are compared with in `study.md`, over all data sets that annotate equally many types."""

    row: str
    others: list[str] | None = Field(default=None, alias="with", min_length=1, description="null: all other rows")

    @model_serializer(mode="plain")
    def _given(self) -> dict[str, Any]:
        return {"row": self.row} | ({"with": self.others} if self.others else {})


class BudgetConfig(Strict):
    """What every row of a matrix takes equally much of."""

    steps: int | None = Field(default=None, gt=0, description="optimizer steps of all training stages but the start's")
    tokens: int | None = Field(
        default=None, gt=0, description="tokens that these train on, at most: a step is taken whole or not at all"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.steps is None) == (self.tokens is None):
            raise ValueError(f"give exactly one of steps and tokens, got steps={self.steps!r}, tokens={self.tokens!r}")
        return self

    @property
    def unit(self) -> Literal["steps", "tokens"]:
        return "tokens" if self.steps is None else "steps"

    @property
    def amount(self) -> int:
        return self.steps or self.tokens or 0

    def __str__(self) -> str:
        return f"{self.unit}: {self.amount}"


class MatrixConfig(Strict):
    """base x method x data x seed x (each saved checkpoint) x suite x judge."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    base: str | None = None
    bases: list[str] = Field(default_factory=list, description="several bases, instead of `base`")
    data: _DataOfMatrix = Field(default="tinyworld", description="as in a recipe; several as a list")
    seeds: list[Seed] = Field(min_length=1)
    checkpoints: int = Field(
        default=2, gt=0, description="saved checkpoints a method, evenly over its last training stage"
    )
    suites: list[str] = Field(min_length=1)
    judge: str | None = Field(default=None, description="null: each suite's default judge")
    judges: list[str] = Field(
        default_factory=list, description="several judges, instead of `judge`: each judges every answer"
    )
    diagnostics_judge: str | None = Field(
        default=None, description="grades revisions for the diagnostics only, never for training"
    )
    workers: int = Field(default=1, gt=0, description="cells at a time")
    cpus_per_cell: int | None = Field(
        default=None, gt=0, description="null: the cores shared out among the workers; 1 with Ray"
    )
    gpus_per_cell: float | None = Field(default=None, ge=0, description="null: one where there are any")
    gpus: int = Field(
        default=1, gt=0, description="processes with a GPU each that train a cell together; without GPUs, on the CPU"
    )
    controls: list[Literal["constant", "copy-prompt", "length-only"]] = Field(
        default_factory=list, description="answers without a model, at the tables' foot"
    )
    engine: EngineName = Field(
        default="transformers", description="who draws drafts and revisions and measures likelihoods"
    )
    vllm: VLLMConfig = Field(default=VLLMConfig(), description="how `engine: vllm` starts its servers, one a cell")
    budget: BudgetConfig | None = Field(
        default=None, description="what every row takes equally much of: its policy's length follows; null: its own"
    )
    published: str | None = Field(
        default=None, description="published figures in a table of their own: a shipped set, or a YAML file"
    )
    compare: Annotated[list[CompareConfig], BeforeValidator(_one_as_list)] = Field(
        default_factory=list, description="what `study.md` compares; empty: the row that trains SEFT, with all others"
    )
    rows: list[MatrixRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.base is None) == (not self.bases):
            raise ValueError("give either `base` or `bases`")
        if self.judge is not None and self.judges:
            raise ValueError("give `judge` or `judges`, not both")
        if not self.data:
            raise ValueError("`data` is an empty list")
        for key, values in (
            ("bases", self.bases),
            ("data", [data_label(data) for data in self.all_data]),
            ("judges", self.judges),
            ("suites", self.suites),
            ("seeds", self.seeds),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"`{key}` holds something twice: {', '.join(map(str, values))}")
        if len(self.all_data) > 1 and any(isinstance(data, DataConfig) and not data.name for data in self.all_data):
            raise ValueError("`data`: of several, each that names sources needs a `name`")
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"two rows have one name: {', '.join(names)}")
        self._check_data_of_rows()
        self._check_compared(names)
        return self

    def _check_data_of_rows(self) -> None:
        known = {data_label(data): data for data in self.all_data}
        for row in self.rows:
            if unknown := [name for name in row.data or () if name not in known]:
                raise ValueError(
                    f"row {row.name!r}: no data set of the matrix is called {', '.join(unknown)}; there are "
                    f"{', '.join(known)}"
                )
        if idle := [name for name, data in known.items() if not any(row.runs_on(data) for row in self.rows)]:
            raise ValueError(f"`data`: no row runs on {', '.join(idle)}")

    def _check_compared(self, names: list[str]) -> None:
        for compared in self.compare:
            known = [*names, *(row.line for row in self.rows if row.line)]
            unknown = [name for name in (compared.row, *(compared.others or ())) if name not in known]
            if unknown:
                raise ValueError(f"`compare` names {', '.join(unknown)}; rows and lines are {', '.join(known)}")
            if compared.row in (compared.others or ()):
                raise ValueError(f"`compare`: row {compared.row} is compared with itself")
        if len({compared.row for compared in self.compare}) < len(self.compare):
            raise ValueError("`compare`: two comparisons have one row; name all that it is compared with in one")

    @property
    def all_bases(self) -> list[str]:
        return self.bases or [str(self.base)]

    @property
    def all_data(self) -> list[AnyData]:
        return self.data if isinstance(self.data, list) else [self.data]

    def as_row(self) -> dict[str, Any]:
        """JSON-ready.

        Keys that came later are left out where they say nothing, so that old matrices keep their bytes.
        """
        later = ("bases", "judges", "cpus_per_cell", "gpus_per_cell", "controls", "published", "budget", "compare")
        unsaid = {key for key in later if not getattr(self, key)} | _at_default(self, "engine", "vllm", "gpus")
        row = self.model_dump(mode="json", exclude=unsaid)
        budget = {"budget": self.budget.model_dump(exclude_none=True)} if self.budget else {}
        return row | {"rows": [_without_unsaid(given, "gpus", "data", "line") for given in row["rows"]]} | budget


def _without_unsaid(given: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in keys or value not in (None, "")}


def _at_default(config: Strict, *keys: str) -> set[str]:
    fields = type(config).model_fields
    return {key for key in keys if getattr(config, key) == fields[key].default}
