"""Training: pure losses, log-probabilities, data, and one visible loop for every method."""
