"""LLMCO2 (arXiv 2410.02950), as an experiment: predictors of a request's energy, and a request's carbon.

The released rows and public measurements are the user's to bring (`--released`, `--rows`); without them the shares of
the paper that need none are computed, and the document says what is missing.

    paper       what the paper and its repository state
    released    predictors on the released rows, by split
    networks    the kernel-graph networks, trained with torch
    measured    the shipped predictor's form on withheld public measurements
    requests    seconds, joules and grams of a request of the paper's lengths
    claims      what the paper states beside ours
    study       all of it, as one document
    story       that document told: texts, tables and charts in order
"""
