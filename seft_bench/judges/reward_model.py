"""A reward model as a judge: one number an answer, from a sequence-classification model with one output.

A reward has no scale. Two of them make a preference (Bradley-Terry); a grade needs graded answers to be calibrated on,
or a reference answer to stand beside. The model sees a conversation through its own chat template, one answer at a
time, so the order in which a suite would show two answers has no meaning here.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from seft_bench.config import RewardModelJudgeConfig
from seft_bench.errors import InputError
from seft_bench.files import sha256_json
from seft_bench.judges.base import BaseJudge, OnJudgment, judgment_of
from seft_bench.judges.calibration import FittedGrades, GradedAnswer, GradedAnswers, notes_on, read_graded
from seft_bench.judges.local import LocalModel
from seft_bench.judges.rewards import Conversation, RewardReader, Scored, conversation
from seft_bench.manifest import now
from seft_bench.records import JudgeRequest, Judgment, Question

Verdict = dict[str, Any]


class RewardModelJudge(BaseJudge):
    """A reward model as a judge; `config.RewardModelJudgeConfig` explains the arguments.

    Args:
        calibrations: folder of fitted maps; None fits anew in every run.
    """

    def __init__(
        self,
        name: str,
        model: LocalModel,
        *,
        temperature: float = 1.0,
        batch_size: int = 16,
        calibration: GradedAnswers | None = None,
        calibrations: Path | None = None,
    ) -> None:
        self.model, self.temperature, self.calibration = model, temperature, calibration
        self._name, self._calibrations = name, calibrations
        self._rewards = RewardReader(model, batch_size)
        self._references_checked = False
        self.notes = [
            f"preferences are Bradley-Terry, log-odds = difference of rewards / {temperature:g}; by construction the "
            "order shown has no effect."
        ]
        self._fitted = self._saved_map()

    @classmethod
    def from_config(cls, config: RewardModelJudgeConfig, store_path: Path | None = None) -> RewardModelJudge:
        graded = config.calibration
        return cls(
            config.name,
            LocalModel(config.name, config.model, config.device, config.context_tokens, config.trust_remote_code),
            temperature=config.temperature,
            batch_size=config.batch_size,
            calibration=GradedAnswers(Path(graded.answers), Path(graded.judgments), graded.suite) if graded else None,
            calibrations=store_path.parent / "calibrations" if store_path else None,
        )

    @functools.cached_property
    def id(self) -> str:
        """Name and hash of what can change a verdict: model, temperature, and the answers for the calibration."""
        calibration = self.calibration.identity if self.calibration else None
        settings = {**self.model.identity, "temperature": self.temperature, "calibration": calibration}
        return f"{self._name}-{sha256_json(settings)[:8]}"

    def check_questions(self, kind: str, questions: Sequence[Question]) -> None:
        """Grades without calibration need a reference answer to every turn of every question.

        Raises:
            InputError: a question has none.
        """
        if kind != "grade" or self.calibration:
            return
        without = [question.id for question in questions if len(question.reference) < len(question.turns)]
        if without:
            raise self._needs_calibration(
                f"{len(without)} of {len(questions)} questions have no reference answer to every turn "
                f"({', '.join(without[:5])}, ...)"
            )
        self._references_checked = True

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Find all that can be wrong without the weights: architecture, outputs, tokenizer, template, calibration.

        Raises:
            InputError: the first thing that is wrong.
        """
        self._rewards.check()
        if "grade" not in kinds:
            return
        if self.calibration:
            self._graded_answers()
        elif not self._references_checked:
            raise self._needs_calibration("the YAML names no graded answers")

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        grades = [request for request in requests if request.kind == "grade"]
        if not self.calibration and any(len(request.question.reference) < request.turn for request in grades):
            raise self._needs_calibration("a question has no reference answer")
        with self._rewards.loaded():
            if grades and self.calibration and not self._fitted:
                self._fitted = self._fit()
            for request, scored in self._scored(requests):
                on_judgment(self._judgment(request, model_id, scored))

    def _scored(self, requests: Sequence[JudgeRequest]) -> Iterator[tuple[JudgeRequest, list[Scored]]]:
        """Yield each request with the rewards that it needs, as soon as the last of them is there."""
        waiting = {index: self._conversations(request) for index, request in enumerate(requests)}
        known: dict[Conversation, Scored] = {}
        for scored in self._rewards.read(list(dict.fromkeys(item for needed in waiting.values() for item in needed))):
            known |= scored
            for index in [index for index, needed in waiting.items() if all(item in known for item in needed)]:
                yield requests[index], [known[item] for item in waiting.pop(index)]

    def _conversations(self, request: JudgeRequest) -> list[Conversation]:
        """Return the candidate's conversation, then the one that it is measured against, if any."""
        turns, own = request.question.turns, conversation(request.question.turns, request.candidate)
        if request.kind == "preference":
            return [own, conversation(turns, request.baseline)]
        return [own] if self.calibration else [own, conversation(turns, request.question.reference[: request.turn])]

    def _judgment(self, request: JudgeRequest, model_id: str, scored: Sequence[Scored]) -> Judgment:
        fixed: Verdict = {
            "prompt_tokens": sum(item.tokens for item in scored),
            "completion_tokens": 0,
            "price_usd": 0.0,
            "judged_at": now(),
        }
        failed = next((item for item in scored if item.reward is None), None)
        if failed:
            verdict: Verdict = {"status": failed.status, "raw": failed.why}
        else:
            verdict = self._verdict(request, [item.reward or 0.0 for item in scored])
        return judgment_of(request, model_id, self.id, self.model.name, **fixed | verdict)

    def _verdict(self, request: JudgeRequest, rewards: Sequence[float]) -> Verdict:
        from seft_bench.stats.rewards import bradley_terry_preference, grade_against_reference

        details: Verdict = {"reward": rewards[0]}
        if request.kind == "preference":
            candidate, baseline = rewards
            details |= {"baseline_reward": baseline, "preference_from": "rewards"}
            preference = bradley_terry_preference(candidate, baseline, self.temperature)
            return {"status": "ok", "preference": preference, "details": details}
        if self._fitted:
            score = float(self._fitted.map(rewards)[0])
            return {"status": "ok", "score": score, "details": details | {"grade_from": "calibration"}}
        reward, reference = rewards
        details |= {"reference_reward": reference, "grade_from": "reference"}
        return {
            "status": "ok",
            "score": grade_against_reference(reward, reference, self.temperature),
            "details": details,
        }

    def _graded_answers(self) -> list[GradedAnswer]:
        from seft_bench.stats.rewards import GradedReward, why_not

        assert self.calibration is not None
        graded = read_graded(self.calibration)
        if problem := why_not([GradedReward(item.question_id, 0.0, item.grade) for item in graded]):
            raise InputError(f"judge {self._name} cannot be calibrated: {problem} ({self.calibration.judgments})")
        return graded

    def _fit(self) -> FittedGrades:
        """Fit the map from the graded answers' rewards to their grades.

        Raises:
            InputError: too few of them can be scored.
        """
        from seft_bench.stats.rewards import GradedReward, calibrate

        assert self.calibration is not None
        graded = self._graded_answers()
        conversations = list(dict.fromkeys(conversation(item.questions, item.answers) for item in graded))
        found: dict[Conversation, Scored] = {}
        for scored in self._rewards.read(conversations):
            found |= scored
        rewards = [(item, found[conversation(item.questions, item.answers)].reward) for item in graded]
        rows = [GradedReward(item.question_id, reward, item.grade) for item, reward in rewards if reward is not None]
        left_out = len(graded) - len(rows)
        try:
            fitted = calibrate(rows)
        except ValueError as error:
            raise InputError(
                f"judge {self._name} cannot be calibrated: {error} ({left_out} graded answers could not be scored)"
            ) from None
        kept = FittedGrades(fitted.map, notes_on(fitted, self.calibration.suite, left_out))
        self.notes += kept.notes
        if self._calibrations:
            kept.save(self._calibrations / f"{self.id}.json")
        return kept

    def _saved_map(self) -> FittedGrades | None:
        """Return the map that an earlier run fitted under this very id."""
        if not self.calibration:
            return None
        path = self._calibrations / f"{self.id}.json" if self._calibrations else None
        if not path or not path.is_file():
            return None
        saved = FittedGrades.load(path)
        self.notes += saved.notes
        return saved

    def _needs_calibration(self, why: str) -> InputError:
        return InputError(
            f"judge {self._name}: a reward has no scale, and {why}, so it cannot be turned into a grade. Name graded "
            "answers in the judge's YAML: `calibration: {answers: FILE, judgments: FILE, suite: SUITE}` "
            "(docs/add-a-judge.md), or use this judge for preferences."
        )
