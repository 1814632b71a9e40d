"""Token ids as text, piece by piece."""

import codecs
from collections.abc import Sequence

from retro.data.tokenizer import Tokenizer


class TokenDecoder:
    """Turns tokens into text as they come; a character's bytes may be spread over tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes_decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """Return the characters that this token completes."""
        return self._bytes_decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """Return a replacement character if the text ends inside a character."""
        return self._bytes_decoder.decode(b"", final=True)


def pieces(tokens: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """Return the text of each token; together they are the whole text."""
    decoder = TokenDecoder(tokenizer)
    found = [decoder.add(token) for token in tokens]
    if found:
        found[-1] += decoder.finish()
    return found


class StopWatch:
    """Looks for stop strings in a text that grows.

    Args:
        stops: The strings; without any, every text is safe at once.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in stops), default=0)
        self._text = ""
        self._dropped = 0
        self.found_at: int | None = None
        """Where the first stop string begins, in characters; None while there is none."""

    @property
    def is_watching(self) -> bool:
        """Whether there are stop strings at all."""
        return bool(self._stops)

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._dropped + len(self._text)

    def add(self, piece: str) -> None:
        """Take the next piece of the text."""
        self._text += piece
        places = [self._text.find(stop) for stop in self._stops]
        found = [place for place in places if place >= 0]
        if found and self.found_at is None:
            self.found_at = self._dropped + min(found)
        if self.found_at is None:
            cut = max(0, len(self._text) - max(self._longest - 1, 0))
            self._text, self._dropped = self._text[cut:], self._dropped + cut

    def safe_length(self) -> int:
        """Return how many characters cannot be part of a stop string any more."""
        for size in range(min(len(self._text), self._longest - 1), 0, -1):
            if any(stop.startswith(self._text[-size:]) for stop in self._stops if len(stop) > size):
                return self.length - size
        return self.length
