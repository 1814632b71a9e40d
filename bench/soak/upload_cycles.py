"""Uploads, removals, copies and builds, one after the other and at once, with kills in them."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from bench.soak.upload_promises import KnownCorpus, check_documents, check_files
from bench.soak.upload_traffic import Traffic, UploadFigures
from jobs.home import Home
from jobs.store.states import JobState
from jobs.store.store import Store
from jobs.work.child import run_job
from retro.data.documents import DOCUMENTS_NAME

NUM_CORPORA = 3
CHECK_EVERY = 20
OPERATIONS = {
    "upload": 62,
    "zip": 12,
    "double": 10,
    "remove": 8,
    "delete": 2,
    "build": 3,
    "copy": 3,
}
"""What is done, and how often of a hundred times."""


class UploadSoak:
    """A folder, a database, two web servers, and what the corpora must hold.

    Args:
        home: The folder.
        store: The database.
        chance: Where chance comes from.
        tell: Takes sentences about the progress.
        most_files: Of one upload.
        kill_chance: Of each request that may be interrupted.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        chance: random.Random,
        tell: Callable[[str], None],
        most_files: int = 120,
        kill_chance: float = 0.2,
    ) -> None:
        home.create()
        self._home = home
        self._store = store
        self._chance = chance
        self._tell = tell
        self._known: dict[str, KnownCorpus] = {}
        self._deleted: set[str] = set()
        self._traffic = Traffic(home, store, chance, most_files, kill_chance)
        self._pool = ThreadPoolExecutor(4)
        self._operations = {
            "upload": self._upload,
            "zip": lambda corpus_id: self._upload(corpus_id, as_zip=True),
            "double": self._double,
            "remove": self._remove,
            "delete": self._delete,
            "build": self._build,
            "copy": self._copy,
        }

    @property
    def figures(self) -> UploadFigures:
        """What was done, and what was broken."""
        return self._traffic.figures

    def run(self, uploads: int, first: Iterable[str] = ()) -> UploadFigures:
        """Do so many uploads, and other things between them, and check what is there.

        Args:
            uploads: How many.
            first: What is done before chance decides.
        """
        begun, planned = time.monotonic(), list(first)
        while self.figures.uploads < uploads or planned:
            while len(self._known) < NUM_CORPORA:
                self._create()
            names, shares = list(OPERATIONS), list(OPERATIONS.values())
            name = planned.pop(0) if planned else self._chance.choices(names, shares)[0]
            before = self.figures.uploads
            self._operations[name](self._chance.choice(list(self._known)))
            self.figures.done[name] += 1
            if self.figures.uploads // CHECK_EVERY > before // CHECK_EVERY:
                self._check()
                self._tell(f"{self.figures.uploads} uploads, {len(self.figures.broken)} broken")
        self._check()
        self.figures.seconds = time.monotonic() - begun
        return self.figures

    def close(self) -> None:
        """End the servers."""
        self._pool.shutdown()
        self._traffic.close()

    def _create(self) -> None:
        """Make a corpus; who asks again gets the same one, from the other server too."""
        name = f"corpus {self._traffic.new_mark()}"
        kill = self._traffic.perhaps_kill()
        made = self._traffic.send_until_answered(0, "/corpora", name, {"name": name})
        again = self._traffic.send_until_answered(1, "/corpora", name, {"name": name})
        _wait_for(kill)
        self._known[made["id"]] = KnownCorpus()
        number = sum(row.name == name for row in self._store.list_corpora())
        # A process that is killed after it has made one, and before it has noted that, makes two.
        if again != made or number > (1 if kill is None else 2):
            self._break([f"{name} was made {number} times"])

    def _upload(self, corpus_id: str, *, as_zip: bool = False) -> None:
        texts, key = self._traffic.new_texts(), self._traffic.new_mark()
        kill = self._traffic.perhaps_kill(corpus_id)
        server = self._chance.randrange(2) if kill is None else 0
        status = self._traffic.send_texts(server, corpus_id, texts, key, as_zip=as_zip)
        _wait_for(kill)
        self._known[corpus_id].learn(texts, status)
        if kill is not None:
            self._check()
        if status is None and self._chance.random() < 0.5:
            # It may have been done, or not; the other server must find out.
            again = self._traffic.send_texts(1, corpus_id, texts, key, as_zip=as_zip)
            self._known[corpus_id].learn(texts, again)
            if again != 200:
                self._break([f"an upload that was sent again was answered {again}"])

    def _double(self, corpus_id: str) -> None:
        """Send different texts for the same paths to both servers at once."""
        both = [self._traffic.new_texts()]
        both.append({path: f"{text} (other)" for path, text in both[0].items()})
        kill = self._traffic.perhaps_kill(corpus_id)
        sent = [
            self._pool.submit(
                self._traffic.send_texts, number, corpus_id, texts, self._traffic.new_mark()
            )
            for number, texts in enumerate(both)
        ]
        statuses = [future.result() for future in sent]
        _wait_for(kill)
        for path in both[0].keys() | both[1].keys():
            outcomes = [
                (texts.get(path), status) for texts, status in zip(both, statuses, strict=True)
            ]
            self._known[corpus_id].learn_of_both(path, outcomes)
        self._check()

    def _remove(self, corpus_id: str) -> None:
        known = self._known[corpus_id]
        if not known.present():
            return
        path = self._chance.choice(known.present())
        kill = self._traffic.perhaps_kill()
        status, _ = self._traffic.send(0, "DELETE", f"/corpora/{corpus_id}/documents/{path}")
        _wait_for(kill)
        known.learn_removal(path, status)
        self._check()

    def _delete(self, corpus_id: str) -> None:
        """Delete a corpus while files are sent to it."""
        texts, key = self._traffic.new_texts(), self._traffic.new_mark()
        sent = self._pool.submit(self._traffic.send_texts, 1, corpus_id, texts, key)
        time.sleep(self._chance.uniform(0, 0.05))
        kill = self._traffic.perhaps_kill()
        status, _ = self._traffic.send(0, "DELETE", f"/corpora/{corpus_id}")
        uploaded = sent.result()
        _wait_for(kill)
        if any(row.id == corpus_id for row in self._store.list_corpora()):
            self._known[corpus_id].learn(texts, uploaded)
            if status == 204:
                self._break([f"corpus {corpus_id} is there after it was deleted"])
        else:
            del self._known[corpus_id]
            self._deleted.add(corpus_id)
        self._check()

    def _copy(self, corpus_id: str) -> None:
        """Copy a corpus while files are sent to it: the copy is what it was at one moment."""
        if not self._known[corpus_id].present():
            return
        before = self._store.document_sums(corpus_id)
        texts, key = self._traffic.new_texts(), self._traffic.new_mark()
        sent = self._pool.submit(self._traffic.send_texts, 1, corpus_id, texts, key)
        time.sleep(self._chance.uniform(0, 0.05))
        status, made = self._traffic.send(0, "POST", f"/corpora/{corpus_id}/copy")
        self._known[corpus_id].learn(texts, sent.result())
        if status != 202:
            self._break([f"a copy was answered {status}"])
            return
        after = self._store.document_sums(corpus_id)
        copied = self._store.document_sums(made["id"])
        if copied not in (before, after):
            self._break([f"the copy {made['id']} mixes two moments of corpus {corpus_id}"])
        self._break(check_files(self._store, self._home, made["id"]))
        self._store.request_cancel(made["build_job_id"])
        self._traffic.send(1, "DELETE", f"/corpora/{made['id']}")
        self._deleted.add(made["id"])

    def _build(self, corpus_id: str) -> None:
        """Build a corpus while files are sent to it: of the documents that are recorded."""
        self._check()
        stray = self._home.corpus_dir(corpus_id) / DOCUMENTS_NAME / "stray.txt"
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_text("no record names this")
        texts, key = self._traffic.new_texts(), self._traffic.new_mark()
        sent = self._pool.submit(self._traffic.send_texts, 0, corpus_id, texts, key)
        time.sleep(self._chance.uniform(0, 0.05))
        status, _ = self._traffic.send(1, "POST", f"/corpora/{corpus_id}/build")
        self._known[corpus_id].learn(texts, sent.result())
        if status == 202:
            late = self._traffic.send_texts(
                1, corpus_id, {"late.txt": "late"}, self._traffic.new_mark()
            )
            if late != 409:
                self._break([f"files that came during a build were answered {late}"])
            self._work_off(corpus_id)
        stray.unlink()
        self._check()

    def _work_off(self, corpus_id: str) -> None:
        """Do the build that waits, here."""
        job = self._store.claim("soak")
        assert job is not None
        assert job.lease_token is not None
        run_job(self._store, self._home, job.id, job.lease_token)
        done = self._store.get_job(job.id)
        number = self._store.count_documents(corpus_id)
        if done.state is not JobState.SUCCEEDED:
            self._break([f"build {job.id} is {done.state}: {done.error}"])
        elif not done.message.startswith(f"{number:,} document"):
            self._break([f"of {number} documents, the build says: {done.message}"])

    def _check(self) -> None:
        self.figures.checks += 1
        for corpus_id, known in self._known.items():
            self._break(check_files(self._store, self._home, corpus_id))
            self._break(check_documents(self._home, corpus_id, known))
        waiting = self._store.deleted_corpora()
        for corpus_id in self._deleted:
            if self._home.corpus_dir(corpus_id).exists() and corpus_id not in waiting:
                self._break([f"the folder of corpus {corpus_id} is there, which was deleted"])

    def _break(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.figures.broken.append(sentence)
            self._tell(f"BROKEN: {sentence}")


def _wait_for(kill: threading.Thread | None) -> None:
    if kill is not None:
        kill.join()
