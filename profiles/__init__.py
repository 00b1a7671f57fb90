"""What is known: GPUs, hosts, LLMs, grids, measured profiles, and what follows from them."""
