"""Reading verdicts out of judges' replies. Pure: text or log-probabilities in, a number or None out.

None means that the judge could not say; it is never turned into a low grade. By default the rules are the official
tools', so that their recorded judgments re-parse to the recorded figure; what those rules get wrong is named below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

Verdict = Literal["A", "B", "tie"]

# FastChat 0.2.36, fastchat/llm_judge/common.py: one_score_pattern and its backup.
_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_RATING_FALLBACK = re.compile(r"\[(\d+\.?\d*)\]")

LOWEST_GRADE, HIGHEST_GRADE = 1.0, 10.0


def parse_rating(text: str, strict: bool = False) -> float | None:
    """The grade in a judge's reply.

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
        grade = _finite(found[-1]) if found else None
        return grade if grade is not None and LOWEST_GRADE <= grade <= HIGHEST_GRADE else None
    match = _RATING.search(text) or _RATING_FALLBACK.search(text)
    return _finite(match.group(1)) if match else None


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None  # hundreds of digits overflow, and infinity is no grade


def parse_verdict(text: str) -> Verdict | None:
    """The verdict of a pairwise judge: `[[A]]`, `[[B]]` or `[[C]]` (a tie), in FastChat's order of looking."""
    verdicts: dict[str, Verdict] = {"[[A]]": "A", "[[B]]": "B", "[[C]]": "tie"}
    return next((verdict for marker, verdict in verdicts.items() if marker in text), None)


def preference_from_verdict(verdict: Verdict, candidate_first: bool) -> float:
    """A pairwise verdict as a preference in [1, 2]; the candidate is A where it is shown first."""
    if verdict == "tie":
        return 1.5
    return 2.0 if (verdict == "A") == candidate_first else 1.0


def preference_from_logprobs(top_logprobs: Mapping[str, float], candidate_first: bool) -> float | None:
    """AlpacaEval 2.0's preference from the judge's first token (alpaca_eval 0.6.6, `logprob_parser`).

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


def preference_from_token(text: str, candidate_first: bool) -> float | None:
    """The preference of a judge that returns no log-probabilities: its one verdict token, "m" or "M"."""
    token = text.strip()
    if token not in ("m", "M"):
        return None
    return 2.0 if (token == "m") == candidate_first else 1.0
