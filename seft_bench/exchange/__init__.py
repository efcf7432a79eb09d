"""Export to the official tools' files and import from them (`seft-bench export`, `seft-bench import`).

`--format` is alpaca_eval, fastchat or fastchat-pairs.
"""
