"""Verdicts read out of judges' replies. Pure: text or log-probabilities in, a number or None out.

None means that the judge could not say; it is never turned into a low grade. By default the rules are the official
tools', so that their recorded judgments re-parse to the recorded figure; what those rules get wrong is named below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

Verdict = Literal["A", "B", "tie"]

# FastChat 0.2.36, fastchat/llm_judge/common.py: one_score_pattern and its backup.
_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_RATING_FALLBACK = re.compile(r"\[(\d+\.?\d*)\]")

LOWEST_GRADE, HIGHEST_GRADE = 1.0, 10.0

LEAST_CHOICE_MASS = 0.98
"""Of the two permitted tokens; rounding takes a little of 1."""

_TOKEN = re.compile(r"(?P<quote>[\"'`]|\*\*|\*|)(?P<token>[mM])(\.(?P=quote)|(?P=quote)\.?)")
_THINK, _END_OF_THINK = "<think>", "</think>"


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
        grade = _finite(found[-1]) if found else None
        return grade if grade is not None and LOWEST_GRADE <= grade <= HIGHEST_GRADE else None
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
    values = [None if text is None else preference_from_token(text, candidate_first) for text in texts]
    read = [value for value in values if value is not None]
    counts = {"samples": len(texts), "read": len(read), "wins": sum(value == 2.0 for value in read)}
    if not read or 2 * len(read) < len(texts):
        return None, counts
    return 1.0 + counts["wins"] / len(read), counts


def without_reasoning(text: str) -> str:
    """Return a reply without the reasoning that comes before it between `<think>` and `</think>`.

    What stands inside is no verdict. Cut at the last end mark, as the reasoning may quote one; where the mark that
    opens is missing, the server's chat template wrote it into the prompt. Reasoning that never ends leaves nothing.

    >>> without_reasoning("<think>[[3]] or [[4]]?</think> Rating: [[4]]"), without_reasoning("<think>[[3]], as")
    (' Rating: [[4]]', '')
    """
    opened, end = text.find(_THINK), text.rfind(_END_OF_THINK)
    starts_with_reasoning = text.lstrip().startswith(_THINK)
    if end >= 0 and (starts_with_reasoning or opened < 0):
        return text[end + len(_END_OF_THINK) :]
    return "" if starts_with_reasoning else text
