"""`seft-bench check`: is the candidate worse than the baseline? Open `compare` first.

results of both ──arms──▶ pairs that may be compared ──differences──▶ paired differences
──stats.paired──▶ a verdict (compare)

Of two methods: ──methods──▶ pairs with all their seeds ──differences──▶ differences over questions and seeds
──stats.crossed──▶ the same.
(or, judging on the way: early ──▶ the same, look by look, until the verdict is clear)

Nothing is imported here: the command line loads `command`, and nothing else before it is needed.
"""
