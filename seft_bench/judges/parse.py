"""Verdicts read out of judges' replies. Pure: text or log-probabilities in, a number or None out.

None means that the judge could not say; it is never turned into a low grade. `parse_rating` and `parse_verdict` are the
official tools' rules by default, so that their recorded judgments re-parse to the recorded figure; what those rules get
wrong is named below. Every judge's replies are read by `read_grade`, `read_verdict` and `read_token`: nothing inside
the judge's reasoning is a verdict (`verdict_in`), and neither is a grade beyond the scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

from seft_bench import reasoning
from seft_bench.records import FASTCHAT_SCORE, is_grade

VerdictT = TypeVar("VerdictT")
Verdict = Literal["A", "B", "tie"]

# FastChat 0.2.36, fastchat/llm_judge/common.py: one_score_pattern and its backup.
_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_RATING_FALLBACK = re.compile(r"\[(\d+\.?\d*)\]")

LEAST_CHOICE_MASS = 0.98
"""Of the two permitted tokens; rounding takes a little of 1."""

_TOKEN = re.compile(r"(?P<quote>[\"'`]|\*\*|\*|)(?P<token>[mM])(\.(?P=quote)|(?P=quote)\.?)")


def verdict_in(text: str, read: Callable[[str], VerdictT | None]) -> VerdictT | None:
    """Read a verdict out of what a judge said after its reasoning, which is none.

    Where a reply quotes the marks of reasoning, so that it can be cut in several ways (`reasoning.readings`), a verdict
    counts only if every way gives the same one: an answer that holds such a mark cannot choose what is read.

    Args:
        read: finds the verdict in a text without reasoning; None where there is none.
    """
    for texts in reasoning.readings(text):
        found = [verdict for one in texts if (verdict := read(one)) is not None]
        if found:
            return found[0] if all(verdict == found[0] for verdict in found) else None
    return None


def without_reasoning(text: str) -> str:
    """Return what a reply says after its reasoning, by its likeliest reading; "" where the reasoning never ends.

    >>> without_reasoning("<think>[[3]] or [[4]]?</think> Rating: [[4]]"), without_reasoning("<think>[[3]], as")
    ('Rating: [[4]]', '')
    """
    return next((found for group in reasoning.readings(text) for found in group if found.strip()), "")


def read_grade(text: str, strict: bool = False) -> float | None:
    """Return the grade in a judge's reply: by `parse_rating`, after the reasoning, and only in 1-10.

    >>> read_grade("[THINK][[3]] perhaps.[/THINK]Good. Rating: [[8]]"), read_grade("About 85 of 100. Rating: [[85]]")
    (8.0, None)
    """
    return verdict_in(text, lambda said: _on_the_scale(parse_rating(said, strict)))


def beside_fastchat(text: str, grade: float | None) -> dict[str, float]:
    """Return {"fastchat_score": x} where FastChat itself would read another grade than we do, or one where we do not.

    It reads the reasoning too, and takes any number for a grade.
    """
    official = parse_rating(text)
    return {} if official is None or official == grade else {FASTCHAT_SCORE: official}


def read_verdict(text: str, candidate_first: bool, strict: bool = False) -> float | None:
    """Return the preference that a pairwise judge's reply states, by `parse_verdict` after the reasoning."""

    def read(said: str) -> float | None:
        verdict = parse_verdict(said, strict)
        return None if verdict is None else preference_from_verdict(verdict, candidate_first)

    return verdict_in(text, read)


def read_token(text: str, candidate_first: bool) -> float | None:
    """Return the preference that a judge states by one token, by `preference_from_token` after the reasoning."""
    return verdict_in(text, lambda said: preference_from_token(said, candidate_first))


def _on_the_scale(value: float | None) -> float | None:
    return value if value is not None and is_grade(value) else None


def parse_rating(text: str, strict: bool = False) -> float | None:
    """Return the grade in a judge's reply.

    Official rule (FastChat): the first `[[x]]`, else the first `[x]`. So `[[8/10]]`, `[[ 8 ]]` and `Rating: 8` are
    unparsed, `x[0] ... 9/10` is 0 and `[[11]]` is 11, all kept for parity. (`[[08]]` crashes FastChat; here it is 8.)

    Args:
        strict: the LAST `[[x]]`, and only if it lies in 1-10: a rating that is quoted from the judged answer, or an
            index in code, does not win.

    >>> parse_rating("Rating: [[7]], unlike [[2]]"), parse_rating("Rating: [[7]], no: [[2]]", strict=True)
    (7.0, 2.0)
    """
    if strict:
        found = _RATING.findall(text)
        return _on_the_scale(_finite(found[-1])) if found else None
    match = _RATING.search(text) or _RATING_FALLBACK.search(text)
    return _finite(match.group(1)) if match else None


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None  # hundreds of digits overflow, and infinity is no grade


def parse_verdict(text: str, strict: bool = False) -> Verdict | None:
    """Return the verdict of a pairwise judge: `[[A]]`, `[[B]]` or `[[C]]` (a tie), in FastChat's order of looking.

    Args:
        strict: the LAST of the three in the text.

    >>> parse_verdict("Not [[A]]: [[B]]"), parse_verdict("Not [[A]]: [[B]]", strict=True)
    ('A', 'B')
    """
    verdicts: dict[str, Verdict] = {"[[A]]": "A", "[[B]]": "B", "[[C]]": "tie"}
    if strict:
        last = max(verdicts, key=text.rfind)
        return verdicts[last] if last in text else None
    return next((verdict for marker, verdict in verdicts.items() if marker in text), None)


def preference_from_verdict(verdict: Verdict, candidate_first: bool) -> float:
    """Turn a pairwise verdict into a preference in [1, 2]; the candidate is A where it is shown first."""
    if verdict == "tie":
        return 1.5
    return 2.0 if (verdict == "A") == candidate_first else 1.0


def preference_from_logprobs(top_logprobs: Mapping[str, float], candidate_first: bool) -> float | None:
    """Return AlpacaEval 2.0's preference from the judge's first token (alpaca_eval 0.6.6, `logprob_parser`).

    The answer shown first is "m", the other "M"; p = P(m) / (P(m) + P(M)). A token that is not among the returned ones
    has probability 0; where both are missing, the judge could not say.

    Args:
        top_logprobs: token -> natural logarithm of its probability.
        candidate_first: the evaluated model's answer is shown as "m".

    Returns:
        In [1, 2]; 2 means that the evaluated model wins. None where neither token was returned.
    """
    first, second = top_logprobs.get("m", -math.inf), top_logprobs.get("M", -math.inf)
    best = max(first, second)
    if not math.isfinite(best):
        return None
    first_weight, second_weight = math.exp(first - best), math.exp(second - best)
    share_first = first_weight / (first_weight + second_weight)
    return 1.0 + share_first if candidate_first else 2.0 - share_first


def preference_from_choice(top_logprobs: Mapping[str, float], candidate_first: bool) -> float | None:
    """Return the preference of a judge that may only write "m" or "M", from their log-probabilities.

    None unless the two have nearly all the mass (`choice_mass`): otherwise the server let other tokens through, and the
    two are no complete answer.
    """
    if choice_mass(top_logprobs) < LEAST_CHOICE_MASS:
        return None
    return preference_from_logprobs(top_logprobs, candidate_first)


def choice_mass(top_logprobs: Mapping[str, float]) -> float:
    """Return P(m) + P(M), which is 1 under a constraint that holds."""
    return sum(math.exp(min(0.0, top_logprobs.get(token, -math.inf))) for token in ("m", "M"))


def preference_from_token(text: str, candidate_first: bool) -> float | None:
    """Return the preference of a judge without log-probabilities: its one verdict token, "m" or "M".

    White space, one pair of quotes, backticks or asterisks around it, and a full stop are passed over; anything else
    beside the token (`m/M`, `Model m`, an opening quote that is never closed) is unread.
    """
    found = _TOKEN.fullmatch(text.strip())
    if not found:
        return None
    return 2.0 if (found.group("token") == "m") == candidate_first else 1.0


def preference_from_samples(texts: Sequence[str | None], candidate_first: bool) -> tuple[float | None, dict[str, int]]:
    """Return the preference of several samples: 1 + the candidate's share of wins among those that can be read.

    Args:
        texts: what the judge wrote each time; None where there is no reply.

    Returns:
        The preference, None where fewer than half of the samples (or none) can be read; and the counts
        {"samples": all, "read": readable ones, "wins": of the candidate}.
    """
    values = [None if text is None else read_token(text, candidate_first) for text in texts]
    read = [value for value in values if value is not None]
    counts = {"samples": len(texts), "read": len(read), "wins": sum(value == 2.0 for value in read)}
    if not read or 2 * len(read) < len(texts):
        return None, counts
    return 1.0 + counts["wins"] / len(read), counts
