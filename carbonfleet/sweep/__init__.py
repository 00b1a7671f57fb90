"""Many scenarios or studies from one file: a design, workers that make its points, and a folder that keeps them.

`design.read` reads the file, `run.run` makes what is left of it, `results.Results` is what came of it.
"""
