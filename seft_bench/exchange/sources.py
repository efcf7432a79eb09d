"""Sources of an export's answers and judgments: below runs/evaluations, or files that somebody names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seft_bench.answers import answer_of_row
from seft_bench.errors import InputError
from seft_bench.evaluation.score_files import against_one_baseline
from seft_bench.exchange import alpaca_eval, fastchat, fastchat_pairs
from seft_bench.exchange.records import Recorded
from seft_bench.files import read_log_as
from seft_bench.formats.matching import match_answers, match_judgments
from seft_bench.formats.reading import (
    FileAnswer,
    Format,
    format_of,
    read_file_answers,
    read_instructions,
    read_judgments,
    read_rows,
)
from seft_bench.records import Answer, Judgment, Status, from_row
from seft_bench.suites import Suite
from seft_bench.suites.coverage import by_judge
from seft_bench.suites.custom import folder_name
from seft_bench.suites.mtbench_pairwise import PairwiseMTBench

_FIELDS: Mapping[Format | None, Callable[[Judgment, Mapping[str, Any]], tuple[Status, dict[str, Any]]]] = {
    "alpaca_eval annotations": alpaca_eval.with_fields,
    "FastChat judgments": fastchat.with_fields,
}


@dataclass(frozen=True)
class Evaluation:
    """A folder below runs/evaluations: one model's answers to one suite in one decoding."""

    folder: Path
    model: str
    decoding: str
    answers: Mapping[str, Answer]


def read_whole_judgments(path: Path) -> list[Judgment]:
    """As `formats.reading.read_judgments`, with what else an official row says under `records.OFFICIAL`.

    Raises:
        InputError: as there.
    """
    judgments = read_judgments(path)
    rows = read_rows(path, "judgments")
    kind = format_of(rows[0][1])
    if kind == "FastChat pairs":
        each = len(judgments) // len(rows)
        return [fastchat_pairs.whole(judgment, rows[number // each][1]) for number, judgment in enumerate(judgments)]
    fields = _FIELDS.get(kind)
    return (
        judgments
        if fields is None
        else [_whole(judgment, *fields(judgment, row)) for judgment, (_, row) in zip(judgments, rows, strict=True)]
    )


def _whole(judgment: Judgment, status: Status, details: dict[str, Any]) -> Judgment:
    return dataclasses.replace(judgment, status=status, details=details)


def of_files(suite: Suite, answers: Path | None, judgments: Path | None) -> list[Recorded]:
    """Every model of a pair of files, ours or official ones.

    Raises:
        InputError: no file, a broken one, or none of the suite's questions in them.
    """
    if answers is None and judgments is None:
        raise InputError("name --answers, --judgments, or both")
    rows = read_whole_judgments(judgments) if judgments else []
    texts = answers or (
        judgments
        if judgments and format_of(read_rows(judgments, "judgments")[0][1]) == "alpaca_eval annotations"
        else None
    )
    asked = read_instructions(judgments) if judgments else {}
    return grouped(suite, read_file_answers(texts) if texts else [], rows, str(judgments or answers), asked)


def grouped(
    suite: Suite,
    answers: Iterable[FileAnswer],
    judgments: Sequence[Judgment],
    source: str,
    asked: Mapping[str, str],
) -> list[Recorded]:
    """Rows of one or more models by model, with this suite's name in them; rows of other questions are left out.

    Args:
        asked: id of a judgment's question -> its instruction, in files that are keyed by it.

    Raises:
        InputError: no row is of a question of the suite.
    """
    if isinstance(suite, PairwiseMTBench):
        judgments = against_one_baseline(judgments, suite.baseline_name, named_by_user=False)
    questions, name = suite.questions(), suite.config.name
    known = {question.id for question in questions}
    judgments, near = match_judgments(questions, judgments, asked)
    by_model: dict[str, list[FileAnswer]] = {}
    for one in answers:
        by_model.setdefault(one.answer.model_id, []).append(one)
    matched = {model: match_answers(questions, rows) for model, rows in by_model.items()}
    texts = {model: _of_suite(found.answers, name) for model, found in matched.items() if found.answers}
    rows = [dataclasses.replace(row, suite=name) for row in judgments if row.question_id in known]
    models = list(dict.fromkeys([*texts, *(row.model_id for row in rows)]))
    if not models:
        raise InputError(
            f"{source}: nothing in it is of a question of {name} ({len(known)} questions). `seft-bench suites list` "
            "shows the suites."
        )
    about = {model: [*(matched[model].notes if model in matched else ()), *near] for model in models}
    return [
        Recorded(
            model, texts.get(model, {}), by_judge(row for row in rows if row.model_id == model), source, about[model]
        )
        for model in models
    ]


def _of_suite(answers: Mapping[str, Answer], name: str) -> dict[str, Answer]:
    return {key: dataclasses.replace(answer, suite=name, question_id=key) for key, answer in answers.items()}


def evaluated(
    suite: Suite, models: Sequence[str], judge: str | None, decoding: str | None, runs: Path
) -> list[Recorded]:
    """Models that were evaluated, or imported, on a suite.

    Args:
        models: names as in tables, names of runs, paths of runs or checkpoints; none: all that there are.
        judge: id or name of a judge; None: every judge.
        decoding: None: every decoding; a model with several is exported once for each, as MODEL@DECODING.

    Raises:
        InputError: nothing is there, or two evaluations share a name.
    """
    name = suite.config.name
    found = [item for item in _evaluations(runs, folder_name(suite.config)) if decoding in (None, item.decoding)]
    if not found:
        raise InputError(
            f"no answers to {name}{f' in decoding {decoding}' if decoding else ''} below {runs / 'evaluations'}. Run "
            f"`seft-bench eval MODEL --suite {name}` first, or name files with --answers and --judgments."
        )
    chosen = [item for model in models for item in _matching(model, found)] or found
    chosen = list({item.folder: item for item in chosen}.values())
    _check_one_each(chosen)
    return [_recorded(item, judge, sum(other.model == item.model for other in chosen) > 1) for item in chosen]


def _evaluations(runs: Path, suite_folder: str) -> list[Evaluation]:
    return [
        item for folder in sorted((runs / "evaluations").glob(f"*/{suite_folder}/*")) if (item := _evaluation(folder))
    ]


def _evaluation(folder: Path) -> Evaluation | None:
    """Read an evaluation's folder.

    Of a question answered twice the last row counts, as in the pipeline; imported judgments may come without answers.
    """
    found = read_log_as(folder / "answers.jsonl", partial(answer_of_row, keep=True))
    answers, files = {answer.question_id: answer for answer in found}, sorted(folder.glob("judgments-*.jsonl"))
    judged = (row.model_id for path in files for row in read_log_as(path, partial(from_row, Judgment)))
    model = next(iter(answers.values())).model_id if answers else next(judged, None)
    return None if model is None else Evaluation(folder, model, folder.name, answers)


def _matching(model: str, found: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations that a MODEL argument means: a name, a run with all its checkpoints, or a path of either."""
    parts = Path(model).parts
    names = {f"{parts[-3]}/{parts[-1]}"} if len(parts) > 2 and parts[-2] == "checkpoints" else {model, Path(model).name}
    chosen = [item for item in found if item.model in names or item.model.partition("/")[0] in names]
    if not chosen:
        there = ", ".join(dict.fromkeys(item.model for item in found))
        raise InputError(f"model {model!r} has no answers to this suite here; there are those of {there}")
    return chosen


def _check_one_each(chosen: Sequence[Evaluation]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for item in chosen:
        other = seen.setdefault((item.model, item.decoding), item.folder)
        if other != item.folder:
            raise InputError(
                f"two evaluations are of a model named {item.model}: {other} and {item.folder}. Name the files of one "
                "with --answers and --judgments."
            )


def _recorded(item: Evaluation, judge: str | None, several: bool) -> Recorded:
    name = f"{item.model}@{item.decoding}" if several else item.model
    judged: dict[str, list[Judgment]] = {}
    for path in sorted(item.folder.glob("judgments-*.jsonl")):
        for found, group in by_judge(read_log_as(path, partial(from_row, Judgment))).items():
            judged.setdefault(found, group)
    wanted = {
        found: group
        for found, group in judged.items()
        if judge is None or found == judge or found.rpartition("-")[0] == judge
    }
    if judge is not None and not wanted:
        raise InputError(
            f"judge {judge!r} did not judge {item.model} on this suite; there are {', '.join(judged) or 'no judgments'}"
        )
    return Recorded(name, item.answers, wanted, str(item.folder))
