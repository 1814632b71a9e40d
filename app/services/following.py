"""Sends the events of a generation, from its beginning, to many readers at once.

Readers of one text share the look at it, the steps they are sent and the threads that read them.
A reader keeps its place and the step it is being sent, nothing else, so a slow one is only late.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from app.services.live import LiveGeneration
from app.services.seats import Seats
from app.services.stream_steps import Ending, Place, Step, StreamSteps
from jobs.store.store import Store

MOST_READERS = 400
MOST_READERS_OF_A_TEXT = 200
READ_IT_WHOLE = "Try again in some seconds, or read the text by its id when it is finished."
THREADS = 2
"""Readers take turns in threads of their own, so those that answer pages stay free."""
MOST_STEPS = 16
"""Steps of a text kept for readers who come by next."""
PAUSE_S = 0.03
PAUSE_PER_READER_S = 0.001
"""Seconds between looks at a text: the more readers, the more is sent at once."""
QUIET_S = 15.0

Find = Callable[[str], LiveGeneration | None]
Key = tuple[asyncio.AbstractEventLoop, str, bool]


class Following:
    """All readers of all texts.

    Args:
        store: Holds the texts.
        find: Returns a text that waits or is being written, None if it has ended.
    """

    def __init__(self, store: Store, find: Find) -> None:
        self._store = store
        self._find = find
        self._seats = Seats(MOST_READERS, "readers may follow texts", READ_IT_WHOLE)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="following")
        self._texts: dict[Key, SharedText] = {}

    @property
    def num_readers(self) -> int:
        """How many follow a text."""
        return self._seats.taken

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def reader(self) -> Iterator["Reader"]:
        """Give one who reads a text, counted meanwhile.

        Raises:
            TooManyError: There are too many.
        """
        with self._seats.take(), ExitStack() as stack:
            yield Reader(self, stack)

    async def open(self, generation_id: str, stack: ExitStack) -> "SharedText":
        """Return a text to be read until the stack is closed; see ``Reader.open``."""
        # Looked for first: a text that ends in between is then read as one that has ended.
        live = self._find(generation_id)
        loop = asyncio.get_running_loop()
        # Tokens of a text that is being written are sent to those who came before it ended.
        key = (loop, generation_id, live is not None)
        if key not in self._texts:
            read = self._store.get_generation
            row = await loop.run_in_executor(
                self._threads, lambda: read(generation_id, with_chunks=False)
            )
            # Another reader may have been here meanwhile.
            if key not in self._texts:
                maker = StreamSteps(self._store, row, live)
                self._texts[key] = SharedText(maker, live, self._threads, self._pause)
        text = self._texts[key]
        stack.callback(self._forget_unread, key)
        stack.enter_context(text.seats.take())
        return text

    def _forget_unread(self, key: Key) -> None:
        text = self._texts.get(key)
        if text is not None and not text.seats.taken:
            del self._texts[key]
            text.close()

    def _pause(self) -> float:
        return PAUSE_S + PAUSE_PER_READER_S * self.num_readers


class Reader:
    """One who reads a text; see ``Following.reader``."""

    def __init__(self, following: Following, stack: ExitStack) -> None:
        self._following = following
        self._stack = stack

    async def open(self, generation_id: str) -> None:
        """Choose the text; only once, before anything is read.

        Raises:
            NotFoundError: There is no such generation.
            TooManyError: It has too many readers.
        """
        self._text = await self._following.open(generation_id, self._stack)

    async def steps(self) -> AsyncIterator[Step]:
        """Yield what happens, as it happens, until the generation has ended.

        Yields:
            What is new; a step without news when nothing was written for ``QUIET_S``.
        """
        place: Place | Ending | None = self._text.beginning
        while isinstance(place, Place):
            step = await self._text.step_from(place)
            place = step.next
            if step.lines:
                yield step
            elif not self._text.is_newest(step):
                continue
            elif step.head.has_ended:
                return
            elif not await self._text.more_than(step):
                yield step

    async def ending(self) -> AsyncIterator[Step]:
        """Yield what ends the stream of a text that has ended, in parts."""
        place: Place | Ending | None = Ending()
        while place is not None:
            step = await self._text.step_from(place)
            place = step.next
            yield step


class SharedText:
    """A text that is being read in one event loop.

    Args:
        maker: Makes the steps.
        live: The text as it is being written; None if it has ended.
        threads: Where they are made.
        pause: Returns the least seconds between looks at the text.
    """

    def __init__(
        self,
        maker: StreamSteps,
        live: LiveGeneration | None,
        threads: ThreadPoolExecutor,
        pause: Callable[[], float],
    ) -> None:
        self.seats = Seats(MOST_READERS_OF_A_TEXT, "readers may follow one text", READ_IT_WHOLE)
        self._maker = maker
        self._live = live
        self._threads = threads
        self._pause = pause
        self._head = maker.look()
        self._looked_at = time.monotonic()
        self._steps: OrderedDict[Place | Ending, asyncio.Future[Step]] = OrderedDict()
        self._next_look: asyncio.Task[None] | None = None

    @property
    def beginning(self) -> Place:
        """Where every reader begins."""
        return self._maker.beginning

    def close(self) -> None:
        """Look no more, because nobody reads any more."""
        if self._next_look is not None:
            self._next_look.cancel()

    async def step_from(self, place: Place | Ending) -> Step:
        """Return the step from a place, made once for all who stand there."""
        step = self._steps.get(place)
        if step is None or (step.done() and not self._is_good(step)):
            loop = asyncio.get_running_loop()
            step = loop.run_in_executor(self._threads, self._maker.step, place, self._head)
            self._steps[place] = step
            while len(self._steps) > MOST_STEPS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(place)
        # A reader that leaves must not end what others wait for.
        return await asyncio.shield(step)

    def _is_good(self, step: "asyncio.Future[Step]") -> bool:
        if step.cancelled() or step.exception() is not None:
            return False
        made = step.result()
        return bool(made.lines) or self.is_newest(made)

    def is_newest(self, step: Step) -> bool:
        """Whether nothing can be said beyond a step without news."""
        return step.head is self._head

    async def more_than(self, step: Step) -> bool:
        """Wait until there is more than that; False if that takes longer than ``QUIET_S``."""
        if not self.is_newest(step):
            return True
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_again())
        done, _ = await asyncio.wait((self._next_look,), timeout=QUIET_S)
        return bool(done)

    async def _look_again(self) -> None:
        assert self._live is not None
        await asyncio.sleep(self._looked_at + self._pause() - time.monotonic())
        await self._live.bell.wait(self._head.rings)
        self._head, self._looked_at = self._maker.look(), time.monotonic()
        self._next_look = None
