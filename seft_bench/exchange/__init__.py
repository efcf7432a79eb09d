"""Export to the official tools' files and import from them: `seft-bench export|import --format
alpaca_eval|fastchat`.
"""
