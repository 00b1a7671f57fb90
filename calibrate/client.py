"""A client of any OpenAI-compatible server: streamed completions with a time stamp for every piece of text.

Token counts come from the server's `usage`, never from counting pieces: a server may send several tokens at once, hold
one back until it is valid text, leave out `[DONE]`, or give `usage` with the last piece or after it.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from profiles.inputs import CarbonfleetError

if TYPE_CHECKING:
    import aiohttp

_WORDS = (  # four letters each: one token for most vocabularies, five for one of letters
    *("time", "year", "life", "work", "part", "home", "hand", "week", "case", "city", "game", "team"),
    *("idea", "body", "back", "line", "word", "side", "head", "note"),
)
_CONNECTIONS = 2048
_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
_OPTIONAL: tuple[dict[str, Any], ...] = (
    {**_USAGE, "ignore_eos": True, "min_tokens": 1},
    {**_USAGE, "ignore_eos": True},
    _USAGE,
    {},
)


class ServerError(CarbonfleetError):
    """The server cannot be reached, refuses a request, or does not say how many tokens it used."""


@dataclass(slots=True)
class Reply:
    """One streamed completion: when it was sent and when each piece came, in seconds of one monotonic clock."""

    sent_s: float
    stamps_s: list[float] = field(default_factory=list)
    finish_s: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def first_s(self) -> float:
        """When the first piece came."""
        return self.stamps_s[0] if self.stamps_s else self.last_s

    @property
    def last_s(self) -> float:
        """When the last piece came; a server that held tokens back gives them up when it finishes."""
        held = len(self.stamps_s) < self.output_tokens
        if self.stamps_s and not (held and self.finish_s):
            return self.stamps_s[-1]
        return self.finish_s or self.sent_s


class Server:
    """One server, by its base URL such as http://127.0.0.1:8000; close it when done.

    Args:
        url: with or without /v1.
        model: the name to ask for; None takes the first the server lists.
        key: sent as a bearer token where the server wants one.
    """

    def __init__(self, url: str, model: str | None = None, key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model, self._key = model, key
        self._session: aiohttp.ClientSession | None = None
        self._fields: dict[str, Any] = {}

    async def open(self) -> None:
        """Connect and find the model's name.

        Raises:
            ServerError: nobody answers, or no model is named and the server lists none.
        """
        aiohttp = _aiohttp()
        head = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=600),
            headers=head,
        )
        try:
            async with self._session.get(f"{self.url}/v1/models") as answer:
                listed = (await answer.json(content_type=None)).get("data") or []
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerError(f"{self.url} does not answer ({_short(error)}); is the server up?") from error
        except (ValueError, AttributeError):
            listed = []
        if self.model is None:
            if not listed:
                raise ServerError(f"{self.url} lists no model; name it with --served-model")
            self.model = str(listed[0]["id"])
        await self._learn_fields()

    async def _learn_fields(self) -> None:
        """Keep of the optional request fields those that this server takes; the first refusal tells."""
        for fields in _OPTIONAL:
            self._fields = fields
            try:
                await self.complete("time", 1)
                return
            except ServerError as error:
                refusal = error
        raise refusal

    async def complete(self, prompt: str | list[int], output_tokens: int, into: Reply | None = None) -> Reply:
        """Ask for exactly `output_tokens` tokens after `prompt` (text or token ids), streamed.

        `into` is filled as pieces come, for those who want to look on.

        Raises:
            ServerError: refused, broken off, or without usage.
        """
        assert self._session is not None, "open() first"
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0.0,
            "stream": True,
            **self._fields,
        }
        if "min_tokens" in body:
            body["min_tokens"] = output_tokens
        aiohttp = _aiohttp()
        reply = into or Reply(0.0)
        reply.sent_s = time.perf_counter()
        try:
            async with self._session.post(f"{self.url}/v1/completions", json=body) as answer:
                if answer.status != 200:
                    text = " ".join((await answer.text()).split())[:200]
                    raise ServerError(f"{self.url} refuses a completion ({answer.status}: {text})")
                async for line in answer.content:
                    _take(reply, line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerError(f"{self.url} broke off a completion ({_short(error)})") from error
        if not reply.output_tokens or not (reply.stamps_s or reply.finish_s):
            raise ServerError(f"{self.url} streams no usage, so tokens cannot be counted; use a server that does")
        return reply

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class Prompter:
    """Prompts of a wanted number of tokens, each different so that no cache of prefixes helps.

    Token ids are used where the server takes them (vLLM, SGLang); else text, whose tokens per word are learnt from two
    completions. The true count always comes back in the reply.
    """

    def __init__(self, vocab: int, seed: int = 0) -> None:
        self._vocab, self._random = vocab, random.Random(seed)
        self._text: tuple[float, float] | None = None  # tokens = first + second x words
        self._offset = 0  # tokens the server adds to given ids

    async def fit(self, server: Server) -> None:
        """Learn which kind of prompt the server takes.

        Raises:
            ServerError: it takes neither.
        """
        try:
            reply = await server.complete(self._ids(32), 1)
            if reply.prompt_tokens in (32, 33):
                self._offset = reply.prompt_tokens - 32
                return
        except ServerError:
            pass
        few, many = [await server.complete(self._words(words), 1) for words in (16, 128)]
        slope = (many.prompt_tokens - few.prompt_tokens) / (128 - 16)
        if slope <= 0:
            raise ServerError(f"{server.url} counts no tokens in longer prompts")
        self._text = (few.prompt_tokens - 16 * slope, slope)

    def make(self, tokens: int) -> str | list[int]:
        """A prompt of about `tokens` tokens."""
        if self._text is None:
            return self._ids(max(1, tokens - self._offset))
        base, slope = self._text
        return self._words(max(1, round((tokens - base) / slope)))

    def _ids(self, count: int) -> list[int]:
        low, high = min(100, self._vocab // 4), max(2, self._vocab - self._vocab // 8)
        return [self._random.randrange(low, high) for _ in range(count)]

    def _words(self, count: int) -> str:
        return " ".join(self._random.choices(_WORDS, k=count))


def _take(reply: Reply, line: bytes) -> None:
    """One line of an event stream: a piece of text is stamped, usage is kept, everything else passed over."""
    if not line.startswith(b"data:"):
        return
    data = line[5:].strip()
    if not data or data == b"[DONE]":
        return
    now = time.perf_counter()
    try:
        event = json.loads(data)
        if event.get("error"):
            raise ServerError(f"the server failed in mid-stream ({' '.join(str(event['error']).split())[:200]})")
        for choice in event.get("choices") or ():
            if choice.get("text"):
                reply.stamps_s.append(now)
            if choice.get("finish_reason"):
                reply.finish_s = now
        usage = event.get("usage")
        if usage:
            reply.prompt_tokens = int(usage["prompt_tokens"])
            reply.output_tokens = int(usage["completion_tokens"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServerError(f"the server streams what is no completion ({_short(error)})") from error


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise ServerError("aiohttp is not installed; pip install 'carbonfleet[calibrate]'") from error
    return aiohttp


def _short(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
