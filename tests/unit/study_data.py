"""Synthetic results of a study: rows at chosen levels on data sets of one pool, and what is compared."""

from __future__ import annotations

import numpy as np

from seft_bench.records import Result, RunFacts
from seft_bench.report.annotation import Annotated
from seft_bench.report.pools import Pool
from seft_bench.report.study import Study

TYPES = {f"q{index}": ("note", "kind", "add")[index % 3] for index in range(30)}
ROLES = {"start": "start", "self-label": "control"}
ONE, ALL_THREE = Pool("", 1, "", ("note", "kind")), Pool("", 3, "", ("all",))
OTHERS = ["self-label", "untrained", "dpo"]
STUDY = Study(
    [ONE, ALL_THREE],
    {row: row for row in ("seft", *OTHERS)},
    {"seft": "SEFT", "self-label": "self-label", "untrained": "untrained", "dpo": "DPO"},
    {"seft": OTHERS},
    Annotated({"tiny-mtbench": TYPES}, {"note": ["note"], "kind": ["kind"], "all": ["note", "kind", "add"]}),
    {("seft", "self-label"): "the reviser", ("seft", "untrained"): "training the reviser"},
)


def world(
    levels: dict[str, float], data: tuple[str, ...], content: float = 0.0, prompts: dict[str, int] | None = None
) -> list[Result]:
    """Results of all rows at these levels of grade, with noise of 0.3 grade points, on three seeds and two decodings.

    SEFT's content is so much above the others'.
    """
    results = []
    for place, (row, level) in enumerate(levels.items()):
        for seed in range(3):
            for decoding in ("sampled", "greedy"):
                for name in data:
                    noise = np.random.default_rng([place, seed, decoding == "greedy", len(name)]).normal(0, 0.3, 30)
                    own = content if row == "seft" else 0.0
                    results.append(
                        Result(
                            "tiny-mtbench", f"{name}-{row}-{seed}", {"score": level}, 30, 30, 0, 1.0, False, "rubric",
                            decoding,
                            per_question=dict(zip(TYPES, (level + noise).tolist(), strict=True)),
                            parts={"content": dict(zip(TYPES, (0.5 + own + noise / 20).tolist(), strict=True))},
                            run=RunFacts(
                                row, "", ROLES.get(row, "method"), row, seed, 9, True, data=name,
                                unannotated_prompts=(prompts or {}).get(row, 0),
                            ),
                        )
                    )  # fmt: skip
    return results


AHEAD = {"seft": 8.0, "self-label": 7.0, "untrained": 8.0, "dpo": 5.0}
LEVEL = dict.fromkeys(AHEAD, 7.0)
