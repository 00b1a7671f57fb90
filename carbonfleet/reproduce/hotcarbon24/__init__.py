"""HotCarbon'24, "Towards Sustainable Large Language Model Serving" (Nguyen, Zhou, Ding, Liu; arXiv 2501.01990).

LLaMA 1B, 3B and 7B in static batches of 1 to 64 prompts on an RTX 6000 Ada and a T4: latency, energy and carbon by
phase and region. No raw measurement of these cards is public: steps are predicted (profiles.predict.eager, tier T2).

    paper       what it states: settings and claims
    trial       static batches on a predicted profile
    fit         the parameters no data sheet has, from four claims and two powers
    books       grams of a cell under a boundary
    claims      our figure for each of its claims
    verdicts    how near it is, and the score
    takeaways   its findings as checks
    setting     its GPUs, models, zones and life, or others
    study       all of it, as one document
    words, figures, page    that document told, drawn and written
"""
