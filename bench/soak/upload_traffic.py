"""Requests to two web servers, of which one is killed now and then."""

import io
import random
import socket
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.soak.upload_promises import Texts
from bench.soak.web_server import WebServers
from jobs.home import Home
from jobs.store.store import Store
from retro.data.document_batch import INCOMING_NAME

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "dogs", "run", "far", "over", "hills")
FOLDERS = ("", "a/", "a/b/", "c/")
PATIENCE_S = 1.0
"""How long a kill waits for its moment at most."""


@dataclass(slots=True)
class UploadFigures:
    """What was done, and every promise that was broken."""

    uploads: int = 0
    seconds: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """How uploads were answered."""
    kills: Counter[str] = field(default_factory=Counter)
    """What database and folder held right after a kill."""
    checks: int = 0
    broken: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return the figures for people."""
        lines = [f"{self.uploads} uploads in {self.seconds:.0f} s, {self.checks} checks of all"]
        for name in ("done", "answers", "kills"):
            counts: Counter[str] = getattr(self, name)
            listed = ", ".join(f"{number} {what}" for what, number in counts.most_common())
            lines.append(f"{name}: {listed}")
        broken = [f"BROKEN PROMISES: {len(self.broken)}", *self.broken]
        return "\n".join([*lines, *(broken if self.broken else ["every promise was kept"])])


class Traffic:
    """Sends requests to two servers of one folder and database, and kills the first.

    Args:
        home: The folder.
        store: The database.
        chance: Where chance comes from.
        most_files: Of one upload.
        kill_chance: Of each request that may be interrupted.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        chance: random.Random,
        most_files: int,
        kill_chance: float,
    ) -> None:
        self.figures = UploadFigures()
        self._home = home
        self._store = store
        self._chance = chance
        self._most_files = most_files
        self._kill_chance = kill_chance
        self._web = WebServers(home, store.url, [_free_port(), _free_port()])

    def close(self) -> None:
        """End the servers."""
        self._web.stop()

    def new_texts(self) -> Texts:
        """Return texts, some for paths that are there already."""
        mark = self.new_mark()
        paths = {
            f"{self._chance.choice(FOLDERS)}{self._chance.randrange(2 * self._most_files)}.txt"
            for _ in range(self._chance.randint(1, self._most_files))
        }
        if self._chance.random() < 0.05:
            paths.add("a/b")  # a folder in other uploads
        return {
            path: f"{mark} {path} {' '.join(self._chance.choices(WORDS, k=40))}" for path in paths
        }

    def new_mark(self) -> str:
        """Return a text that was not used before."""
        return f"{self._chance.getrandbits(64):016x}"

    def send(self, server: int, method: str, path: str) -> tuple[int | None, Any]:
        """Send a request; return the status and the body of its answer, None without one."""
        answer = self._web.send(server, method, f"/api/v1{path}")
        if answer is None:
            return None, None
        return answer.status_code, answer.json() if answer.content else None

    def send_until_answered(self, server: int, path: str, key: str, body: object) -> Any:
        """Send a request to a server until it answers, and return the body."""
        while True:
            headers = {"idempotency-key": key}
            answer = self._web.send(server, "POST", f"/api/v1{path}", json=body, headers=headers)
            if answer is not None:
                return answer.raise_for_status().json()
            time.sleep(0.02)

    def send_texts(
        self, server: int, corpus_id: str, texts: Texts, key: str, *, as_zip: bool = False
    ) -> int | None:
        """Upload texts, forget those that are skipped, and return the status, None without one."""
        self.figures.uploads += 1
        parts: list[tuple[str, tuple[str | None, bytes]]]
        if as_zip:
            parts = [("files", ("all.zip", make_zip(texts)))]
        else:
            parts = [("files", ("file", text.encode())) for text in texts.values()]
            parts += [("paths", (None, path.encode())) for path in texts]
        parts.append(("keep_duplicates", (None, b"true")))
        address = f"/api/v1/corpora/{corpus_id}/files"
        answer = self._web.send(
            server, "POST", address, headers={"idempotency-key": key}, files=parts
        )
        if answer is None:
            self.figures.answers["none"] += 1
            return None
        self.figures.answers[str(answer.status_code)] += 1
        if answer.status_code >= 500:
            self.figures.broken.append(f"an upload was answered {answer.text}")
        if answer.status_code == 200:
            for item in answer.json()["skipped"]:
                texts.pop(item["path"], None)
        return answer.status_code

    def perhaps_kill(self, corpus_id: str = "") -> threading.Thread | None:
        """Let the first server be killed soon, or not; wait for what is returned.

        Args:
            corpus_id: Corpus that files are being sent to, if any.
        """
        if self._chance.random() >= self._kill_chance:
            return None
        incoming = self._home.corpus_dir(corpus_id) / INCOMING_NAME
        moments: list[Callable[[], object]] = [lambda: True]
        if corpus_id:
            moments += [lambda: any(incoming.glob("*")), self._store.corpora_with_moves]
        has_come = self._chance.choice(moments)
        delay_s = self._chance.choice((0.0, self._chance.uniform(0, 0.15)))

        def kill() -> None:
            deadline = time.monotonic() + PATIENCE_S
            while not has_come() and time.monotonic() < deadline:
                time.sleep(0.0005)
            time.sleep(delay_s)
            self._web.kill(0)
            self.figures.kills[self._left_behind()] += 1
            self._web.start(0)

        thread = threading.Thread(target=kill)
        thread.start()
        return thread

    def _left_behind(self) -> str:
        if self._store.corpora_with_moves():
            return "recorded, files not all in their places"
        if self._store.deleted_corpora():
            return "corpus deleted, its folder still there"
        if any(self._home.corpora_dir.glob(f"*/{INCOMING_NAME}/*")):
            return "texts written, not recorded"
        return "nothing left behind"


def make_zip(texts: Texts) -> bytes:
    """Return a zip file with these texts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return packed.getvalue()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
