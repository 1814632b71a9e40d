"""Kill a build at random moments and at each change of a file, and build on.

Whatever was killed, the next build must end with the very bytes of one that nobody disturbed and
leave nothing else behind, and a reader in between must find a whole corpus or be refused.
Libraries are imported once, in a process of its own that forks the builds:
``python -m bench.soak.building [--kills 1000]``.
"""

import argparse
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import sha256_file
from retro.config.corpus import CorpusConfig, IndexKind
from retro.corpus import chunk_shards, embed_stage, index_stage
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.data.documents import DOCUMENTS_NAME, TextDocument, store_document
from retro.data.tokenizer import Tokenizer
from retro.errors import RetroError

ROOT = Path(__file__).parents[2]
ALONE = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
"""A process that forks must not have started threads."""
FIRST = CorpusConfig(chunk_size=8, vocab_size=300)
SETTINGS = (
    FIRST,
    CorpusConfig(chunk_size=8, vocab_size=300, num_neighbors=3),
    CorpusConfig(chunk_size=9, vocab_size=300, index_kind=IndexKind.IVF),
)
"""Builds of the same documents; what one leaves behind, the next finds."""
CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"})
"""Names under which Python announces a change of a folder."""
KEY_WIDTH = 16
STRIDE = 3


@dataclass(kw_only=True)
class BuildFigures:
    """What the builds went through."""

    kills: int = 0
    """Builds that were killed."""

    finished: int = 0
    """Builds that ended and were compared."""

    refused: int = 0
    """Readers that were refused after a kill."""

    served: int = 0
    """Readers that found a whole corpus after a kill."""

    changes: int = 0
    """Changes of files in one undisturbed build."""

    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills} builds killed (one makes {self.changes} changes of files), "
            f"{self.finished} ended with the bytes of an undisturbed one, readers in between: "
            f"{self.served} served, {self.refused} refused; {self.seconds:.0f} s"
        )


class BrokenPromiseError(Exception):
    """A build did not end as it must."""


class TokenSums:
    """Keys from the tokens of a chunk, the same in every process."""

    width = KEY_WIDTH
    fingerprint = "token sums"

    def __init__(self, tokenizer: Tokenizer) -> None:
        shape = (tokenizer.vocab_size, KEY_WIDTH)
        self._vectors_VZ = np.random.default_rng(0).standard_normal(shape)

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._vectors_VZ[chunks_NM].sum(axis=1).astype(np.float32)


class Builds:
    """Builds in a folder, compared with undisturbed ones beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.figures = BuildFigures()
        self._corpus_dir = folder / "corpus"
        self._chance = random.Random(seed)
        self._wanted: dict[CorpusConfig, dict[str, str]] = {}
        self._fingerprints: dict[str, CorpusConfig] = {}
        self._seconds = 0.0
        for row, config in enumerate(SETTINGS):
            self._build_undisturbed(folder / f"undisturbed-{row}", config)
        # Else each fork copies what the collector looks at, which takes longer than a build.
        gc.freeze()

    def _build_undisturbed(self, corpus_dir: Path, config: CorpusConfig) -> None:
        _store_texts(corpus_dir)
        begun = time.perf_counter()
        _build(corpus_dir, config)
        self._seconds = time.perf_counter() - begun
        self._wanted[config] = _files(corpus_dir)
        self._fingerprints[Corpus.open(corpus_dir).fingerprint] = config

    def kill_at_random(self, kills: int) -> None:
        """Kill builds at random moments, until so many were killed."""
        until = self.figures.kills + kills
        self._start_anew()
        config = FIRST
        while self.figures.kills < until:
            child = _fork(partial(_build, self._corpus_dir, config))
            time.sleep(self._chance.uniform(0, self._seconds))
            os.kill(child, signal.SIGKILL)
            if not self._was_killed(child):
                self._compare(config)
                config = self._chance.choice(SETTINGS)
                if self._chance.random() < 0.5:
                    self._start_anew()
        self._finish(config)

    def kill_at_changes(self, stride: int) -> None:
        """Kill one build before every ``stride``-th change of a file."""
        number, was_killed = 1 + self._chance.randrange(stride), True
        while was_killed:
            self._start_anew()
            child = _fork(partial(self._build_until, number))
            was_killed = self._was_killed(child)
            self._finish(FIRST)
            self.figures.changes = number
            number += stride

    def _build_until(self, number: int) -> None:
        """Build, but be killed before a change of a file."""
        left = number

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CHANGES or (event == "open" and _writes(arguments)):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        _build(self._corpus_dir, FIRST)

    def _start_anew(self) -> None:
        shutil.rmtree(self._corpus_dir, ignore_errors=True)
        _store_texts(self._corpus_dir)

    def _was_killed(self, child: int) -> bool:
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            _check_exit(status)
            return False
        self.figures.kills += 1
        self._read()
        return True

    def _read(self) -> None:
        try:
            corpus = Corpus.open(self._corpus_dir)
        except RetroError:
            self.figures.refused += 1
            return
        wanted = self._wanted[self._fingerprints[corpus.fingerprint]]
        found = _files(self._corpus_dir)
        names = ["index/index.faiss", "database/chunks.npy"]
        # Before the neighbors are found, the index is there without them.
        names += ["index/neighbors.npy"] * corpus.has_neighbors
        for name in names:
            if found[name] != wanted[name]:
                raise BrokenPromiseError(f"a reader was served another {name}")
        self.figures.served += 1

    def _finish(self, config: CorpusConfig) -> None:
        _wait(_fork(partial(_build, self._corpus_dir, config)))
        self._compare(config)

    def _compare(self, config: CorpusConfig) -> None:
        found, wanted = _files(self._corpus_dir), self._wanted[config]
        others = sorted(found.keys() ^ wanted.keys())
        others += [name for name in found.keys() & wanted.keys() if found[name] != wanted[name]]
        if others:
            raise BrokenPromiseError(f"not as in an undisturbed build: {', '.join(others)}")
        self.figures.finished += 1


def soak_builds(kills: int, *, seed: int = 0, stride: int = STRIDE) -> BuildFigures:
    """Kill builds in a process of its own.

    Args:
        kills: How many are killed at random moments.
        seed: Another one chooses other moments.
        stride: One build is killed before every so many changes of files as well.

    Raises:
        BrokenPromiseError: A build did not end as it must.
    """
    given = ("--kills", kills, "--seed", seed, "--stride", stride, "--json")
    finished = subprocess.run(
        [sys.executable, "-m", "bench.soak.building", *map(str, given)],
        cwd=ROOT,
        env={**os.environ, **ALONE, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise BrokenPromiseError(finished.stderr)
    return BuildFigures(**json.loads(finished.stdout))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak.building", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="at random (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--stride", type=int, default=STRIDE, help="between changes of files")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args(arguments)
    if given.json:
        print(json.dumps(asdict(_soak(given.kills, given.seed, given.stride))))
    else:
        print(soak_builds(given.kills, seed=given.seed, stride=given.stride))
    return 0


def _soak(kills: int, seed: int, stride: int) -> BuildFigures:
    _make_many_shards()
    # A killed process loses nothing it has written; waiting for the disk only costs kills.
    os.fsync = lambda fd: None  # noqa: ARG005  # its name
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="retro-builds-") as name:
        builds = Builds(Path(name), seed)
        builds.kill_at_random(kills)
        builds.kill_at_changes(stride)
    builds.figures.seconds = time.perf_counter() - begun
    return builds.figures


def _make_many_shards() -> None:
    """Divide the work of a small build as that of a large one is divided."""
    chunk_shards.BYTES_PER_SHARD = 1200
    embed_stage.ROWS_PER_SHARD = 64
    index_stage.CHUNKS_PER_SHARD = 64


def _store_texts(corpus_dir: Path) -> None:
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghij", k=5)) for _ in range(100)]
    for row in range(8):
        text = " ".join(chance.choices(words, k=60))
        document = TextDocument(path=f"text-{row}.txt", text=text, encoding="utf-8")
        store_document(corpus_dir, document)


def _build(corpus_dir: Path, config: CorpusConfig) -> None:
    build_corpus(corpus_dir, config, embedder=TokenSums)


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        raise
    finally:
        os._exit(1)


def _wait(child: int) -> None:
    _check_exit(os.waitpid(child, 0)[1])


def _check_exit(status: int) -> None:
    if status != 0:
        raise BrokenPromiseError("a build that was not killed failed")


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) != 0


def _files(corpus_dir: Path) -> dict[str, str]:
    """Return path to sha256 of everything but the documents."""
    return {
        path.relative_to(corpus_dir).as_posix(): sha256_file(path) if path.is_file() else "folder"
        for path in corpus_dir.rglob("*")
        if path.relative_to(corpus_dir).parts[0] != DOCUMENTS_NAME
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
