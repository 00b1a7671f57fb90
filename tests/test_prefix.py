"""The prefix cache: what is found again, against a pool of single blocks; the engines agree; no block is lost."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.engine.prefix import PrefixKv
from tests.test_engine import assert_same

LIMITS = {"max_num_seqs": 4, "max_num_batched_tokens": 64}


def test_a_prompt_seen_before_is_found_but_for_one_token(replay):
    # 64 tokens in 4 blocks: of an equal prompt 3 blocks are found, as its last token must be computed
    played = replay([(0.0, 64, 2), (9.0, 64, 2)], prefixes=[[1, 2, 3, 4], [1, 2, 3, 4]])
    assert list(played.requests.cached) == [0, 48]
    assert played.requests.first_token_s[1] == 9.0 + 16 / 1024


def test_a_common_beginning_is_found_while_its_first_owner_still_runs(replay):
    played = replay([(0.0, 64, 200), (0.5, 80, 2)], prefixes=[[1, 2, 3, 4], [1, 2, 7, 8, 9]])
    assert list(played.requests.cached) == [0, 32]


def test_off_and_on(replay):
    rows, prefixes = [(0.0, 64, 2), (9.0, 64, 2)], [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert list(replay(rows, prefixes=prefixes, prefix_cache=False).requests.cached) == [0, 0]


class Blocks:
    """One block a name: a queue of unused blocks, the longest unused first, as vLLM keeps it."""

    def __init__(self, blocks: int) -> None:
        self.used: dict[int, int] = {}
        self.queue: OrderedDict[int, None] = OrderedDict((-1 - k, None) for k in range(blocks))
        self.fresh = -10_000

    def serve(self, names: list[int], extra: int) -> int:
        """One request alone: find, take, leave; how many blocks were found."""
        found = 0
        for name in names[: max(0, len(names) - (extra == 0))]:
            if name not in self.queue:
                break
            found += 1
        for name in names[:found]:
            del self.queue[name]
        taken = names[:found]
        for name in [*names[found:], *[None] * extra]:
            self.queue.popitem(last=False)
            if name is None or name in self.queue:
                self.fresh -= 1
                name = self.fresh
            taken.append(name)
        for name in reversed(taken):
            self.queue[name] = None
        return found


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(0, 1)), min_size=1, max_size=30),
    st.integers(7, 16),
)
def test_one_request_after_the_other_finds_what_a_queue_of_blocks_finds(requests, blocks):
    # request: one of four texts, how many whole blocks of it, and whether a cut block follows
    chains = [[100 * text + k for k in range(length)] for text, length, _ in requests]
    offsets = np.cumsum([0, *map(len, chains)]).tolist()
    kv, oracle = PrefixKv(blocks * 16, 16, [*chain.from_iterable(chains)], offsets, 16), Blocks(blocks)
    for index, (names, (_, _, extra)) in enumerate(zip(chains, requests, strict=True)):
        tokens = 16 * len(names) + 5 * extra
        found = kv.take(index, tokens, 1, 0, 0, {}, 0)
        kv.release(tokens)
        kv.leave(index, tokens, tokens, 0, 0, {}, 0)
        assert found == 16 * oracle.serve(names, extra)
        assert kv.blocks == blocks


rows = st.lists(
    st.tuples(st.integers(0, 1 << 31).map(lambda t: t * 2.0**-30), st.integers(1, 300), st.integers(1, 40)),
    min_size=1,
    max_size=20,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, texts=st.lists(st.integers(0, 2), min_size=20, max_size=20), tight=st.booleans())
def test_leap_equals_stepping_and_every_block_comes_back(replay, paper, rows, texts, tight):
    capacity = 352 if tight else 1 << 14
    profile = paper(memory={"weights_bytes": 1.0, "kv_bytes_per_token": 1.0, "kv_capacity_tokens": capacity})
    ordered = sorted(rows, key=lambda row: row[0])
    prefixes = [[1000 * text + k for k in range(-(-p // 16))] for (_, p, _), text in zip(ordered, texts, strict=False)]
    options = {"profile": profile, "prefixes": prefixes, **LIMITS}
    leap, step = replay(ordered, **options), replay(ordered, leaping=False, **options)
    assert_same(leap, step)
    assert leap.requests.cached == step.requests.cached
    (kv,) = [instance.kv for instance in leap.instances]
    assert (kv.blocks, kv.reserved, kv._used, kv._held) == (capacity // 16, 0, {}, {})
