"""75 real pairwise judgments of GPT-4: FastChat's rule worked out here, row by row, and prompts byte for byte."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from pathlib import Path

import pytest

from seft_bench.errors import InputError
from seft_bench.evaluation.score_files import score_files
from seft_bench.judges.prompts import mtbench_templates, render
from seft_bench.records import Answer, Result, Row
from seft_bench.suites import load_suite
from seft_bench.suites.mtbench_pairwise import PairwiseMTBench
from tests.integration.cli import seft_bench
from tests.real_data import read_gzip

PAIRS = "judgments_pair.jsonl.gz"


@pytest.fixture
def rows(mt_bench: Path) -> list[Row]:
    return read_gzip(mt_bench / PAIRS)


@pytest.fixture
def results(mt_bench: Path) -> dict[str, Result]:
    return {result.model: result for result in score_files("mtbench-pairwise", None, mt_bench / PAIRS)}


def fastchat(rows: list[Row], model: str) -> list[tuple[Row, float]]:
    """display_result_pairwise of FastChat's show_result.py, by hand: (row, 1 for a win, 0.5 for a tie, 0 for a
    loss).
    """
    judged = [row for row in rows if "error" not in (row["g1_winner"], row["g2_winner"])]
    outcomes = []
    for row in judged:
        if row["g1_winner"] == "tie" or row["g1_winner"] != row["g2_winner"]:
            outcomes.append((row, 0.5))
        else:
            outcomes.append((row, float(row[row["g1_winner"]] == model)))
    return outcomes


@pytest.mark.parametrize("model", ["phi-3", "phi-3-dpo"])
def test_figures_are_those_of_fastchats_rule(results: dict[str, Result], rows: list[Row], model: str) -> None:
    outcomes, metrics = fastchat(rows, model), results[model].metrics
    counted = Counter(outcome for _, outcome in outcomes)
    assert (metrics["wins"], metrics["losses"], metrics["ties"]) == (counted[1.0], counted[0.0], counted[0.5])
    assert metrics["win_rate"] == pytest.approx(100 * (counted[1.0] + 0.5 * counted[0.5]) / len(outcomes), abs=1e-9)
    assert metrics["turn_1"] == pytest.approx(metrics["win_rate"], abs=1e-9)
    assert metrics["turn_2"] is None
    assert results[model].per_question == {str(row["question_id"]): outcome for row, outcome in outcomes}


def test_both_models_share_the_ties_and_the_file_counts_as_known(results: dict[str, Result]) -> None:
    """The counts of the file: 38 agreeing wins, 8 agreed ties, 27 verdicts that change with the order, 2 rows with an
    error.
    """
    first, second = results["phi-3"], results["phi-3-dpo"]
    assert (first.metrics["wins"], first.metrics["losses"], first.metrics["ties"], first.metrics["inconsistent"]) == (
        18,
        20,
        35,
        27,
    )
    assert first.metrics["win_rate"] + second.metrics["win_rate"] == pytest.approx(100.0)
    assert first.statuses == second.statuses == {"ok": 73, "missing": 85, "api_error": 2}
    assert (first.n, first.n_scored, first.withheld) == (160, 73, True)
    assert (first.suite, second.suite) == ("mtbench-pairwise-vs-phi-3-dpo", "mtbench-pairwise-vs-phi-3")


def test_intervals_are_students_over_questions(results: dict[str, Result], rows: list[Row]) -> None:
    """One turn a question: the clustered error is the plain one of the mean."""
    outcomes = [100 * outcome for _, outcome in fastchat(rows, "phi-3-dpo")]
    error = statistics.stdev(outcomes) / math.sqrt(len(outcomes))
    metrics = results["phi-3-dpo"].metrics
    assert metrics["win_rate_se"] == pytest.approx(error, abs=1e-9)
    assert metrics["win_rate_high"] - metrics["win_rate"] == pytest.approx(1.99346 * error, rel=1e-4)  # t(0.975, 72)


def test_categories_are_means_of_their_questions(results: dict[str, Result], rows: list[Row]) -> None:
    category = {question.id: question.category for question in load_suite("mtbench").questions()}
    outcomes = fastchat(rows, "phi-3-dpo")
    by_category = results["phi-3-dpo"].metrics["by_category"]
    assert len(by_category) == 8
    for name, value in by_category.items():
        assert value == pytest.approx(
            100 * statistics.fmean(outcome for row, outcome in outcomes if category[str(row["question_id"])] == name)
        )


def test_position_bias_of_the_judge(results: dict[str, Result], rows: list[Row]) -> None:
    judged = [row for row, _ in fastchat(rows, "phi-3")]
    changed = sum(row["g1_winner"] != row["g2_winner"] for row in judged)
    first = [row["g1_winner"] == "model_1" for row in judged if row["g1_winner"] != "tie"] + [
        row["g2_winner"] == "model_2" for row in judged if row["g2_winner"] != "tie"
    ]
    for result in results.values():
        assert result.metrics["inconsistent_rate"] == pytest.approx(100 * changed / len(judged))
        assert result.metrics["first_shown_win_rate"] == pytest.approx(100 * statistics.fmean(first))
        assert result.metrics["first_shown_win_rate_low"] > 50  # GPT-4 favours the answer that it reads first


def test_the_command_line_prints_the_same_and_withholds(mt_bench: Path, results: dict[str, Result]) -> None:
    seen = seft_bench("score", "--suite", "mtbench-pairwise", "--judgments", str(mt_bench / PAIRS), "--json")
    assert seen.status == 5
    assert [(row["model"], row["metrics"]["win_rate"]) for row in json.loads(seen.out)] == [
        (model, pytest.approx(result.metrics["win_rate"])) for model, result in results.items()
    ]


def test_grades_and_comparisons_are_not_taken_for_each_other(mt_bench: Path) -> None:
    with pytest.raises(InputError, match="holds comparisons, and mtbench is scored from grades"):
        score_files("mtbench", None, mt_bench / PAIRS)
    with pytest.raises(InputError, match="holds grades of single answers"):
        score_files("mtbench-pairwise", None, mt_bench / "judgments_single.jsonl.gz")


def test_strict_reading_of_pairs_gives_the_recorded_winners(mt_bench: Path, tmp_path: Path) -> None:
    """Every reply of the file names one verdict only, so the strict rule changes nothing, and says so."""
    suite = load_suite("mtbench-pairwise")
    strict = PairwiseMTBench(suite.config.model_copy(update={"parsing": "strict", "name": "mtbench-pairwise-strict"}))
    from seft_bench.formats.reading import read_judgments

    rows = [row for row in read_judgments(mt_bench / PAIRS) if row.model_id == "phi-3"]
    usual, strictly = (made.score("phi-3", made.questions(), {}, rows) for made in (suite, strict))
    assert strictly.metrics == usual.metrics
    assert any("0 verdicts differ from the official rule's, 0 are unparsed" in note for note in strictly.notes)


# Prompts


def answers_in(prompt: str) -> tuple[str, str]:
    return (
        prompt.split("[The Start of Assistant A's Answer]\n", 1)[1].split("\n[The End of Assistant A's Answer]", 1)[0],
        prompt.split("[The Start of Assistant B's Answer]\n", 1)[1].rsplit("\n[The End of Assistant B's Answer]", 1)[0],
    )


def fastchat_answers(path: Path, model: str, turns: dict[str, tuple[str, ...]]) -> Path:
    lines = [
        json.dumps({"question_id": int(key), "model_id": model, "choices": [{"index": 0, "turns": list(texts)}]})
        for key, texts in turns.items()
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_suites_requests_rebuild_every_recorded_prompt(mt_bench: Path, rows: list[Row], tmp_path: Path) -> None:
    texts = {str(row["question_id"]): answers_in(row["g1_user_prompt"]) for row in rows}
    suite = load_suite("mtbench-pairwise")
    questions = [question for question in suite.questions() if question.id in texts]
    baseline = fastchat_answers(
        tmp_path / "phi-3-dpo.jsonl", "phi-3-dpo", {key: (second, "not judged") for key, (_, second) in texts.items()}
    )
    against = suite.with_baseline(baseline)
    assert against.config.name == "mtbench-pairwise-vs-phi-3-dpo"
    answers = {key: Answer("mtbench", key, "phi-3", (first,)) for key, (first, _) in texts.items()}
    sent = {request.key: render(request, "official") for request in against.requests(questions, answers)}
    assert len(sent) == 150
    for row in rows:
        for order, prompt in (("candidate-first", "g1_user_prompt"), ("candidate-second", "g2_user_prompt")):
            made = sent[f"{row['question_id']}/1/preference/{order}"]
            assert made.template.name == row["judge"][1]
            assert made.messages[1]["content"] == row[prompt]


@pytest.mark.parametrize("question_id", ["81", "111"])
def test_second_turns_fill_the_official_templates_as_fastchat_does(
    mt_bench: Path, tmp_path: Path, question_id: str
) -> None:
    """play_a_match_pair of FastChat's common.py fills the multi-turn template with these names; str.format does it
    here.
    """
    suite = load_suite("mtbench-pairwise")
    question = next(question for question in suite.questions() if question.id == question_id)
    against = suite.with_baseline(fastchat_answers(tmp_path / "base.jsonl", "base", {question_id: ("b1", "b2")}))
    requests = against.requests([question], {question_id: Answer("mtbench", question_id, "m", ("c1", "c2"))})
    assert [(request.turn, request.candidate_first) for request in requests] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
    ]
    template = mtbench_templates()["pair-v2-multi-turn" if question_id == "81" else "pair-math-v1-multi-turn"]
    texts = {"question_1": question.turns[0], "question_2": question.turns[1]}
    texts |= {f"ref_answer_{number}": text for number, text in enumerate(question.reference, 1)}
    for request, (first, second) in zip(requests[2:], [("c", "b"), ("b", "c")], strict=True):
        shown = {f"answer_a_{turn}": f"{first}{turn}" for turn in (1, 2)} | {
            f"answer_b_{turn}": f"{second}{turn}" for turn in (1, 2)
        }
        assert render(request, "official").messages[1]["content"] == template.messages[1]["content"].format(
            **texts, **shown
        )
        assert render(request, "official").template.name == template.name


# Whom to compare with


def test_a_named_baseline_that_the_file_does_not_hold_is_refused(mt_bench: Path, tmp_path: Path) -> None:
    other = fastchat_answers(tmp_path / "other.jsonl", "other", {"81": ("x", "y")})
    with pytest.raises(InputError, match="no comparison with other; they compare phi-3, phi-3-dpo"):
        score_files("mtbench-pairwise", None, mt_bench / PAIRS, other)


def test_a_named_baseline_leaves_the_other_model(mt_bench: Path, tmp_path: Path) -> None:
    baseline = fastchat_answers(tmp_path / "phi-3.jsonl", "phi-3", {"81": ("x", "y")})
    (result,) = score_files("mtbench-pairwise", None, mt_bench / PAIRS, baseline)
    assert (result.model, result.suite) == ("phi-3-dpo", "mtbench-pairwise-vs-phi-3")


def test_several_opponents_need_a_name_unless_the_suites_own_is_among_them(
    rows: list[Row], mt_bench: Path, tmp_path: Path
) -> None:
    def file(*opponents: str) -> Path:
        path = tmp_path / "gpt-4_pair.jsonl"
        path.write_text(
            "".join(json.dumps(row | {"model_2": name}) + "\n" for name in opponents for row in rows), encoding="utf-8"
        )
        return path

    with pytest.raises(InputError, match="Name one of these as the baseline"):
        score_files("mtbench-pairwise", None, file("one", "two"))
    (result,) = score_files("mtbench-pairwise", None, file("one", "gpt-3.5-turbo"))
    assert (result.model, result.suite) == ("phi-3", "mtbench-pairwise")
    assert any("compared with the answers of gpt-3.5-turbo" in note for note in result.notes)


# Both turns, six models: GPT-4's published votes


def as_games(vote: Row) -> Row:
    """A published vote (both orders merged) as the row of games behind it; which of two disagreeing orders said what is
    not published.
    """
    games = {
        "model_a": ("model_1", "model_1"),
        "model_b": ("model_2", "model_2"),
        "tie": ("tie", "tie"),
        "tie (inconsistent)": ("model_1", "model_2"),
    }
    first, second = games.get(vote["winner"], ("error", "error"))
    return {
        "question_id": vote["question_id"],
        "model_1": vote["model_a"],
        "model_2": vote["model_b"],
        "g1_winner": first,
        "g2_winner": second,
        "turn": vote["turn"],
        "judge": ["gpt-4", "pair-v2"],
    }


def test_five_models_against_the_suites_own_baseline_over_both_turns(mt_bench: Path, tmp_path: Path) -> None:
    votes = read_gzip(mt_bench / "gpt4_pair_votes.jsonl.gz")
    path = tmp_path / "gpt-4_pair.jsonl"
    path.write_text("".join(json.dumps(as_games(vote)) + "\n" for vote in votes), encoding="utf-8")
    found = {result.model: result for result in score_files("mtbench-pairwise", None, path)}
    assert len(found) == 5
    for model, result in found.items():
        own = [vote for vote in votes if {vote["model_a"], vote["model_b"]} == {model, "gpt-3.5-turbo"}]
        outcomes = {
            (vote["question_id"], vote["turn"]): 0.5
            if "tie" in vote["winner"]
            else float(vote[vote["winner"]] == model)
            for vote in own
        }
        assert (result.suite, result.n, result.n_scored, result.withheld) == (
            "mtbench-pairwise",
            160,
            len(outcomes),
            False,
        )
        assert result.metrics["win_rate"] == pytest.approx(100 * statistics.fmean(outcomes.values()))
        for turn in (1, 2):
            assert result.metrics[f"turn_{turn}"] == pytest.approx(
                100 * statistics.fmean(value for (_, t), value in outcomes.items() if t == turn)
            )
        questions = [(outcomes[key, 1] + outcomes[key, 2]) / 2 for key in range(81, 161)]
        assert result.metrics["win_rate_se"] == pytest.approx(100 * statistics.stdev(questions) / 80**0.5)
        assert [result.per_question[str(key)] for key in range(81, 161)] == pytest.approx(questions)
        assert result.metrics["inconsistent"] == sum(vote["winner"] == "tie (inconsistent)" for vote in own)
    assert found["gpt-4"].metrics["win_rate_low"] > 50 > found["llama-13b"].metrics["win_rate_high"]
    assert seft_bench("score", "--suite", "mtbench-pairwise", "--judgments", str(path), "--json").status == 0
