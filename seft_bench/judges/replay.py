"""A judge that hands out recorded judgments again: ours, or those in the official tools' formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from seft_bench.config import ReplayJudgeConfig
from seft_bench.errors import InputError
from seft_bench.files import sha256_file
from seft_bench.judges.base import BaseJudge, OnJudgment, judgment_of
from seft_bench.records import JudgeRequest, Judgment


class ReplayJudge(BaseJudge):
    """A judge over a file: finds a judgment by its key and, if the record has one, the hash of the judged texts.

    One key recorded twice: the last valid row counts. Rows of several models (`Judgment.model_id`) are told apart by
    the hash of the answer, or, without one, by the model's id.
    """

    def __init__(self, name: str, path: Path) -> None:
        from seft_bench.formats.reading import read_judgments

        if not path.is_file():
            raise InputError(f"judge {name}: no file of recorded judgments at {path}")
        self.id = f"{name}-{sha256_file(path)[:8]}"
        self.notes: list[str] = []
        self._by_answer: dict[tuple[str, str], Judgment] = {}
        self._by_model: dict[tuple[str, str], Judgment] = {}
        for row in read_judgments(path):
            self._remember(row)

    @classmethod
    def from_config(cls, config: ReplayJudgeConfig, store_path: Path | None = None) -> ReplayJudge:
        return cls(config.name, Path(config.path))

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Do nothing: the file was read when the judge was opened."""

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        for request in requests:
            on_judgment(self._judge_one(request, model_id))

    def _remember(self, row: Judgment) -> None:
        table = self._by_answer if row.answer_hash else self._by_model
        key = (row.key, row.answer_hash or row.model_id)
        if (before := table.get(key)) and before.details.get("compared_with") != row.details.get("compared_with"):
            raise InputError(
                f"judge {self.id}: the file compares {row.model_id} with several models; keep the rows of one baseline "
                "in it"
            )
        if before and len({before.judge_id, row.judge_id} - {""}) > 1:
            raise InputError(
                f"judge {self.id}: {before.judge_id} and {row.judge_id} both judged {row.key} of {row.model_id} in its "
                "file; keep the rows of one judge in it (`seft-bench score` gives the figures of each)"
            )
        if row.status == "ok" or key not in table:
            table[key] = row

    def _judge_one(self, request: JudgeRequest, model_id: str) -> Judgment:
        row = self._by_answer.get((request.key, request.answer_hash)) or self._by_model.get((request.key, model_id))
        if row is None:
            return judgment_of(request, model_id, self.id, "recorded", status="api_error", raw="no recorded judgment")
        details = {**row.details, "recorded_judge": row.judge_id}
        return dataclasses.replace(
            row,
            suite=request.question.suite,
            model_id=model_id,
            answer_hash=request.answer_hash,
            judge_id=self.id,
            details=details,
            price_usd=0.0,
        )
