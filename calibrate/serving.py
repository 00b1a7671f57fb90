"""Windows against a live OpenAI-compatible server, which decides its own batches: this gives the engine layer.

Decode: B requests are sent at once; between the last one's first token and the first one's last token all B decode
together, and the gaps of their streams are the engine's steps. Prefill: one prompt at a time on an idle server, its
time to first token less the front door (HTTP, tokenizer), which is told from a prompt of a few tokens. Mixed steps: a
prompt sent into a running batch, and the longest gap it makes. Energy: closed-loop load of several mixes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from calibrate.client import Prompter, Reply, Server, ServerError
from calibrate.phases import Mix
from calibrate.points import Point, decode, prefill
from calibrate.protocol import SAME_METERS, Window, block_sem_rel
from calibrate.sampler import Drawn, Sampler
from profiles.profile import POWER_UNKNOWN

FEW_TOKENS = 4  # a prompt whose prefill is one decode step; the rest of its time to first token is the front door
LEAST_PROMPTS, LEAST_GAPS = 5, 8


@dataclass(frozen=True, slots=True)
class Pace:
    """How long windows are and how far an output may go; QUICK is one short repeat."""

    repeats: int = 3
    window_s: float = 5.0
    mix_s: float = 10.0
    max_output_tokens: int = 1024
    injections: int = 8
    idle_s: float = 20.0


FULL = Pace()
QUICK = Pace(1, 2.0, 4.0, 512, 4, 3.0)


class ServerBench:
    """Measures points on one server under one pace; `sampler` is running, its clock is time.perf_counter."""

    def __init__(self, server: Server, prompter: Prompter, sampler: Sampler, pace: Pace) -> None:
        self._server, self._prompter, self._sampler, self.pace = server, prompter, sampler, pace
        self._step_s: dict[int, float] = {}  # batch -> decode step, to size the next outputs
        self._token_s = 0.0  # prefill seconds a token, likewise

    def learn(self, point: Point, windows: Iterable[Window]) -> None:
        """What windows tell of how long steps and prompts take here: outputs are sized by it, in a resumed run too."""
        for window in windows:
            if point.phase == "decode":
                self._step_s[point.sequences] = window.time_s
            elif window.tokens:
                self._token_s = max(self._token_s, window.time_s / window.tokens)

    async def idle_w(self) -> float | None:
        """Watts of the loaded server without work; None without a meter."""
        begin = time.perf_counter()
        await asyncio.sleep(self.pace.idle_s)
        return self._sampler.drawn(begin, time.perf_counter()).power_w

    async def prefill(self, new: int) -> Window:
        """Time to first token of single prompts of `new` tokens on the idle server, front door included."""
        begin = time.perf_counter()
        replies: list[Reply] = []
        while len(replies) < LEAST_PROMPTS or time.perf_counter() - begin < self.pace.window_s:
            replies.append(await self._server.complete(self._prompter.make(new), 1))
        end = time.perf_counter()
        times = [reply.first_s - reply.sent_s for reply in replies]
        tokens = statistics.fmean(reply.prompt_tokens for reply in replies)
        window = _window(statistics.median(times), times, self._sampler.drawn(begin, end), end - begin, tokens)
        self.learn(prefill(new), [window])
        return window

    async def decode(self, batch: int, context: int) -> Window:
        """Step time and power while exactly `batch` requests of about `context` tokens decode.

        Raises:
            ServerError: the server does not run that many at once.
        """
        output = self._output_tokens(batch, context)
        prompt = max(FEW_TOKENS, context - output // 2)
        replies = [Reply(0.0) for _ in range(batch)]
        await self._together(replies, prompt, output)
        begin, end = max(r.first_s for r in replies), min(r.last_s for r in replies)
        gaps = [_gap_s(reply, begin, end) for reply in replies]
        known = [gap for gap in gaps if gap is not None]
        if end <= begin or not known:
            raise ServerError(f"the server does not decode {batch} requests of {context} tokens at once")
        step_s = statistics.fmean(known)
        held = statistics.fmean(_mean_context(reply, begin, end) for reply in replies)
        inside = _gaps(replies[0], begin, end)
        window = _window(step_s, inside, self._sampler.drawn(begin, end), end - begin, held)
        self.learn(decode(batch, context), [window])
        return window

    async def mixed(self, new: int, batch: int, context: int) -> Window:
        """Length of the step in which a prompt of `new` tokens is prefilled beside `batch` decoding requests.

        Raises:
            ServerError: the batch ends before a prompt is prefilled beside it.
        """
        times: list[float] = []
        tokens: list[int] = []
        held: list[float] = []
        for _ in range(self.pace.injections):  # every batch gives at least one, or the point is given up
            replies = [Reply(0.0) for _ in range(batch)]
            running = asyncio.create_task(self._together(replies, context, self.pace.max_output_tokens))
            injected = await self._inject(running, replies, new, self.pace.injections - len(times))
            await running
            end = min(reply.last_s for reply in replies)
            inside = [one for one in injected if one.first_s < end]
            if not inside:
                raise ServerError(f"no prompt of {new} tokens was prefilled beside {batch} running requests")
            times += [_longest_gap_s(replies, one) for one in inside]
            tokens += [one.prompt_tokens for one in inside]
            held += [_mean_context(reply, inside[0].sent_s, inside[-1].first_s) for reply in replies]
            if len(times) >= self.pace.injections:
                break
        window = _window(statistics.median(times), times, None, sum(times), statistics.fmean(tokens))
        return replace(window, context=statistics.fmean(held))

    async def _inject(self, running: asyncio.Task[None], replies: list[Reply], new: int, wanted: int) -> list[Reply]:
        """Single prompts sent one after the other while all of `replies` decode."""
        while not running.done() and not all(reply.stamps_s for reply in replies):
            await asyncio.sleep(0.002)
        found: list[Reply] = []
        while not running.done() and len(found) < wanted:
            found.append(await self._server.complete(self._prompter.make(new), 1))
            await asyncio.sleep(4 * self._step_s.get(len(replies), 0.01))
        return found

    async def mix(self, prompt: int, output: int, concurrency: int) -> Mix | None:
        """Closed-loop load: each of `concurrency` users sends its next request when the last is done.

        None without an energy reading.
        """
        replies: list[Reply] = []
        stop = time.perf_counter() + self.pace.mix_s

        async def user() -> None:
            while time.perf_counter() < stop:
                replies.append(await self._server.complete(self._prompter.make(prompt), output))

        began = time.perf_counter()
        await asyncio.gather(*(user() for _ in range(concurrency)))
        ended = time.perf_counter()
        drawn = self._sampler.drawn(began, ended)
        if drawn.power_w is None:
            return None
        return Mix(
            float(sum(reply.prompt_tokens for reply in replies)),
            float(sum(reply.output_tokens for reply in replies)),
            ended - began,
            drawn.power_w * (ended - began),
        )

    async def _together(self, replies: list[Reply], prompt: int, output: int) -> None:
        """Send one request for each of `replies`, all at once, and wait for all."""
        prompts = [self._prompter.make(prompt) for _ in replies]
        asked = zip(prompts, replies, strict=True)
        await asyncio.gather(*(self._server.complete(text, output, reply) for text, reply in asked))

    def _output_tokens(self, batch: int, context: int) -> int:
        """Enough steps for a window after all prompts are prefilled, within the pace's limit."""
        step_s = self._step_s.get(batch) or max(self._step_s.values(), default=0.02)
        prefills = batch * context * self._token_s / step_s
        return max(LEAST_GAPS * 2, min(self.pace.max_output_tokens, round(prefills + self.pace.window_s / step_s)))


def _window(step_s: float, inside: list[float], drawn: Drawn | None, duration_s: float, tokens: float) -> Window:
    flags = list(drawn.flags) if drawn else []
    power_w, polled_w = (drawn.power_w, drawn.polled_w) if drawn else (None, None)
    if power_w is None:
        flags.append(POWER_UNKNOWN)
    elif polled_w is not None and abs(polled_w - power_w) > SAME_METERS * power_w:
        flags.append("meters differ")
    return Window(
        time_s=step_s,
        power_w=power_w or 0.0,
        time_sem_rel=block_sem_rel(inside),
        power_sem_rel=1.0 / max(1, drawn.ticks) if drawn else 0.0,  # a window's ends are known to a tick
        polled_w=polled_w,
        duration_s=duration_s,
        steps=len(inside),
        temperature_c=drawn.temperature_c if drawn else None,
        sm_clock_mhz=drawn.sm_clock_mhz if drawn else None,
        flags=flags,
        tokens=tokens,
    )


def _gaps(reply: Reply, begin_s: float, end_s: float) -> list[float]:
    """Seconds between the pieces of a stream inside a stretch."""
    inside = [at for at in reply.stamps_s if begin_s <= at <= end_s]
    return [b - a for a, b in zip(inside, inside[1:], strict=False)]


def _gap_s(reply: Reply, begin_s: float, end_s: float) -> float | None:
    """Mean seconds a token inside a stretch; a piece may hold several tokens."""
    gaps = _gaps(reply, begin_s, end_s)
    if len(gaps) < LEAST_GAPS:
        return None
    return statistics.fmean(gaps) / _tokens_per_piece(reply)


def _tokens_per_piece(reply: Reply) -> float:
    return max(1.0, (reply.output_tokens - 1) / max(1, len(reply.stamps_s) - 1))


def _mean_context(reply: Reply, begin_s: float, end_s: float) -> float:
    """Tokens the request held on average over a stretch."""
    before = sum(at < begin_s for at in reply.stamps_s)
    until = sum(at <= end_s for at in reply.stamps_s)
    return reply.prompt_tokens + _tokens_per_piece(reply) * (before + until) / 2


def _longest_gap_s(replies: list[Reply], one: Reply) -> float:
    """The mean over the streams of the longest gap that overlaps the injected prompt's prefill."""
    longest = []
    for reply in replies:
        pairs = zip(reply.stamps_s, reply.stamps_s[1:], strict=False)
        gaps = [b - a for a, b in pairs if b >= one.sent_s and a <= one.first_s]
        if gaps:
            longest.append(max(gaps) / _tokens_per_piece(reply))
    return statistics.fmean(longest)
