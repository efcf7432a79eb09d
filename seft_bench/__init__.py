"""seft-bench: train alignment methods, judge every checkpoint, publish figures one can trust."""

__version__ = "0.1.0"
