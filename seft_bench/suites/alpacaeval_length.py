"""The length-controlled win rate (LC) from judged questions: difficulties, C, interval, and the notes about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seft_bench.config import SuiteConfig
from seft_bench.data import official
from seft_bench.records import Answer, Question, Result

if TYPE_CHECKING:
    from seft_bench.stats.lc_regression import Comparisons, GamedRows
    from seft_bench.stats.length_control import LengthControlled

FIGURES = ("lc_win_rate", "lc_se", "lc_low", "lc_high", "lc_standard_error_official", "lc_c")
TOO_FEW = (
    "no length-controlled win rate: it needs the texts of all judged answers, and at least two (ten, of every fifth, "
    "to choose C)."
)
_FEWEST_TO_CHOOSE_C = 10
_ONE_SIDED = 0.9


@dataclass(frozen=True, slots=True)
class Judged:
    """The data that LC is computed from.

    Attributes:
        questions: all that were to be judged, in the order of the question set, from its first one on.
        scored: those of them with a preference.
        difficulty: by question id.
        gamed: whether AlpacaEval's gamed rows belong to these questions.
    """

    questions: Sequence[Question]
    scored: Sequence[Question]
    answers: Mapping[str, Answer]
    preferences: Mapping[str, float]
    difficulty: Mapping[str, float]
    gamed: bool

    @property
    def positions(self) -> list[int]:
        """Positions of the scored questions in the question set."""
        scored = {question.id for question in self.scored}
        return [position for position, question in enumerate(self.questions) if question.id in scored]


Covariates = dict[str, dict[str, float]]


def figures(config: SuiteConfig, judged: Judged) -> tuple[dict[str, Any], list[str], Covariates]:
    """Return LC and the figures beside it, the notes on how it was made, and `Result.covariates`.

    There are no figures if it cannot be computed.
    """
    if len(judged.scored) < 2 or any(question.id not in judged.answers for question in judged.scored):
        return {}, [TOO_FEW], {}
    rows = comparisons(judged)
    found = _fitted(config, judged, rows)
    if found is None:
        return {}, [TOO_FEW], {}
    values = (found.win_rate, found.standard_error, found.low, found.high, found.standard_error_official, found.c)
    metrics = dict(zip(FIGURES, values, strict=True))
    return metrics, _notes(config, judged, rows, found), _covariates(judged, rows, found)


def _covariates(judged: Judged, rows: Comparisons, found: LengthControlled) -> Covariates:
    """Return each question's values that another fit, or a paired comparison, needs."""
    ids = [question.id for question in judged.scored]
    columns = {
        "length_difference": rows.length_difference.tolist(),
        "lc_influence": [round(value, 7) for value in found.influence.tolist()],
    }
    return {name: dict(zip(ids, column, strict=True)) for name, column in columns.items()}


def comparisons(judged: Judged) -> Comparisons:
    """Return the rows of the regression, one a scored question."""
    import numpy as np

    from seft_bench.stats.alpacaeval import win_probabilities
    from seft_bench.stats.lc_regression import NO_GAMED_ROWS, Comparisons

    scored, answers = judged.scored, judged.answers
    shorter = [len(question.reference[0]) - len(answers[question.id].turns[0]) for question in scored]
    return Comparisons(
        wins=win_probabilities([judged.preferences[question.id] for question in scored]),
        length_difference=np.array(shorter, dtype=np.float64),
        difficulty=np.array([judged.difficulty[question.id] for question in scored]),
        gamed=_gamed_rows() if judged.gamed else NO_GAMED_ROWS,
    )


def comparisons_of(
    result: Result, questions: Sequence[str], difficulty: Mapping[str, float], gamed: bool
) -> Comparisons:
    """Return the same rows out of a result's figures of every question, for these questions in this order.

    Raises:
        KeyError: the result lacks one of them.
    """
    import numpy as np

    from seft_bench.stats.lc_regression import NO_GAMED_ROWS, Comparisons

    sources = (result.per_question, result.covariates["length_difference"], difficulty)
    columns = [[source[question] for question in questions] for source in sources]
    wins, length_difference, difficulties = (np.array(column, dtype=np.float64) for column in columns)
    return Comparisons(wins, length_difference, difficulties, _gamed_rows() if gamed else NO_GAMED_ROWS)


def _fitted(config: SuiteConfig, judged: Judged, rows: Comparisons) -> LengthControlled | None:
    """Fit LC; None if there are too few rows to choose C."""
    from seft_bench.stats.length_control import is_against_itself, length_controlled, with_bootstrap

    c = config.lc_c
    if c == "cross-validated":
        if is_against_itself(rows):
            c = 1.0  # nothing is fitted
        elif len(judged.scored) < _FEWEST_TO_CHOOSE_C or len({position % 5 for position in judged.positions}) < 5:
            return None
        else:
            c = _chosen_c(judged, rows)
    found = length_controlled(rows, c)
    return with_bootstrap(found, rows) if config.lc_interval == "bootstrap" else found


def _chosen_c(judged: Judged, rows: Comparisons) -> float:
    import numpy as np

    from seft_bench.stats.lc_cross_validation import cross_validated_c

    # df_gamed.csv holds the verbose baseline's rows, then the concise one's, each in the order of the questions.
    gamed = rows.gamed.preference.size
    gamed_positions = np.arange(gamed) % max(1, gamed // 2)
    return cross_validated_c(rows, np.array(judged.positions), gamed_positions).c


def _gamed_rows() -> GamedRows:
    import numpy as np

    from seft_bench.stats.lc_regression import GamedRows

    rows = official.gamed_data()
    return GamedRows(np.tanh(rows.std_length_difference), np.array(rows.difficulty), np.array(rows.preference))


def _notes(config: SuiteConfig, judged: Judged, rows: Comparisons, found: LengthControlled) -> list[str]:
    if found.c is None:
        return ["length control: equal texts, all draws: 50 by definition, nothing is fitted."]
    notes = [_interval_note(config), _c_note(config, judged, found.c)]
    if not judged.gamed:
        return [*notes, _own_note(config), *_one_sided_note(rows)]
    return notes + _position_notes(judged, rows, found)


def _interval_note(config: SuiteConfig) -> str:
    from seft_bench.stats.length_control import BOOTSTRAP_SEED, RESAMPLES

    if config.lc_interval == "bootstrap":
        how = (
            f"percentile interval of {RESAMPLES:,} refits on questions drawn again (seed {BOOTSTRAP_SEED}, the same "
            "C); lc_se: their standard deviation"
        )
    else:
        how = "interval over questions by influence functions (sandwich); lc_se: its standard error"
    return (
        f"lc_low and lc_high: 95 % {how}; lc_standard_error_official: the standard error of fitted predictions, as in "
        "the official table, no interval of LC."
    )


def _c_note(config: SuiteConfig, judged: Judged, c: float) -> str:
    if config.lc_c != "cross-validated":
        official = (
            "; the official tool picks C by cross-validation and then differs by up to 0.15" if judged.gamed else ""
        )
        return f"length control: exact optimum at C = {c:.5g}{official}."
    folds = "5-fold cross-validation over the official grid, folds by position in the question set modulo 5"
    note = f"length control: exact optimum at C = {c:.5g}, chosen by {folds}"
    surrogate = (
        "; of df_gamed.csv only sums are checked, and where its rows are not the published ones the choice may differ"
        if judged.gamed
        else ""
    )
    return f"{note}; the official tool's folds depend on its scikit-learn version{surrogate}."


def _own_note(config: SuiteConfig) -> str:
    if config.source == "files" and config.difficulty != "zero":
        return "length control with difficulties fitted to these questions and without gamed rows (own questions)."
    return (
        "length control without difficulties and gamed rows (own questions): difficulty set to 0, features length and "
        "constant."
    )


def _one_sided_note(rows: Comparisons) -> list[str]:
    """Warn if most answers are longer, or shorter: only the model's own rows say what length does here."""
    shorter, longer = float((rows.length_difference > 0).mean()), float((rows.length_difference < 0).mean())
    share, word = max((shorter, "shorter"), (longer, "longer"))
    if share < _ONE_SIDED:
        return []
    return [
        f"{100 * share:.0f} % of the answers are {word} than the baseline's: LC at equal length is an extrapolation "
        "here, and depends on the difficulties more than its interval says."
    ]


def _position_notes(judged: Judged, rows: Comparisons, found: LengthControlled) -> list[str]:
    """If rows are missing, say by how much keying by instruction changes the figure."""
    missing = len(judged.questions) - sum(question.id in judged.answers for question in judged.questions)
    if not missing:
        return []
    by_position = lc_by_position(judged, rows, found)
    return [
        f"{missing} of {len(judged.questions)} rows are missing: with difficulty keyed by instruction LC is "
        f"{found.win_rate:.2f}; the official tool takes it by row position and would give {by_position:.2f} "
        f"({by_position - found.win_rate:+.2f}) at the same C, for the rows in the questions' order."
    ]


def lc_by_position(judged: Judged, rows: Comparisons, found: LengthControlled) -> float:
    """Return LC (percent) as the official tool has it if rows are missing.

    The k-th row that is there gets the k-th difficulty of the list.
    """
    from dataclasses import replace

    import numpy as np

    from seft_bench.stats.lc_regression import sigmoid
    from seft_bench.stats.length_control import fit

    if found.c is None:
        return found.win_rate
    there = [question.id for question in judged.questions if question.id in judged.answers]
    shifted = dict(zip(there, (judged.difficulty[question.id] for question in judged.questions), strict=False))
    weights = fit(replace(rows, difficulty=np.array([shifted[question.id] for question in judged.scored])), found.c)
    return 100.0 * float(sigmoid(np.array([shifted[name] for name in there]) * weights[1] + weights[2]).mean())
