"""The serving form: seconds and watts of continuous batching from a configuration's work and effective efficiencies.

    step  = host + layer L + expert layer L_e + sequence B + linear + head + experts + attention + communication
    mean  = step + met (B / output) (prefill(prompt) + per prompt)
    TPOT  = the same with the prompts of the B - 1 others, since a request's own ends before its first token
    power = limit x softcap(base + busy (1 - host share) + flop u^exponent + joules a byte x bytes/s / limit)

linear, experts, attention = (compute^k + memory^k)^(1/k), per GPU. The bytes of the experts follow the expected number
of distinct ones, E (1 - (1 - k/E)^B). Attention reads KV over min(tp, KV heads) shards, the whole latent on each GPU
where it is latent. In steady state a step carries B / output prompts: the second line charges them. The efficiencies
are fitted to serving measurements (profiles.predict.fit), so they are effective and not physical.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profiles.predict.columns import Columns, Floats

# parameter -> where its fit starts and how far (in e-folds, one sigma) rows may draw it from there
PARAMETERS: dict[str, tuple[float, float]] = {
    "compute": (0.7, 0.3), "expert_compute": (0.5, 0.4), "bandwidth": (0.85, 0.15), "expert_bandwidth": (0.6, 0.3),
    "kv_bandwidth": (0.69, 0.25), "attention": (0.4, 0.5), "link": (0.4, 0.5), "host_s": (5e-4, 0.7),
    "layer_s": (4e-5, 0.5), "expert_layer_s": (3e-5, 0.7), "sequence_s": (3e-5, 0.7), "allreduce_s": (7e-6, 0.7),
    "exchange_s": (7e-6, 0.7),
    "imbalance": (1.1, 0.3), "sharp": (3.0, 0.3), "met": (0.7, 0.4), "bunch": (0.2, 0.7), "prompt_s": (4e-3, 0.7),
    "first_s": (2e-2, 0.8), "wait": (0.05, 0.8),
    "apart_wait": (0.05, 1.0), "transfer_s": (5e-2, 1.0), "queue": (0.3, 1.0), "apart_met": (0.05, 1.0),
    "power_base": (0.2, 0.3), "power_busy": (0.16, 0.5), "power_flop": (1.5, 0.5), "power_exponent": (0.8, 0.2),
    "joule_per_byte": (1e-10, 0.3), "joule_per_kv_byte": (1e-10, 0.3), "power_cap": (0.96, 0.03),
}  # fmt: skip
_SOFT = 8.0
MEANS = ("mlenergy", "bench")  # sources whose seconds a token are batch / throughput
RAN = ("mlenergy",)  # sources whose batch is the mean that ran, and not what was asked for
_LONGEST_QUEUE = 4.0  # batches: beyond that the figures of memory are more likely wrong than the queue real


@dataclass(frozen=True, slots=True)
class Times:
    """Per configuration: seconds of a decode step, of one prompt's prefill, of an output token, to the first token.

    `mean_s` is a mean step with all its prompts: what a token costs. TPOT leaves a request's own prompt out, but for
    rows of sources that state the mean (`MEANS`).
    """

    batch: Floats
    step_s: Floats
    prefill_s: Floats
    mean_s: Floats
    tpot_s: Floats
    ttft_s: Floats


def times(c: Columns, p: dict[str, Floats]) -> Times:
    """Seconds of every configuration; `p` holds each parameter as a number or a column."""
    w = c.work
    held = np.maximum(1.0, w.capacity_tokens / (c.prompt + 0.5 * c.output))
    batch = np.where(c.of_sources(RAN), c.batch, np.minimum(c.batch, held))
    step = _step_s(c, p, batch, batch * context(c, batch))
    prefill = prefill_s(c, p)
    met = np.where(c.apart, p["met"] * p["apart_met"], p["met"])

    def beside(share: Floats) -> Floats:  # where prompts rule they come in bunches
        prompts = _beside_s(c, p, batch, share) + share * p["prompt_s"]
        return step + met * prompts * np.power(1.0 + prompts / step, -p["bunch"])

    mean = beside(batch / c.output)
    tpot = np.where(c.of_sources(MEANS), mean, beside(np.maximum(batch - 1.0, 0.0) / c.output))
    waiting = np.where(c.apart, p["apart_wait"], p["wait"])
    ttft = p["first_s"] + prefill * (1.0 + waiting * batch) + 0.5 * step + np.where(c.apart, p["transfer_s"], 0.0)
    # requests that memory does not admit wait
    over = np.minimum(np.maximum(0.0, c.batch / batch - 1.0), _LONGEST_QUEUE)
    ttft = ttft + p["queue"] * over * c.output * tpot
    return Times(batch, step, prefill, mean, tpot, ttft)


def context(c: Columns, batch: Floats) -> Floats:
    """Mean tokens in memory of each of `batch` requests: half of its output, and no more than memory holds."""
    return np.minimum(c.prompt + 0.5 * c.output, np.maximum(1.0, c.work.capacity_tokens / batch))


def _host_s(c: Columns, p: dict[str, Floats], batch: Floats) -> Floats:
    """Seconds of a step that the host takes."""
    w = c.work
    return p["host_s"] + p["layer_s"] * w.layers + p["expert_layer_s"] * w.expert_layers + p["sequence_s"] * batch


def _step_s(c: Columns, p: dict[str, Floats], batch: Floats, kv_tokens: Floats) -> Floats:
    moved = _linear_s(c, p, batch) + _experts_s(c, p, batch) + _head_s(c, p, batch)
    return _host_s(c, p, batch) + moved + _attention_s(c, p, kv_tokens, batch) + _communication_s(c, p, batch)


def _beside_s(c: Columns, p: dict[str, Floats], batch: Floats, share: Floats) -> Floats:
    """Seconds that `share` prompts a step add on average to its `batch` decodes, which read the weights anyway."""
    each, often = np.maximum(1.0, share), np.minimum(1.0, share)
    new = each * c.prompt
    more = _linear_s(c, p, batch + new) - _linear_s(c, p, batch)
    more = more + _experts_s(c, p, batch + new) - _experts_s(c, p, batch)
    return often * (more + each * _pairs_s(c, p) + _wire_s(c, p, new))


def _pairs_s(c: Columns, p: dict[str, Floats]) -> Floats:
    """Seconds of a prompt's attention to itself."""
    w, n = c.work, c.prompt
    pairs = 0.5 * n * n * w.prompt_pair_flops + n * np.minimum(0.5 * n, w.window) * w.window_pairs
    return pairs / (w.base_peak * w.world * p["attention"])


def prefill_s(c: Columns, p: dict[str, Floats]) -> Floats:
    """Seconds of prefilling one prompt alone on all GPUs of the replica, without the host's part."""
    n = c.prompt
    return _linear_s(c, p, n) + _experts_s(c, p, n) + _pairs_s(c, p) + _wire_s(c, p, n)


def _linear_s(c: Columns, p: dict[str, Floats], tokens: Floats) -> Floats:
    w = c.work
    compute = 2.0 * w.linear_params * tokens / (w.world * w.peak * p["compute"])
    return _soft_max(compute, w.linear_bytes / (w.tp * w.bandwidth * p["bandwidth"]), p["sharp"])


def _head_s(c: Columns, p: dict[str, Floats], tokens: Floats) -> Floats:
    w = c.work
    compute = 2.0 * w.head_params * tokens / (w.world * w.base_peak * p["compute"])
    return _soft_max(compute, 2.0 * w.head_params / (w.tp * w.bandwidth * p["bandwidth"]), p["sharp"])


def _experts_s(c: Columns, p: dict[str, Floats], tokens: Floats) -> Floats:
    w = c.work
    uneven = np.where(w.ep > 1, p["imbalance"], 1.0)
    compute = 2.0 * w.expert_params * (w.chosen / w.experts) * tokens / (w.world * w.expert_peak * p["expert_compute"])
    met = _distinct(c, tokens)
    move = w.expert_bytes * met / (w.world * w.bandwidth * p["expert_bandwidth"])
    return _soft_max(compute, move, p["sharp"]) * uneven


def _distinct(c: Columns, tokens: Floats) -> Floats:
    """Expected share of the experts that at least one of `tokens` tokens is sent to."""
    w = c.work
    return -np.expm1(tokens * np.log1p(-np.minimum(w.chosen / w.experts, 1.0 - 1e-12)))


def _attention_s(c: Columns, p: dict[str, Floats], kv_tokens: Floats, batch: Floats) -> Floats:
    w = c.work
    near = np.minimum(kv_tokens, batch * w.window)
    move = (kv_tokens * w.kv_bytes + near * w.window_kv_bytes) / (w.dp * w.kv_shards * w.bandwidth * p["kv_bandwidth"])
    compute = (kv_tokens * w.pair_flops + near * w.window_pairs) / (w.world * w.base_peak * p["attention"])
    return _soft_max(compute, move, p["sharp"])


def _communication_s(c: Columns, p: dict[str, Floats], tokens: Floats) -> Floats:
    w = c.work
    turns = np.where(w.tp > 1, 1.0 + 0.25 * np.log2(np.maximum(w.tp, 2.0) / 2.0), 0.0)
    spread = np.where(w.world > w.tp, 1.0, 0.0)
    fixed = 2.0 * w.layers * p["allreduce_s"] * turns + 2.0 * w.expert_layers * p["exchange_s"] * spread
    return fixed + _wire_s(c, p, tokens)


def _wire_s(c: Columns, p: dict[str, Floats], tokens: Floats) -> Floats:
    w = c.work
    parted = (w.world - 1.0) / w.world
    rate = np.where(w.outside > 0, np.minimum(w.link, 50e9), w.link) * p["link"]
    return 2.0 * w.layers * tokens / w.dp * w.hidden * 2.0 * 2.0 * parted / rate


def flops(c: Columns, tokens: Floats, pairs: Floats) -> Floats:
    """Operations of a step of `tokens` tokens that attend `pairs` (query, key) pairs, over all GPUs."""
    w = c.work
    weights = w.linear_params + w.head_params + w.expert_params * w.chosen / w.experts
    return 2.0 * weights * tokens + pairs * w.pair_flops


def power_w(c: Columns, p: dict[str, Floats], t: Times, step_s: Floats | None = None) -> Floats:
    """Mean watts over the GPUs of a replica at full load, each mean step taking `step_s` (default: as predicted)."""
    time_s = t.mean_s if step_s is None else step_s
    prompts = np.where(c.apart, 0.0, t.batch / c.output)
    tokens = context(c, t.batch)
    done = flops(c, t.batch, t.batch * tokens) + prompts * flops(c, c.prompt, 0.5 * c.prompt * c.prompt)
    moved = weights_bytes(c, t.batch) + prompts * weights_bytes(c, c.prompt)
    return watts(c, p, time_s, _host_s(c, p, t.batch), done, moved, kv_bytes(c, t.batch, tokens))


def prefill_share(c: Columns, p: dict[str, Floats], t: Times) -> Floats:
    """The part of a request's joules that its prompt takes, by the watts and the seconds of each phase."""
    decode_s = t.step_s * c.output / t.batch
    prompt_s = np.where(c.apart, t.prefill_s, np.maximum(t.mean_s - t.step_s, 0.0) * c.output / t.batch)
    tokens = context(c, t.batch)
    host = _host_s(c, p, t.batch)
    moved, kv = weights_bytes(c, t.batch), kv_bytes(c, t.batch, tokens)
    decode_w = watts(c, p, t.step_s, host, flops(c, t.batch, t.batch * tokens), moved, kv)
    done = flops(c, c.prompt, 0.5 * c.prompt * c.prompt)
    prompt_w = watts(c, p, t.prefill_s, 0.0 * host, done, weights_bytes(c, c.prompt), 0.0 * kv)
    return prompt_w * prompt_s / (prompt_w * prompt_s + decode_w * decode_s)


def weights_bytes(c: Columns, tokens: Floats) -> Floats:
    """Bytes of weights that a step of `tokens` tokens reads over all GPUs."""
    w = c.work
    return (w.linear_bytes + 2.0 * w.head_params) * w.dp + w.expert_bytes * _distinct(c, tokens)


def kv_bytes(c: Columns, batch: Floats, context: Floats) -> Floats:
    """Bytes of KV that a decode step reads over all GPUs."""
    w = c.work
    return batch * (context * w.kv_bytes + np.minimum(context, w.window) * w.window_kv_bytes) * w.tp / w.kv_shards


def watts(
    c: Columns, p: dict[str, Floats], time_s: Floats, host_s: Floats, done: Floats, moved: Floats, kv: Floats
) -> Floats:
    """Watts over all GPUs while a step of such work takes `time_s`, `host_s` of it not on the GPU."""
    w = c.work
    peak = np.where(w.expert_params > w.linear_params, w.expert_peak, w.peak)
    use = np.minimum(1.0, done / time_s / (w.world * peak))
    busy = np.clip(1.0 - host_s / time_s, 0.0, 1.0)
    share = p["power_base"] + p["power_busy"] * busy + p["power_flop"] * np.power(use, p["power_exponent"])
    joules = p["joule_per_byte"] * moved + p["joule_per_kv_byte"] * kv
    share = share + joules / time_s / w.world / w.tdp_w
    capped = share / np.power(1.0 + np.power(share / p["power_cap"], _SOFT), 1.0 / _SOFT)
    return w.world * w.tdp_w * capped


def _soft_max(compute: Floats, move: Floats, sharp: Floats) -> Floats:
    most, least = np.maximum(np.maximum(compute, move), 1e-30), np.minimum(compute, move)
    return most * np.power(1.0 + np.power(least / most, sharp), 1.0 / sharp)
