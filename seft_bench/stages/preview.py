"""What training will see of a recipe's data: rendered by the base's template, with the tokens that are learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seft_bench.checkpoints.weights import load_config
from seft_bench.files import read_jsonl
from seft_bench.records import Data, Message, Row
from seft_bench.stages import door

if TYPE_CHECKING:
    from seft_bench.stages.door import data as training_data
    from seft_bench.stages.door import stages as kinds


class Piece(NamedTuple):
    """A part of a rendered text; `learnt` says whether its tokens are."""

    text: str
    learnt: bool


class Rendered(NamedTuple):
    """One text as a model reads it; `name` is "chosen" or "rejected" in a pair, else ""."""

    name: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Preview:
    """What a stage makes of a data set.

    Attributes:
        reader: the stage and the shape of its rows, or what else becomes of them.
        counts: `rows`, `used`, `tokens`, `learnt_tokens` and `dropped` by reason.
        samples: the first rows, each one text or a pair.
    """

    data_set: str
    reader: str
    counts: Row
    samples: tuple[tuple[Rendered, ...], ...]


def preview_data(
    plan: Sequence[kinds.Stage], base: Path, data: Path, seed: int, names: Sequence[str], rows: int
) -> list[Preview]:
    """Render the first rows of data sets as the stages that read them do.

    Args:
        base: the checkpoint folder whose tokenizer and positions count.
        data: folder of the data sets.
        names: of the data sets, each read by a stage of the plan.
        rows: how many are rendered; all are counted.

    Raises:
        InputError: a row is malformed, or no row of a data set can be trained on.
    """
    from seft_bench.chat import load_tokenizer

    tokenizer = load_tokenizer(base)
    return [shown for name in names for shown in _previews(plan, base, data, seed, name, rows, tokenizer)]


def _previews(
    plan: Sequence[kinds.Stage], base: Path, data: Path, seed: int, name: str, rows: int, tokenizer: Any
) -> Iterator[Preview]:
    trained = [stage for stage in plan if stage.kind == "train" and stage.data == Data(name) and not stage.preferences]
    for stage in trained:
        yield _trained_on(stage, base, data / f"{name}.jsonl", seed, rows, tokenizer)
    if not trained:
        yield _only_prompts(name, data / f"{name}.jsonl", rows, tokenizer)


def _trained_on(stage: kinds.Train, base: Path, file: Path, seed: int, rows: int, tokenizer: Any) -> Preview:
    """Make a stage's training rows, and examples of them, as training does."""
    shaped = door.shapes.shape_rows(stage.shape, door.shapes.Files(file), seed)
    found = door.data.data_rules(stage.job(seed), load_config(base))
    rules = replace(found, positions=None, max_dropped_share=1.0)
    examples, counts = door.data.examples_of(shaped, file, tokenizer, rules)  # a row of these shapes is one of the file
    said = {
        "rows": counts.rows,
        "used": counts.used,
        "tokens": counts.tokens,
        "learnt_tokens": counts.labelled_tokens,
        "dropped": dict(counts.dropped),
        "truncated_answers": counts.truncated_answers,
    }
    samples = tuple(_rendered(example, tokenizer) for example in examples[:rows])
    return Preview(file.stem, f"stage {stage.name} ({stage.shape.name})", said, samples)


def _rendered(example: training_data.Example, tokenizer: Any) -> tuple[Rendered, ...]:
    names = ("",) if example.rejected is None else ("chosen", "rejected")
    return tuple(
        Rendered(name, tuple(_pieces(sequence, tokenizer)))
        for name, sequence in zip(names, example.sequences, strict=True)
    )


def _pieces(tokens: training_data.Tokens, tokenizer: Any) -> Iterator[Piece]:
    """Cut a sequence's text where what is learnt begins and ends."""
    done = 0
    for first, end in (*tokens.learnt, (len(tokens.ids), len(tokens.ids))):
        if first > done:
            yield Piece(_text(tokenizer, tokens.ids, done, first), learnt=False)
        if end > first:
            yield Piece(_text(tokenizer, tokens.ids, first, end), learnt=True)
        done = end


def _text(tokenizer: Any, ids: Sequence[int], first: int, end: int) -> str:
    """Decode tokens in their place: SentencePiece drops the space before the first word of what it is given."""
    before, through = (tokenizer.decode(list(ids[:stop]), skip_special_tokens=False) for stop in (first, end))
    found: str = through[len(before) :] if through.startswith(before) else tokenizer.decode(list(ids[first:end]))
    return found


def _only_prompts(name: str, file: Path, rows: int, tokenizer: Any) -> Preview:
    """Render prompts that are answered by a model, or compared with its answers: nothing of them is learnt as it is."""
    from seft_bench.chat import as_messages, prompt_ids

    prompts: list[list[Message]] = [as_messages(row["prompt"]) for row in read_jsonl(file, name, ["prompt"])]
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    said = {"rows": len(ids), "used": len(ids), "tokens": sum(map(len, ids)), "learnt_tokens": 0, "dropped": {}}
    samples = tuple((Rendered("", (Piece(tokenizer.decode(one), learnt=False),)),) for one in ids[:rows])
    return Preview(name, "prompts that a model answers", said | {"truncated_answers": 0}, samples)
