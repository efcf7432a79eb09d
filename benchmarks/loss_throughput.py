"""Training throughput of every loss of pairs on one CPU thread, against DPO in the same run.

    python benchmarks/loss_throughput.py [--loss simpo] [--repeats 3]

The model, rows and measurement of `train_throughput.py` (tiny shape). Each measurement is a process of its own, all
losses in turn; the reference's log-probabilities are part of the time of the losses that need one.

The aim: 0.95 times DPO or more with a reference, 1.2 times without.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_throughput import in_own_process, prepare
from training.loss_table import LOSSES

PEER = "dpo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    of_pairs = [name for name, loss in LOSSES.items() if loss.rows == "pairs"]
    parser.add_argument("--loss", choices=of_pairs, action="append", help="default: all")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many runs counts")
    options = parser.parse_args()
    names = [PEER, *(name for name in options.loss or of_pairs if name != PEER)]
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made), "tiny", options.rows)
        print_table(best_of(names, Path(made), options.repeats))


def best_of(names: list[str], folder: Path, repeats: int) -> dict[str, float]:
    """Loss -> tokens a CPU second of its fastest run."""
    best = dict.fromkeys(names, 0.0)
    for _ in range(repeats):
        for name in names:
            best[name] = max(best[name], in_own_process("ours", name, folder)["tokens_per_cpu_second"])
            print(f"{name}: {best[name]}", file=sys.stderr, flush=True)
    return best


def print_table(best: dict[str, float]) -> None:
    print(f"{'loss':16}{'reference':>10}{'tokens / CPU s':>16}{'times DPO':>11}")
    for name, speed in best.items():
        needs = "yes" if LOSSES[name].needs_reference else "no"
        print(f"{name:16}{needs:>10}{speed:>16.0f}{speed / best[PEER]:>11.2f}")


if __name__ == "__main__":
    main()
