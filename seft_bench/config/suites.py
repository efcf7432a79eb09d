"""The keys of a suite's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from seft_bench.config.loading import Strict


class DecodingConfig(Strict):
    """Settings for drawing answers."""

    temperature: float = Field(ge=0, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1)
    by_category: dict[str, float] = Field(
        default_factory=dict, description="temperature of a category, instead of `temperature`"
    )
    reasoning: Literal["strip", "keep"] = Field(
        default="strip", description="what an answer begins with in `<think>`: apart in the record, or judged too"
    )
    template_args: dict[str, JsonValue] = Field(
        default_factory=dict, description="what the chat template is told beside the messages, e.g. enable_thinking"
    )

    @field_validator("template_args")
    @classmethod
    def _leaves_alone_what_is_set(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := [name for name in given if name in _SET_BY_US or not name.isidentifier()]:
            raise ValueError(f"{', '.join(taken)}: no argument that can be given to a chat template")
        return given

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that came later and say nothing: answers that were drawn before stay what they were."""
        row: dict[str, Any] = handler(self)
        return {key: value for key, value in row.items() if key not in _LATER or value != _LATER[key]}


_SET_BY_US = ("messages", "tools", "documents", "tokenize", "add_generation_prompt", "continue_final_message")
_LATER: dict[str, Any] = {"reasoning": "strip", "template_args": {}}


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
    source: Literal["official", "tinyworld", "tinyworld-tuning", "files"] = Field(
        description="where questions and references come from"
    )
    questions: str | None = Field(
        default=None, description="source files: JSON or JSON Lines of your own questions, beside the suite's YAML"
    )
    difficulty: str = Field(
        default="none",
        description="source files, kind alpacaeval: none (no length control), zero, or a file of difficulties",
    )
    lc_c: Annotated[float | Literal["cross-validated"], BeforeValidator(_read_c)] = Field(
        default=21.544346900318832, description="kind alpacaeval: C of the length control, or cross-validated"
    )
    lc_interval: Literal["sandwich", "bootstrap"] = Field(
        default="sandwich", description="kind alpacaeval: how the interval of the length control is made"
    )
    default_judge: str
    decodings: dict[str, DecodingConfig] = Field(
        min_length=1, description="name of a column -> how its answers are drawn"
    )
    max_new_tokens: int = Field(gt=0)
    max_questions: int | None = Field(default=None, gt=0, description="use the first ones only")
    mode: Literal["single", "pairwise"] = Field(
        default="single", description="mtbench: grade each answer, or compare it with a baseline's in both orders"
    )
    baseline: str | None = Field(
        default=None,
        description="answers to compare with; pairwise mtbench: a relative path is looked for in the data folders too; "
        "source files, kind alpacaeval: null is the questions' own `output`",
    )
    references: Literal["official", "corrected"] = Field(
        default="official", description="mtbench: which reference answers the judge is shown"
    )
    parsing: Literal["official", "strict"] = Field(
        default="official", description="mtbench: how a grade or verdict is read out of the judge's reply"
    )
    description: str

    # Of the YAML file: its paths are relative to it, and no result holds a path of the machine.
    _folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _fields_fit(self) -> SuiteConfig:
        """A key that this kind or source would not read is an error."""
        fields = type(self).model_fields
        changed = {
            name for name in fields if not fields[name].is_required() and getattr(self, name) != fields[name].default
        }
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
        """Refuse a variant of MT-Bench whose name does not say so.

        Results and judgments are kept by it, and must not mix with the official ones.
        """
        variants = [word for word in (self.mode, self.references, self.parsing) if word not in ("single", "official")]
        if variants and self.source.startswith("tinyworld"):
            raise ValueError(
                f"{', '.join(variants)}: needs a judge that is a language model, the tinyworld's is a rubric"
            )
        if self.references == "corrected" and self.source != "official":
            raise ValueError("references: corrected is a set for the official questions; the source is not official")
        if missing := [word for word in variants if word not in self.name]:
            raise ValueError(
                f"name must contain {' and '.join(missing)}: results are kept by it, and must not mix with the "
                "official ones"
            )
        return self

    @property
    def protocol(self) -> str:
        """Name of the class that runs it: `kind`, and "KIND-pairwise" for MT-Bench's comparisons."""
        return self.kind if self.mode == "single" else f"{self.kind}-{self.mode}"

    def path(self, name: str) -> Path:
        """A file that the suite's YAML names."""
        return self._folder / name
