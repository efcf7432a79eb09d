"""`seft-bench bench`: a matrix of cells, trained and answered by workers, judged here. Open `run` first.

matrix ──resolved──▶ bench (its cells, suites, judges and folders, each looked up once)
──▶ plan (what is there, what it would cost, `probe`: how long)
──▶ executors (a worker trains and answers a cell) ──▶ driver (judges and scores it)
──▶ results ──▶ tables, findings, pictures (`publish`)

Nothing is imported here: the command line loads `run`, and nothing else before it is needed.
"""
