"""Towards Greener LLMs (arXiv 2403.20306) and DynamoLLM (arXiv 2408.00741; both Stojkovic et al.), as experiments.

Llama-2 70B on a server of 8 H100: what tensor parallelism, batch and SM clock do to latency, power and energy, which of
them saves most at a load within its promise, and what a fleet saves that adapts them over a week. The papers' profiles
are not public: steps are predicted (profiles.predict), clocks modelled (profiles.dvfs).

    paper       what they state
    server      one server: its profiles, gears, and the steady state of a load on it
    maps        every figure over lengths, batch, tp and clock
    phases      energy of a prompt and of a token against the clock
    knobs       the knob that saves most at a load, replayed by the simulator
    plan        what a fleet should be in each hour
    week        a fleet that adapts against one that stands, simulated
    doubts      the same on other assumptions
    checks      what physics demands, and what the papers found
    assumptions what was assumed, and why
    study       all of it, as one document
    words, reading, figures, page    that document told, drawn and written
"""
