"""`judges agreement --ask` against judges behind a real local server, with biases of a size that the test knows."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from seft_bench.files import read_log
from seft_bench.suites import load_suite
from tests.faults.chat_server import ChatServer, Handler, completion, serving, status, token_completion
from tests.integration.cli import Seen, seft_bench

MODELS = ("ant-7b", "bee-7b", "cat-7b", "dog-7b")
SHOWN = re.compile(r"===== answer of (m|M) starts =====\n(.*?)\n===== answer of \1 ends =====", re.DOTALL)
QUALITY = re.compile(r"quality (\d+)")

Odds = Callable[[str, str], float]
"""Log-odds of the answer shown first (m) from the two texts."""


def quality(text: str) -> int:
    """That of the last turn: what a text of this test says about itself; 0 in a probe."""
    return int((QUALITY.findall(text) or ["0"])[-1])


def fair(first: str, second: str) -> float:
    return float(quality(first) - quality(second))


def likes_first(first: str, second: str) -> float:
    return fair(first, second) + 2.5


def likes_long(first: str, second: str) -> float:
    return fair(first, second) + 4.5 * math.copysign(1.0, len(first) - len(second))


def judging(odds: Odds) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body["messages"][-1]["content"]
        shown = dict(SHOWN.findall(prompt))
        value = odds(shown["m"], shown["M"])
        return web.json_response(
            token_completion({"m": -math.log1p(math.exp(-value)), "M": -math.log1p(math.exp(value))})
        )

    return answer


@pytest.fixture(scope="module")
def world() -> dict[str, list[dict[str, Any]]]:
    """Answers of four models to the tinyworld's questions, lengths drawn apart from quality; experts see quality with
    an error of their own.
    """
    rng = random.Random(5)
    questions = load_suite("tiny-mtbench").questions()
    text = {
        (model, question.id): [f"quality {rng.randrange(10)} {'x' * rng.randrange(400)}" for _ in question.turns]
        for question in questions
        for model in MODELS
    }
    answers = [
        {"question_id": question, "model_id": model, "choices": [{"index": 0, "turns": turns}]}
        for (model, question), turns in text.items()
    ]
    votes = []
    for question in questions:
        for turn in range(1, len(question.turns) + 1):
            for expert in range(3):
                one, other = rng.sample(MODELS, 2)
                seen = (
                    quality(text[one, question.id][turn - 1])
                    - quality(text[other, question.id][turn - 1])
                    + rng.choice((-2, 0, 0, 2))
                )
                winner = "tie" if seen == 0 else "model_a" if seen > 0 else "model_b"
                votes.append(
                    {
                        "judge": f"expert_{expert}",
                        "question_id": question.id,
                        "turn": turn,
                        "model_a": one,
                        "model_b": other,
                        "winner": winner,
                    }
                )
    return {"answers": answers, "votes": votes}


@pytest.fixture(autouse=True)
def _files(world: dict[str, list[dict[str, Any]]], desk: Path) -> None:
    for name, rows in world.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ask(server: ChatServer | str, *options: str, templates: str = "seft-bench") -> Seen:
    name = server if isinstance(server, str) else "mine.yaml"
    if not isinstance(server, str):
        Path(name).write_text(
            f"name: mine\nkind: openai\nmodel: judge\nbase_url: {server.url}\napi_key_env: null\ntemplates: "
            f"{templates}\nmax_in_flight: 8\n"
        )
    return seft_bench(
        "judges",
        "agreement",
        "--votes",
        "votes.jsonl",
        "--ask",
        name,
        "--answers",
        "answers.jsonl",
        "--suite",
        "tiny-mtbench",
        *options,
    )


def report(seen: Seen) -> dict[str, Any]:
    assert seen.status == 0, seen.err
    return dict(json.loads(seen.out))


def to_ask(seen: Seen) -> tuple[int, int, int]:
    [line] = report(seen)["lines"]
    return line["wanted"], line["at_hand"], line["to_ask"]


def compared(world: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str, int]]:
    """(text, other text, turn) of every comparison, the models in order of their names."""
    texts = {(row["model_id"], row["question_id"]): row["choices"][0]["turns"] for row in world["answers"]}
    keys = {(vote["question_id"], vote["turn"], *sorted((vote["model_a"], vote["model_b"]))) for vote in world["votes"]}
    return [
        (texts[one, question][turn - 1], texts[other, question][turn - 1], turn)
        for question, turn, one, other in sorted(keys)
    ]


def test_a_fair_judge_is_not_called_biased(desk: Path, world: dict[str, list[dict[str, Any]]]) -> None:
    with serving(otherwise=judging(fair)) as server:
        found = report(ask(server, "--json"))
    assert found["biased"] == {"position": False, "length": False}
    assert found["position"]["comparisons"] == len(compared(world))
    assert (
        found["position"]["consistent"]["mean"],
        found["position"]["bias"]["mean"],
        found["position"]["p_value"],
    ) == (1.0, 0.0, 1.0)
    assert found["length"]["slope"]["low"] < 0 < found["length"]["slope"]["high"]
    assert (found["failed"], found["not_asked"], found["coverage"], found["consistency"]) == (0, 0, 1.0, None)
    assert any("FastChat's rule" in note for note in found["notes"])


def test_a_judge_that_likes_the_first_is_found_and_its_bias_measured(
    desk: Path, world: dict[str, list[dict[str, Any]]]
) -> None:
    """It changes its mind exactly where the two are within 2 of each other, always towards the answer shown first."""
    with serving(otherwise=judging(likes_first)) as server:
        found = report(ask(server, "--json"))
    near = [abs(fair(one, other)) <= 2 for one, other, _ in compared(world)]
    position = found["position"]
    assert (position["n_first"], position["n_second"]) == (sum(near), 0)
    assert position["bias"]["mean"] == pytest.approx(sum(near) / len(near))
    assert position["p_value"] < 1e-6
    assert found["biased"]["position"]
    assert any(line.startswith("position: biased towards the answer shown first") for line in found["verdicts"])


def test_a_judge_that_likes_the_longer_is_found_beside_the_humans(
    desk: Path, world: dict[str, list[dict[str, Any]]]
) -> None:
    """Texts of both turns are shown, so on turn 2 the judge's length is that of the conversation: turn 1 is exact."""
    with serving(otherwise=judging(likes_long)) as server:
        found = report(ask(server, "--turn", "1", "--json"))
        text = ask(server, "--turn", "1").out
    pairs = [(one, other) for one, other, turn in compared(world) if turn == 1 and len(one) != len(other)]
    longer = [(likes_long(one, other) > 0) == (len(one) > len(other)) for one, other in pairs]
    assert found["length"]["all"]["judge"]["mean"] == pytest.approx(sum(longer) / len(longer))
    assert found["length"]["all"]["humans"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert found["length"]["all"]["difference"]["low"] > 0.1
    assert found["length"]["slope"]["low"] > 0.5
    assert found["biased"] == {"position": False, "length": True}
    assert "length: likes long answers more than humans do" in text


def test_run_again_nothing_is_paid_for_and_killed_it_goes_on(desk: Path) -> None:
    """The 41st request is refused, which stops the run; the same command asks for the rest only, and then for
    nothing.
    """
    good = judging(fair)
    with serving(*[good] * 40, status(401), otherwise=good) as server:
        stopped = ask(server)
        assert stopped.status == 2
        first = len(server.bodies)
        found = report(ask(server, "--json"))
        after = len(server.bodies)
        assert report(ask(server, "--json")) == found
        assert len(server.bodies) == after
    rows = [row for path in desk.glob("runs/agreement/*.jsonl") for row in read_log(path)]
    keys = [(row["key"], row["answer_hash"]) for row in rows]
    assert len(keys) == len(set(keys)) == 2 * found["position"]["comparisons"]
    assert first < after
    assert all(
        "model_id" not in json.dumps(body) and not any(model in json.dumps(body) for model in MODELS)
        for body in server.bodies
    )


def test_repeats_are_asked_anew_and_their_noise_is_measured(desk: Path) -> None:
    """The server changes its verdict the second time it sees a prompt, for each prompt whose number of characters is
    even.
    """
    seen: dict[str, int] = {}

    async def moody(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body["messages"][-1]["content"]
        seen[prompt] = seen.get(prompt, 0) + 1
        sign = -1 if seen[prompt] == 2 and len(prompt) % 2 == 0 else 1
        return web.json_response(token_completion({"m": -0.1, "M": -3.0} if sign > 0 else {"m": -3.0, "M": -0.1}))

    options = ("--limit", "30", "--repeats", "1", "--repeat-sample", "20", "--out", "out.jsonl")
    with serving(otherwise=moody) as server:
        assert to_ask(ask(server, *options, "--dry-run", "--json")) == (100, 0, 100)
        assert not server.bodies
        found = report(ask(server, *options, "--json"))
        assert len(server.bodies) == 100 + 1  # and the probe
        assert to_ask(ask(server, *options, "--dry-run", "--json")) == (100, 100, 0)
        alone = seft_bench("judges", "consistency", "--judgments", "out.jsonl", "--json")
    twice = [prompt for prompt, times in seen.items() if times == 2]
    equal = sum(len(prompt) % 2 for prompt in twice) / len(twice)
    assert len(twice) == 40
    assert found["consistency"]["one order"]["prompts"] == 40
    assert found["consistency"]["one order"]["equal"]["mean"] == pytest.approx(equal)
    assert found["consistency"]["both orders"]["prompts"] == 20
    (recorded,) = json.loads(alone.out).values()
    assert (recorded["prompts"], recorded["equal"]["mean"], recorded["sd"]) == (40, pytest.approx(equal), None)


def test_a_larger_limit_keeps_the_smaller_sample(desk: Path) -> None:
    with serving(otherwise=judging(fair)) as server:
        ask(server, "--limit", "10")
        before = len(server.bodies)
        found = report(ask(server, "--limit", "15", "--json"))
        assert len(server.bodies) == before + 10 + 1  # five more comparisons, and the probe
    assert found["position"]["comparisons"] == 15
    assert found["not_asked"] > 0


def test_a_tie_band_makes_ties_of_near_preferences(desk: Path, world: dict[str, list[dict[str, Any]]]) -> None:
    """sigmoid(1) = 0.731 lies within 0.25 of one half, sigmoid(2) = 0.881 does not: differences of 1 become ties."""
    with serving(otherwise=judging(fair)) as server:
        plain, banded = (report(ask(server, "--tie-band", band, "--json")) for band in ("0", "0.25"))
    decided = [cell["judge"]["n"] for cell in plain["cells"] if not cell["ties"]]
    assert all(
        cell["judge"]["n"] < n
        for cell, n in zip([cell for cell in banded["cells"] if not cell["ties"]], decided, strict=True)
    )
    assert any("within 0.25 of 1.5" in note for note in banded["notes"])


def test_too_many_failed_verdicts_are_withheld(desk: Path) -> None:
    async def silent(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(token_completion({"x": -0.1}, text="x"))

    good = judging(fair)
    with serving(*[good] * 21, otherwise=silent) as server:
        seen = ask(server, "--limit", "20")
    assert seen.status == 5
    assert "WITHHELD" in seen.err
    assert "the same command asks for them again" in seen.err
    assert "withheld, so not a verdict" in seen.out


def test_any_judge_is_measured_through_the_protocol(desk: Path) -> None:
    """The rubric in this process, and its verdicts replayed."""
    found = report(ask("rubric", "--out", "rubric.jsonl", "--json"))
    assert found["position"]["consistent"]["mean"] == 1.0
    Path("again.yaml").write_text("name: again\nkind: replay\npath: rubric.jsonl\n")
    replayed = report(ask("again.yaml", "--json"))
    assert (replayed["cells"], replayed["position"]) == (found["cells"], found["position"])


def test_what_is_wrong_is_said_before_anything_is_asked(desk: Path) -> None:
    with serving(otherwise=judging(fair)) as server:
        ask(server, "--dry-run")
        Path("others.jsonl").write_text(
            json.dumps({"question_id": "1", "model_id": "eel", "choices": [{"turns": ["x"]}]}) + "\n"
        )
        for arguments, expected in (
            (
                ("--ask", "mine.yaml", "--answers", "others.jsonl", "--suite", "tiny-mtbench"),
                "they compared ant-7b, bee-7b, cat-7b, dog-7b; there are answers of eel",
            ),
            (("--ask", "mine.yaml", "--suite", "tiny-mtbench"), "Name the compared models' answers with --answers"),
            (("--ask", "mine.yaml", "--answers", "answers.jsonl"), "official file missing"),
            (("--ask", "mine.yaml", "--judge-votes", "votes.jsonl"), "name either --ask JUDGE"),
            ((), "name either --ask JUDGE"),
        ):
            seen = seft_bench("judges", "agreement", "--votes", "votes.jsonl", *arguments)
            assert (seen.status, expected in seen.err) == (2, True), seen.err
        assert not server.bodies


def test_grades_are_asked_anew_and_their_spread_is_measured(desk: Path) -> None:
    """Each prompt gets a 4; the second time those with an odd number of characters get a 6.

    The store serves no repeat.
    """
    seen: dict[str, int] = {}

    async def grading(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body["messages"][-1]["content"]
        seen[prompt] = seen.get(prompt, 0) + 1
        return web.json_response(completion(f"Rating: [[{4 + 2 * (seen[prompt] == 2 and len(prompt) % 2)}]]"))

    with serving(otherwise=grading) as server:
        ask(server, "--dry-run")
        options = (
            "--ask",
            "mine.yaml",
            "--answers",
            "answers.jsonl",
            "--suite",
            "tiny-mtbench",
            "--prompts",
            "30",
            "--rows",
            "100",
            "--json",
        )
        shown = seft_bench("judges", "consistency", *options)
        assert len(server.bodies) == 60 + 1  # and the probe
        assert seft_bench("judges", "consistency", *options).out == shown.out
        assert len(server.bodies) == 60 + 1
    changed = sum(len(prompt) % 2 for prompt, times in seen.items() if times == 2) / 30
    (found,) = json.loads(shown.out).values()
    assert (found["prompts"], found["equal"]["mean"]) == (30, pytest.approx(1 - changed))
    assert found["sd"]["mean"] == pytest.approx(math.sqrt(2 * changed))
    assert found["noise_of_mean"]["mean"] == pytest.approx(math.sqrt(2 * changed) / 10)


def test_the_rubric_never_changes_its_grade(desk: Path) -> None:
    options = ("--ask", "rubric", "--answers", "answers.jsonl", "--suite", "tiny-mtbench", "--prompts", "20", "--json")
    (found,) = json.loads(seft_bench("judges", "consistency", *options).out).values()
    assert (found["prompts"], found["equal"]["mean"], found["sd"]["mean"]) == (20, 1.0, 0.0)
    assert found["equal"]["low"] < 1


def test_no_prompt_judged_twice_is_said(desk: Path) -> None:
    with serving(otherwise=judging(fair)) as server:
        ask(server, "--limit", "5", "--out", "once.jsonl")
    seen = seft_bench("judges", "consistency", "--judgments", "once.jsonl")
    assert (seen.status, "no prompt was judged twice among 10 judgments" in seen.err) == (2, True)
