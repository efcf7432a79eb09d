"""The key `data` of recipes and matrices: a name, a source for each role, or the tinyworld with settings."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_serializer, model_validator

from seft_bench.config.loading import Strict
from seft_bench.config.tinyworld import TinyworldConfig, TinyworldSettings

TINYWORLD = "tinyworld"

Role = Literal["sft", "preferences", "calibration", "prompts", "unpaired", "pretrain"]
ROLES: tuple[Role, ...] = get_args(Role)
"""The data sets that methods read; docs/data.md says what each is for."""

ShapeName = Literal[
    "auto", "preference", "prompt-completion", "unpaired", "messages", "sharegpt", "alpaca", "nectar", "prompts", "text"
]
"""The shapes of rows that can be read, see `seft_bench.data.shapes`; auto: recognised by the columns."""

Pairing = Literal["best_worst", "adjacent", "all"]
"""Which of several ranked answers make pairs: the best and the worst, neighbours, or every two."""

_OF_A_SOURCE = ("split", "config", "revision", "columns", "shape", "learn", "pairs", "max_left_out")


class SourceConfig(Strict):
    """Where the rows of one role come from, and how they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True)

    source: str | None = Field(default=None, description="a file, a folder, or a hub id (owner/name@revision)")
    base: Role | None = Field(default=None, alias="from", description="another role, whose rows this one takes")
    fraction: float | None = Field(
        default=None, gt=0, lt=1, description="with `from`: share of prompts that are this role's alone"
    )
    split: str | None = Field(default=None, description="of a data set with splits; null: train, or the only one")
    config: str | None = Field(default=None, description="name of a hub data set's configuration")
    revision: str | None = Field(default=None, description="commit, tag or branch of a hub data set")
    columns: dict[str, str] = Field(default_factory=dict, description="what a shape calls a column -> its name there")
    shape: ShapeName = Field(default="auto", description="auto: recognised by the columns")
    learn: Literal["last", "all"] | None = Field(
        default=None, description="of whole conversations: the last answer, or every one; null: as the settings say"
    )
    pairs: Pairing = Field(default="best_worst", description="of several ranked answers")
    max_left_out: float = Field(
        default=0.5, ge=0, le=1, description="share of its rows of which nothing can be made; above it: an error"
    )
    limit: int | None = Field(default=None, gt=0, description="the first rows only")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.base is None):
            raise ValueError("give either `source` or `from`")
        if self.base is None and self.fraction is not None:
            raise ValueError("`fraction` is the share that a role takes `from` another one; it needs `from`")
        if self.base is not None and (wrong := sorted(self.model_fields_set & set(_OF_A_SOURCE))):
            raise ValueError(f"{', '.join(wrong)}: rows `from` {self.base} are read as that role says")
        return self

    @model_serializer(mode="plain")
    def _given(self) -> dict[str, Any]:
        """Only what differs from the defaults, so that a run's identity outlives keys that come later."""
        given = {
            field.alias or name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        }
        return {key: given[key] for key in sorted(given)}


def _short_form(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


_Source = Annotated[SourceConfig | None, BeforeValidator(_short_form)]


class DataConfig(Strict):
    """A source for each role that the method reads; others may be left out."""

    sft: _Source = None
    preferences: _Source = None
    calibration: _Source = None
    prompts: _Source = None
    unpaired: _Source = None
    pretrain: _Source = None
    folder: str | None = Field(default=None, description="holds ROLE.jsonl of the roles without a source")
    keep_contaminated: bool = Field(
        default=False, description="keep rows that ask what a suite asks; they are counted all the same"
    )
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="its name in a matrix with several"
    )

    @model_validator(mode="after")
    def _roles_fit(self) -> Self:
        if self.folder is None and not self.own_sources:
            raise ValueError(f"name a source for a role ({', '.join(ROLES)}), or a `folder`")
        for role, source in self.own_sources.items():
            if source.base is not None:
                self._check_base(role, source.base)
        for role in ROLES:
            if (taken := sum(share for share in self.taken_from(role).values())) >= 1:
                raise ValueError(f"fractions taken from {role} make {taken:g}: nothing would be left of it")
        return self

    def _check_base(self, role: Role, base: Role) -> None:
        named = self.own_sources.get(base)
        if named is None and self.folder is None:
            raise ValueError(f"{role}: from {base}, which has no source")
        if base == role or (named is not None and named.base is not None):
            raise ValueError(f"{role}: from {base}, which must have a source of its own")

    @model_serializer(mode="plain")
    def _given(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: value.model_dump() if isinstance(value, SourceConfig) else value
            for name, value in given.items()
            if value != type(self).model_fields[name].default
        }

    @property
    def own_sources(self) -> dict[Role, SourceConfig]:
        """Role -> its source, of the roles that name one."""
        return {role: source for role in ROLES if (source := getattr(self, role)) is not None}

    def source_of(self, name: str) -> SourceConfig | None:
        """Return where a data set's rows come from: its own source, or its file in `folder`, which may be no role's."""
        own = next((source for role, source in self.own_sources.items() if role == name), None)
        if own is not None or self.folder is None:
            return own
        return SourceConfig(source=f"{self.folder.rstrip('/')}/{name}.jsonl")

    def taken_from(self, base: Role) -> dict[Role, float]:
        """Map the roles that take a share of a role's prompts for themselves to that share."""
        sources = self.own_sources.items()
        return {role: source.fraction for role, source in sources if source.base == base and source.fraction}


AnyData = str | DataConfig | TinyworldConfig
"""What `data` may be: "tinyworld", a folder of ours, a source for each role, or the tinyworld with settings."""


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "(name)"
    of_tinyworld = "tinyworld" in value if isinstance(value, dict) else isinstance(value, TinyworldConfig)
    return "(tinyworld)" if of_tinyworld else "(roles)"


TrainingData = Annotated[
    Annotated[str, Tag("(name)")]
    | Annotated[DataConfig, Tag("(roles)")]
    | Annotated[TinyworldConfig, Tag("(tinyworld)")],
    Discriminator(_form),
]
"""`AnyData`, as pydantic reads it."""


def tinyworld_settings(data: AnyData) -> TinyworldSettings | None:
    """Return what `data` says of the tinyworld's data sets; None where it names others."""
    if isinstance(data, TinyworldConfig):
        return data.tinyworld
    return TinyworldSettings() if data == TINYWORLD else None


def data_row(data: AnyData) -> str | dict[str, Any]:
    """Return `data` JSON-ready, as it was given."""
    return data if isinstance(data, str) else data.model_dump()


def data_label(data: AnyData) -> str:
    """Return what tells `data` from others of one matrix: its name, or what it says (of sources a hash of that)."""
    if isinstance(data, str):
        return data
    if isinstance(data, TinyworldConfig):
        return data.name or data.tinyworld.label
    said = json.dumps(data.model_dump(), sort_keys=True)
    return data.name or f"data-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def with_contaminated(data: AnyData) -> AnyData:
    """Return `data`, a folder or sources, with what asks the suites' questions kept; the tinyworld's hold none."""
    if tinyworld_settings(data):
        return data
    given = {"folder": data} if isinstance(data, str) else data.model_dump()
    return DataConfig.model_validate({**given, "keep_contaminated": True})
