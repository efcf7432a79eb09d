"""The tinyworld's data sets as files, written from a seed: one folder a seed and what else is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.config import TASK_TYPES, TinyworldSettings
from seft_bench.console import says_who
from seft_bench.errors import InputError
from seft_bench.files import locked, sha256_file, write_json, write_jsonl
from seft_bench.records import Row

if TYPE_CHECKING:
    from seft_bench.tinyworld.data_sets import Annotation


def write_tinyworld_data(settings: TinyworldSettings, seed: int, folder: Path, needed: Iterable[str]) -> Path:
    """Write the data sets that are needed and not there yet; return their folder.

    Raises:
        InputError: more annotated rows are asked for than there are questions.
    """
    from seft_bench.tinyworld import WORLD_VERSION

    check_amounts(settings)
    of_what = "" if settings == TinyworldSettings() else f"-{settings.label}"
    target = folder / f"tinyworld-v{WORLD_VERSION}{of_what}-seed{seed}"
    with locked(folder / ".locks" / target.name, says_who(f"makes {target}")):
        for name in needed:
            if not (target / f"{name}.jsonl").exists():
                write_jsonl(target / f"{name}.jsonl", _makers(settings)[name](seed))
        sums = {path.name: sha256_file(path) for path in sorted(target.glob("*.jsonl"))}
        asked: Row = {"settings": settings.model_dump()} if of_what else {}
        write_json(target / "manifest.json", {"world_version": WORLD_VERSION, "seed": seed, **asked, "sha256": sums})
    return target


def annotated_types(settings: TinyworldSettings) -> tuple[str, ...]:
    """Name the task types with annotated data, in the world's order."""
    from seft_bench.tinyworld.world import ANNOTATED_TASKS

    return settings.annotated_types or ANNOTATED_TASKS


def check_amounts(settings: TinyworldSettings) -> None:
    """Look whether the world has as many different questions as annotated rows are asked for.

    Raises:
        InputError: it has not.
    """
    from seft_bench.tinyworld.data_sets import annotated_questions

    annotation = _annotation(settings)
    asked = {"pairs": annotation.pairs, "sft": annotation.sft, "calibration": annotation.calibration}
    wanted, there = sum(amount or 0 for amount in asked.values()), annotated_questions(annotation.types)
    if wanted > there:
        shown = " + ".join(f"{amount} {name}" for name, amount in asked.items() if amount)
        raise InputError(
            f"data: annotated questions of {', '.join(annotation.types)} are {there}, and {shown} need {wanted} "
            f"different ones. Ask for fewer, or annotate more of the task types: {', '.join(TASK_TYPES)}."
        )


def _annotation(settings: TinyworldSettings) -> Annotation:
    """Return what is annotated; where only the number of pairs is said, the other amounts keep their proportion."""
    from seft_bench.tinyworld.data_sets import SIZES, Annotation

    def amount(given: int | None, name: str) -> int | None:
        if given is not None or settings.pairs is None:
            return given
        return max(1, SIZES[name] * settings.pairs // SIZES["preferences"])

    return Annotation(
        annotated_types(settings),
        sft=amount(settings.sft, "sft"),
        pairs=settings.pairs,
        calibration=amount(settings.calibration, "calibration"),
    )


def _makers(settings: TinyworldSettings) -> dict[str, Callable[[int], Iterable[Row]]]:
    from seft_bench.tinyworld import data_sets

    annotation = _annotation(settings)
    return {
        "sft": lambda seed: data_sets.sft_rows(seed, annotation),
        "preferences": lambda seed: data_sets.preference_rows(seed, annotation)[0],
        "calibration": lambda seed: data_sets.preference_rows(seed, annotation)[1],
        "prompts": lambda seed: data_sets.prompt_rows(seed, settings.prompts, annotation),
        "pretrain": lambda seed: data_sets.pretraining_rows(threads=settings.threads),
    }
