"""The embedded default: a small synthetic world of instructions, and a deterministic rubric that grades answers.

`tasks` says what is true in the world, `world` writes data sets about it, `rubric` grades answers from their
question alone. World and rubric carry one version; both were frozen before any method was tuned on them.
"""

WORLD_VERSION = "1"
