"""Whatever comes in: a value, or one message; no traceback, and no figure that moves without a word.

Each property is tried on the same few inputs at every run, and on thousands in the slow tier, which says how many:
`pytest tests/unit/test_fuzz.py -m slow -s`.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from seft_bench import config
from seft_bench.chat import as_messages
from seft_bench.config import SourceConfig, validate
from seft_bench.config.judges import JUDGE
from seft_bench.config.loading import load_yaml, parse_yaml
from seft_bench.data.questions import conversations, pairwise_questions
from seft_bench.data.reading import read_source
from seft_bench.errors import InputError
from seft_bench.evaluation.score_files import score_files
from seft_bench.files import append_rows, read_json, read_jsonl, read_log, read_log_as, sha256_json, write_json
from seft_bench.formats.reading import judgment_row, read_answers, read_judged_texts, read_judgments
from seft_bench.inference.bodies import decode_body
from seft_bench.inference.replies import read_completion
from seft_bench.inference.store import ResponseStore
from seft_bench.judge_quality.votes import answers_in_votes, read_votes
from seft_bench.judges import parse
from seft_bench.reasoning import split
from seft_bench.records import Answer, from_row, on_the_scale, to_row
from seft_bench.report.sheets import STYLES, plain_sheets
from seft_bench.report.site.encode import encode
from seft_bench.results import read_result, slug
from seft_bench.stages import recipes
from seft_bench.texts import mapped_strings, without_lone_surrogates
from tests.fuzzing import RESULT, RIGHT, TEXTS, VALUES, holds, judgment, spoilt, write_rows

HEAD = "default_judge: rubric\nmax_new_tokens: 8\ndecodings: {greedy: {temperature: 0}}\ndescription: mine\n"
Check = Callable[[Any], None]


def refused() -> contextlib.suppress:
    """What a user is told; anything else is a defect."""
    return contextlib.suppress(InputError)


# Replies


def replies(_: Path) -> Check:
    def check(text: str) -> None:
        for strict in (True, False):
            grade = parse.read_grade(text, strict)
            assert grade is None or 1 <= grade <= 10
            for first in (True, False):
                preference = parse.read_verdict(text, first, strict)
                assert preference is None or 1 <= preference <= 2
        token = parse.read_token(text, True)
        assert token is None or 1 <= token <= 2
        split(text)

    return check


REPLY_TEXTS = st.lists(
    TEXTS | st.sampled_from(["[[", "]]", "8.5", "A", "C", "Rating: ", "m", "M", "<think>", "\n", "85", "1e400", "٣"]),
    max_size=8,
).map("".join)

LIKELIEST = {"token": "m", "logprob": -0.1}
COMPLETION = {
    "model": "m",
    "choices": [
        {
            "message": {"role": "assistant", "content": "[[7]]", "reasoning_content": "so"},
            "finish_reason": "stop",
            "logprobs": {
                "content": [{"token": "m", "logprob": -0.1, "top_logprobs": [{"token": "m", "logprob": -0.1}]}]
            },
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def bodies(_: Path) -> Check:
    def check(body: Any) -> None:
        with contextlib.suppress(ValueError):  # which the client takes for a broken response
            sent = mapped_strings(decode_body(json.dumps(body)), without_lone_surrogates)
            reply = read_completion(sent)
            json.dumps(to_row(reply), ensure_ascii=False, allow_nan=False).encode()

    return check


# Files


def any_file(folder: Path) -> Check:
    readers: list[Callable[[Path], object]] = [
        *(read_json, read_jsonl, read_log, read_answers, read_judgments, read_judged_texts, answers_in_votes),
        lambda path: read_votes(path, "votes"),
        lambda path: read_log_as(path, judgment_row),
        lambda path: read_source(SourceConfig(source=str(path)), "sft"),
        lambda path: load_yaml(path, config.SuiteConfig),
        recipes.load_recipe,
    ]

    def check(content: bytes) -> None:
        for name in ("a.json", "a.jsonl", "a.yaml", "a.csv", "a.txt", "a.gz"):
            (folder / name).write_bytes(content)
        for reader in readers:
            for name in ("a.jsonl", "a.json", "a.yaml", "a.csv", "a.gz"):
                with refused():
                    reader(folder / name if reader is not recipes.load_recipe else str(folder / name))  # type: ignore[arg-type]

    return check


BYTES = (
    st.binary(max_size=60)
    | st.lists(st.sampled_from([*b'[]{}:,"\\\n\r-1.eE&*!<\x00\xff\xef\xbb\xbf\x1f\x8b']), max_size=40).map(bytes)
    | VALUES.map(lambda value: json.dumps(value).encode())
)


def rows_of(kind: str, read: Callable[[Path], list[Any]]) -> Callable[[Path], Check]:
    """A spoilt row among right ones is refused, or read beside them without changing any."""

    def make(folder: Path) -> Check:
        right = RIGHT[kind]
        alone = read(write_rows(folder / "right.jsonl", right))

        def check(row: Any) -> None:
            with refused():
                found = read(write_rows(folder / "rows.jsonl", [*right, row]))
                assert found[: len(alone)] == alone
                for one in found[len(alone) :]:
                    _check_verdict(one)

        return check

    return make


def _check_verdict(one: Any) -> None:
    if hasattr(one, "status"):
        assert (one.status == "ok") == (one.score is not None or one.preference is not None)
        assert one.score is None or math.isfinite(one.score)
        counted = on_the_scale(one).score
        assert counted is None or 0 <= counted <= 10
        assert one.preference is None or 1 <= one.preference <= 2


def questions(folder: Path) -> Check:
    (folder / "pairs.yaml").write_text(f"name: p\nkind: alpacaeval\nsource: files\nquestions: rows.jsonl\n{HEAD}")
    (folder / "talks.yaml").write_text(f"name: t\nkind: mtbench\nsource: files\nquestions: rows.jsonl\n{HEAD}")
    suites = [load_yaml(folder / name, config.SuiteConfig) for name in ("pairs.yaml", "talks.yaml")]

    def check(row: Any) -> None:
        write_rows(folder / "rows.jsonl", [row])
        for suite, read in zip(suites, (pairwise_questions, conversations), strict=True):
            with refused():
                for question in read(suite):
                    assert all(isinstance(turn, str) for turn in question.turns)

    return check


QUESTION_ROWS = [
    {"instruction": "What?", "output": "That.", "dataset": "d"},
    {"id": "q", "turns": ["What?", "And?"], "category": "c", "reference": ["That.", "So."]},
]


def training_data(folder: Path) -> Check:
    def check(row: Any) -> None:
        path = write_rows(folder / "rows.jsonl", [row])
        for role in ("sft", "preferences", "prompts"):
            with refused():
                for made in read_source(SourceConfig(source=str(path)), role).rows:  # type: ignore[arg-type]
                    json.dumps(made, ensure_ascii=False).encode()

    return check


DATA_ROWS = [
    {"prompt": "What?", "chosen": "That.", "rejected": "This."},
    {"prompt": [{"role": "user", "content": "What?"}], "answer": "That."},
    {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]},
    {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]},
    {"instruction": "What?", "input": "x", "output": "That."},
    {"instruction": "What?", "completions": [{"response": "That.", "overall_score": 7.0}]},
    {"prompt": "What?", "completion": "That.", "label": True},
]


def messages(_: Path) -> Check:
    def check(value: Any) -> None:
        with refused():
            as_messages(value)

    return check


# Configurations


def settings_of(model: Any, right: dict[str, Any]) -> tuple[Callable[[Path], Check], st.SearchStrategy[Any]]:
    def make(folder: Path) -> Check:
        def check(values: Any) -> None:
            (folder / "a.yaml").write_text(yaml.safe_dump(mapped_strings(values, without_lone_surrogates)))
            with refused():
                load_yaml(folder / "a.yaml", model)
            with refused():
                validate(values, model, "mine")

        return check

    return make, spoilt([right])


def shipped(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = parse_yaml(config.shipped(kind)[name].read_text())  # type: ignore[arg-type]
    return found


def recipe_files(folder: Path) -> Check:
    def check(values: Any) -> None:
        with contextlib.suppress(yaml.YAMLError):
            (folder / "recipe.yaml").write_text(yaml.safe_dump(mapped_strings(values, without_lone_surrogates)))
        with refused():
            recipes.needed_data(recipes.load_recipe(str(folder / "recipe.yaml")))

    return check


RECIPE = {
    "name": "own",
    "method": "dpo",
    "base": "tinyworld",
    "data": {"sft": {"source": "a.jsonl", "max_rows": 5}, "preferences": "b.jsonl"},
    "seed": 1,
    "settings": {"policy": {"learning_rate": 1e-4, "epochs": 1, "lora": {"rank": 4}}, "init": "start"},
}


def overrides(_: Path) -> Check:
    def check(text: str) -> None:
        with refused():
            config.with_overrides({"settings": {"a": 1}}, [f"settings.{text}", text])

    return check


# Stores, logs and results


def stores(folder: Path) -> Check:
    import sqlite3

    path = folder / "store.sqlite"
    with ResponseStore(path) as store:
        store.put("other", {"text": "kept"})

    def check(value: Any) -> None:
        with ResponseStore(path) as store:
            stored = sqlite3.connect(path)
            with stored:
                stored.execute("DELETE FROM responses WHERE key = 'key'")
                text = value if isinstance(value, str | bytes | int | float | None) else json.dumps(value)
                with contextlib.suppress(UnicodeEncodeError, OverflowError, sqlite3.IntegrityError):
                    stored.execute("INSERT INTO responses VALUES ('key', ?, '')", (text,))
            stored.close()
            found = store.get("key")
            assert found is None or isinstance(found, dict)
            if found is None:
                store.put("key", {"value": str(value)})
                assert store.get("key") is not None
            assert store.get("other") == {"text": "kept"}

    return check


_BEYOND = re.compile(r"\d{300}")
"""Numbers that have no value as a figure are read as infinite."""


def logs(folder: Path) -> Check:
    def check(row: Any) -> None:
        path = folder / "log.jsonl"
        path.unlink(missing_ok=True)
        with contextlib.suppress(ValueError):  # what JSON has not, is never written
            append_rows(path, [row])
            [found] = read_log(path)
            as_kept = row if not _BEYOND.search(json.dumps(row)) else found
            assert sha256_json(found) == sha256_json(as_kept)
            with refused():
                read_log_as(path, lambda row: from_row(Answer, row))
            write_json(folder / "a.json", row)
            assert sha256_json(read_json(folder / "a.json")) == sha256_json(as_kept)

    return check


def results(folder: Path) -> Check:
    """A result that can be read is shown in every format."""
    place = folder / "results" / "talks" / "m@given@judge-1"

    def check(row: Any) -> None:
        place.mkdir(parents=True, exist_ok=True)
        write_rows(place / "result.json", [row])
        with refused():
            read_result(place / "result.json")
            sheets = plain_sheets(folder / "results")
            for style in STYLES:
                sheets.text(style).encode()

    return check


def names(_: Path) -> Check:
    def check(text: str) -> None:
        made = slug(text)
        assert made not in ("", ".", "..")
        assert not set(made) & set("/\\\0\n")
        assert len(made.encode()) <= 255
        encode(text).encode()

    return check


# Figures


def figures(folder: Path) -> Check:
    """A row that is added to a file of judgments moves no figure without a word."""
    (folder / "talks.yaml").write_text(f"name: talks\nkind: mtbench\nsource: files\nquestions: q.jsonl\n{HEAD}")
    write_rows(folder / "q.jsonl", [{"id": f"q{index}", "turns": ["What?"]} for index in range(5)])
    right = [judgment(index, 3.0 + index) for index in range(5)]

    def scored(rows: list[Any]) -> Any:
        found = score_files(str(folder / "talks.yaml"), None, write_rows(folder / "j.jsonl", rows))
        return next(result for result in found if result.model == "m")

    alone = scored(right)
    assert alone.metrics["score"] == pytest.approx(5.0)

    def check(row: Any) -> None:
        try:
            with_it = scored([*right, row])
        except InputError:
            return
        assert math.isfinite(with_it.metrics["score"])
        told = (with_it.n, with_it.n_scored, dict(with_it.statuses), with_it.notes)
        if with_it.metrics["score"] != alone.metrics["score"]:
            assert told != (alone.n, alone.n_scored, dict(alone.statuses), alone.notes)

    return check


FEW, MANY = 60, 1000

PROPERTIES: dict[str, tuple[Callable[[Path], Check], st.SearchStrategy[Any]]] = {
    "replies": (replies, REPLY_TEXTS),
    "bodies": (bodies, spoilt([COMPLETION]) | VALUES),
    "any file": (any_file, BYTES),
    **{
        kind: (rows_of(kind, read), spoilt(RIGHT[kind]) | VALUES)
        for kind, read in {
            **dict.fromkeys(("judgments", "FastChat judgments", "FastChat pairs", "annotations"), read_judgments),
            **dict.fromkeys(("answers", "outputs", "FastChat answers"), read_answers),
            "votes": lambda path: read_votes(path, "votes"),
        }.items()
    },
    "questions": (questions, spoilt(QUESTION_ROWS)),
    "training data": (training_data, spoilt(DATA_ROWS) | VALUES),
    "messages": (messages, VALUES),
    "suites": settings_of(config.SuiteConfig, shipped("suites", "tiny-mtbench")),
    "judges": settings_of(JUDGE, shipped("judges", "local-openai")),
    "matrices": settings_of(config.MatrixConfig, shipped("matrices", "tinyworld")),
    "recipes": (recipe_files, spoilt([RECIPE])),
    "overrides": (overrides, TEXTS.map(lambda text: f"a={text}") | TEXTS),
    "stores": (stores, VALUES | st.binary(max_size=30)),
    "logs": (logs, st.dictionaries(TEXTS, VALUES, max_size=5) | spoilt(RIGHT["answers"])),
    "results": (results, spoilt([RESULT]) | VALUES),
    "names": (names, TEXTS | st.text(max_size=20).map(lambda text: 20 * text)),
    "figures": (figures, spoilt(RIGHT["judgments"])),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_few_odd_inputs(name: str, tmp_path: Path) -> None:
    make, values = PROPERTIES[name]
    holds(make(tmp_path), values, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_thousands_of_odd_inputs(name: str, tmp_path: Path) -> None:
    make, values = PROPERTIES[name]
    print(f"{name}: {holds(make(tmp_path), values, MANY):,} inputs")
