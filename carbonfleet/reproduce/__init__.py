"""Papers reproduced: one package each, that sets up the paper's experiment, computes it and judges it."""
