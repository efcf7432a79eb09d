"""The mapping `data: {tinyworld: ...}`: which task types of the tinyworld are annotated, and how much there is."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer

from seft_bench.config.loading import Strict

TaskType = Literal[
    "note", "slogan", "greet", "lost", "extreme", "swap", "add", "compare",
    "print", "function", "colour", "places", "kind", "heavier", "author", "north",
]  # fmt: skip
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)
"""The task types of the world, in its order; `seft_bench.tinyworld.tasks` says what they ask."""

Amount = Annotated[int | None, Field(gt=0, le=100_000)]


def _named(value: Any) -> Any:
    return TASK_TYPES if value == "all" else value


def _in_order(types: tuple[TaskType, ...]) -> tuple[TaskType, ...]:
    if not types:
        raise ValueError(f"name at least one of {', '.join(TASK_TYPES)}, or all")
    return tuple(name for name in TASK_TYPES if name in types)


class TinyworldSettings(Strict):
    """What the tinyworld's data sets hold; everything at its default is `data: tinyworld`."""

    annotated_types: Annotated[tuple[TaskType, ...], BeforeValidator(_named), AfterValidator(_in_order)] | None = Field(
        default=None, description="task types with annotated data, or all; null: the world's own five"
    )
    pairs: Amount = Field(default=None, description="preference pairs; null: some 160 a type")
    sft: Amount = Field(default=None, description="annotated conversations; null: 3 for 8 pairs")
    calibration: Amount = Field(default=None, description="held-out pairs; null: 3 for 16 pairs")
    prompts: Amount = Field(default=None, description="unannotated prompts, over all task types; null: 2,400")
    threads: bool = Field(default=True, description="false: no better answers in the text for pre-training")

    @model_serializer(mode="plain")
    def _given(self) -> dict[str, Any]:
        """Only what differs from the defaults, so that identities outlive keys that come later."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        changed = {name: value for name, value in given.items() if value != type(self).model_fields[name].default}
        return changed | ({"annotated_types": self._types()} if self.annotated_types else {})

    def _types(self) -> Literal["all"] | list[TaskType]:
        return "all" if self.annotated_types == TASK_TYPES else list(self.annotated_types or ())

    @property
    def label(self) -> str:
        """All that it says as a short name: "note-9600-prompts"; "tinyworld" of the defaults."""
        types = ["all-types"] if self._types() == "all" else self.annotated_types or ()
        amounts = {name: getattr(self, name) for name in ("pairs", "sft", "calibration", "prompts")}
        said = [*types, *(f"{amount}-{name}" for name, amount in amounts.items() if amount)]
        return "-".join([*said, *([] if self.threads else ["no-threads"])]) or "tinyworld"


class TinyworldConfig(Strict):
    """The tinyworld's data with settings, and a name in a matrix with several."""

    tinyworld: TinyworldSettings
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="its name in a matrix with several"
    )

    @model_serializer(mode="plain")
    def _given(self) -> dict[str, Any]:
        said = {"tinyworld": self.tinyworld.model_dump()}
        return said | ({"name": self.name} if self.name else {})
