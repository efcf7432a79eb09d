"""One evaluation: everything checked first (`plan`), its cost said and agreed to, then answered, judged and scored.

`engines` says what answers, `score_files` makes figures of ready files.
"""
