"""The engine: instances that serve batches on a SimPy clock, by leaps or step by step."""
