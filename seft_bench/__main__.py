"""`python -m seft_bench` is the command `seft-bench`, also under `torchrun -m seft_bench`."""

from __future__ import annotations

from seft_bench.cli.main import main

if __name__ == "__main__":
    main()
