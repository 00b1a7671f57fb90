"""The queue of an instance where requests differ in priority; where they do not, a plain deque."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence


class ByPriority:
    """First come, first served within a priority, the lower number first; as much of a deque as instances use."""

    def __init__(self, priority: Sequence[int]) -> None:
        self._priority = priority  # of each request
        self._queues: dict[int, deque[int]] = {}
        self._order: list[int] = []  # priorities that have a queue, ascending
        self._size = 0

    def _queue(self, index: int) -> deque[int]:
        priority = self._priority[index]
        if priority not in self._queues:
            self._queues[priority] = deque()
            insort(self._order, priority)
        return self._queues[priority]

    def append(self, index: int) -> None:
        """Behind all of its priority."""
        self._queue(index).append(index)
        self._size += 1

    def appendleft(self, index: int) -> None:
        """Before all of its priority."""
        self._queue(index).appendleft(index)
        self._size += 1

    def _first(self) -> deque[int]:
        return next(queue for priority in self._order if (queue := self._queues[priority]))

    def popleft(self) -> int:
        """Take the first."""
        self._size -= 1
        return self._first().popleft()

    def __getitem__(self, place: int) -> int:
        return next(self._first().__iter__()) if place == 0 else [*self][place]

    def __iter__(self) -> Iterator[int]:
        for priority in self._order:
            yield from self._queues[priority]

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        """Empty it."""
        for queue in self._queues.values():
            queue.clear()
        self._size = 0


Queue = deque[int] | ByPriority
