"""What judges would be asked for a training: looked up, agreed to and tried before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.files import read_jsonl
from seft_bench.judge_quality.asking import missing
from seft_bench.judges import Judge
from seft_bench.judges.context import CHARACTERS_PER_TOKEN
from seft_bench.records import Output, Question, Source
from seft_bench.stages import door
from seft_bench.stages.common import OUTPUTS
from seft_bench.stages.graders import JUDGMENTS, Graders, Sampled, ToGrade, grade_requests, live_judge
from seft_bench.stages.sample import chosen_prompts

if TYPE_CHECKING:
    from seft_bench.stages.door import stages


@dataclass(frozen=True)
class Grading:
    """The grading of a method's samples by judges, as far as it is still to be done.

    Attributes:
        plan: all stages of the method.
        left: those that are not finished.
        folders: stage -> its folder, whether it is there or not.
        find: finds data sets.
    """

    plan: Sequence[stages.Stage]
    left: Sequence[stages.Stage]
    folders: Mapping[str, Path]
    find: Callable[[Source], Path]
    graders: Graders

    def look_up(self) -> list[ToGrade]:
        """Look up what judges would be asked now, a stage each."""
        sampling = {stage.name: stage for stage in self.plan if stage.kind == "sample"}
        return [
            self._to_grade(stage, stage.judge, sampling[stage.data.stage])
            for stage in self.left
            if stage.kind == "score" and stage.what == "grades" and stage.judge and isinstance(stage.data, Output)
        ]

    def _to_grade(self, stage: stages.Grade, name: str, sampling: stages.Sample) -> ToGrade:
        judge = self.graders.judge(name)
        requests = grade_requests(self._sampled(sampling))
        open_ones = missing(judge.id, requests, self.folders[stage.name] / JUDGMENTS)
        return ToGrade(stage.name, judge, len(requests), open_ones)

    def _sampled(self, sampling: stages.Sample) -> list[Sampled]:
        """Return the samples; where they are not drawn yet, texts as long as they may become."""
        drawn = self.folders[sampling.name] / OUTPUTS["sample"]
        if drawn.exists():
            rows = read_jsonl(drawn, "samples", ["prompt", "samples"])
            return [(row["prompt"], text) for row in rows for text in row["samples"]]
        prompts = chosen_prompts(door.rows.read_rows(self.find(sampling.prompts), "prompts", ["prompt"]), sampling)
        return [(row["prompt"], text) for row in prompts for text in _longest_texts(sampling)]

    def live(self) -> Iterator[tuple[Judge, list[Question]]]:
        """Yield the judges that grade while a policy trains, with the questions that they will meet.

        Raises:
            InputError: one of them asks a server.
        """
        for stage in self.left:
            if stage.kind == "train" and stage.online and stage.online.judge:
                _ = live_judge(stage.online.judge)
                rows = door.rows.read_rows(self.find(stage.data), "prompts", ["prompt"])[: stage.shape.first]
                requests = grade_requests([(row["prompt"], "") for row in rows])
                yield self.graders.judge(stage.online.judge), [request.question for request in requests]


def check_graders(grading: Grading) -> None:
    """Ask whether samples may be graded at that price, and the judges whether they can, before anything is trained.

    Raises:
        InputError: a judge cannot grade these prompts, or nobody agreed to what it may cost.
        ServiceUnavailableError: a judge cannot be reached.
    """
    for judge, questions in grading.live():
        judge.check_questions("grade", questions)
        judge.check(["grade"], ())
    found = grading.look_up()
    for item in found:
        item.judge.check_questions("grade", [request.question for request in item.open_ones])
    if found:
        grading.graders.agree(grading.look_up)
    for item in {item.judge.id: item for item in found if item.open_ones}.values():
        item.judge.check(["grade"], item.open_ones if item.judge.client else ())


def _longest_texts(stage: stages.Sample) -> list[str]:
    """Return texts as long as samples may become, each another one: equal requests are sent once."""
    return [f"{number:x<{stage.settings.max_new_tokens * CHARACTERS_PER_TOKEN}}" for number in range(stage.samples)]
