"""A judging command as a process that tests can kill: `python judge_run.py URL STORE JUDGMENTS COUNT IN_FLIGHT`."""

from __future__ import annotations

import sys
from pathlib import Path

from seft_bench.config import OpenAIJudgeConfig
from seft_bench.files import append_rows, read_log
from seft_bench.judges import open_judge
from seft_bench.records import JudgeRequest, Question, to_row


def requests(count: int) -> list[JudgeRequest]:
    questions = [Question("mtbench", str(number), "writing", (f"Write about {number}.",)) for number in range(count)]
    return [JudgeRequest("grade", question, 1, (f"Here is {question.id}.",)) for question in questions]


def main(url: str, store: str, judgments: str, count: int, in_flight: int) -> None:
    config = OpenAIJudgeConfig(
        name="test",
        kind="openai",
        model="judge",
        base_url=url,
        api_key_env=None,
        templates="seft-bench",
        max_in_flight=in_flight,
    )
    judge, path = open_judge(config, Path(store)), Path(judgments)
    done = {row["key"] for row in read_log(path) if row["status"] == "ok"}
    missing = [request for request in requests(count) if request.key not in done]
    judge.judge(missing, "model", lambda judgment: append_rows(path, [to_row(judgment)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
