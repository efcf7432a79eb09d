"""A matrix's plan as people read it."""

from __future__ import annotations

from seft_bench.bench.shown import short_names


def test_a_judge_file_is_called_by_its_stem() -> None:
    assert short_names(["/long/path/judge.yaml", "rubric", "gpt-4.1"]) == {
        "/long/path/judge.yaml": "judge",
        "rubric": "rubric",
        "gpt-4.1": "gpt-4.1",
    }


def test_judges_of_one_name_keep_their_paths() -> None:
    paths = ["a/judge.yaml", "b/judge.yml"]
    assert short_names(paths) == {path: path for path in paths}
