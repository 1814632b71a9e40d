"""What becomes of a text when files, the app or its own writer are lost."""

import re
import threading
import time
from collections.abc import Iterator

import pytest

from app.errors import MissingError
from app.services.live import PartialChunk
from app.services.services import Services
from jobs.store.store import Store
from retro.config.sampling import SamplingConfig
from retro.generation.events import ChunkEvent, ChunkStart, TokenEvent
from retro.generation.generate import Generator
from tests.app.real_app import LIMITS, Trained, run_waiting_jobs
from tests.app.texts import body, moved_away, post, start_long, until_chunks, wait, wait_in

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(trained: Trained) -> Iterator[Services]:
    """The same home, with nothing opened yet."""
    home = trained.services.home
    made = Services(home, Store(home.database_url()), limits=LIMITS)
    yield made
    made.generations.close()
    made.store.close()


def test_a_deleted_checkpoint_is_one_clear_sentence(trained: Trained) -> None:
    folder = trained.services.home.run_dir(trained.run_id) / "checkpoints" / "step-00000002"
    away = folder.with_name("away")
    folder.rename(away)
    try:
        answer = post(trained, checkpoint_step=2)
    finally:
        away.rename(folder)

    assert answer.status_code == 404
    assert "has no checkpoint at step 2. It has: 4" in answer.json()["detail"]
    assert post(trained, checkpoint_step=2).status_code == 200


def test_the_newest_checkpoint_there_is_writes_when_the_last_was_deleted(trained: Trained) -> None:
    folder = trained.services.home.run_dir(trained.run_id) / "checkpoints" / "step-00000004"
    hidden = folder.with_name("elsewhere")
    folder.rename(hidden)
    try:
        answer = post(trained)
    finally:
        hidden.rename(folder)

    assert answer.status_code == 200
    assert answer.json()["settings"]["checkpoint_step"] == 2


@pytest.mark.parametrize(
    ("what", "words"),
    [("corpus", "Corpus 'letters' was deleted"), ("run", "Run 'first' was deleted")],
)
def test_what_is_deleted_under_the_writer_ends_the_text_and_keeps_it(
    trained: Trained, what: str, words: str
) -> None:
    home = trained.services.home
    folder = home.run_dir(trained.run_id)
    if what == "corpus":
        folder = home.corpus_dir(trained.corpus_id)
    started = start_long(trained)
    until_chunks(trained, started["id"])

    with moved_away(folder):
        failed = wait(trained, started["id"])

    assert failed["state"] == "failed"
    assert re.search(words, failed["message"])
    assert len(failed["chunks"]) >= 4
    assert post(trained).status_code == 200


def test_a_text_whose_corpus_is_gone_goes_on_without_retrieval(trained: Trained) -> None:
    services = trained.services
    corpus = services.corpora.copy(trained.corpus_id, run_id=trained.run_id)
    run_waiting_jobs(services)
    parent = post(trained, corpus_id=corpus.id).json()
    services.corpora.delete(corpus.id)

    for path, wanted in (("continue", {}), ("branch", {"chunk_index": len(parent["chunks"])})):
        refused = trained.client.post(f"/api/v1/generations/{parent['id']}/{path}", json=wanted)
        assert refused.status_code == 404
        assert "was deleted. Branch with retrieval off" in refused.json()["detail"]
    child = services.generations.branch(
        parent["id"], chunk_index=len(parent["chunks"]), retrieval="off"
    )
    assert wait(trained, child.id)["state"] == "succeeded"


def test_a_run_deleted_while_its_text_waits_is_named(trained: Trained) -> None:
    first, second = start_long(trained), start_long(trained)
    with moved_away(trained.services.home.run_dir(trained.run_id)):
        wait(trained, first["id"])
        failed = wait(trained, second["id"])

    assert failed["state"] == "failed"
    assert "Run 'first' was deleted" in failed["message"]


def test_a_checkpoint_deleted_while_the_text_waits_is_named(trained: Trained) -> None:
    first = start_long(trained)
    second = start_long(trained, checkpoint_step=2)
    checkpoints = trained.services.home.run_dir(trained.run_id) / "checkpoints"

    with moved_away(checkpoints / "step-00000002"):
        trained.services.generations.stop(first["id"])
        failed = wait(trained, second["id"])

    assert failed["state"] == "failed"
    assert "has no checkpoint at step 2. It has: 4." in failed["message"]


class FailsLater(threading.Event):
    """A stop sign that breaks when it is looked at for the n-th time."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        if self.left < 0:
            raise OSError("the disk is gone")
        return False


def test_tokens_of_a_chunk_that_an_error_cuts_off_are_kept(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = start_long(trained), start_long(trained)
    live = trained.services.generations._writer.find(second["id"])
    assert live is not None
    live.stop = FailsLater(16 + 7)
    trained.services.generations.stop(first["id"])

    failed = wait(trained, second["id"])

    written = [chunk for chunk in failed["chunks"] if not chunk["is_prompt"]]
    assert failed["state"] == "failed"
    assert "fault in the program" in failed["message"]
    assert "the disk is gone" in caplog.text
    assert [len(chunk["token_ids"]) for chunk in written] == [16, 7]
    assert written[1]["neighbors"]
    longer = trained.services.generations.continue_text(failed["id"], max_new_tokens=9)
    whole = wait(trained, longer.id)
    expected = post(trained, seed=0, max_new_tokens=32).json()
    assert whole["text"] == expected["text"]


def test_a_chunk_cut_off_is_stored_as_the_engine_would_have_told_it(trained: Trained) -> None:
    home = trained.services.home
    generator = Generator.open(
        home.run_dir(trained.run_id), corpus_dir=home.corpus_dir(trained.corpus_id)
    )
    config = SamplingConfig(max_new_tokens=3 * 16 + 5, seed=3)
    compared = 0
    chunk: PartialChunk | None = None
    for event in generator.generate(body(trained)["prompt"], config):
        if isinstance(event, ChunkStart):
            chunk = PartialChunk.begin(event, None)
        elif isinstance(event, TokenEvent):
            assert chunk is not None
            chunk.add(event)
        # The last one may end with a character that was never finished.
        elif isinstance(event, ChunkEvent) and chunk is not None and len(chunk.token_ids) == 16:
            told, kept = event.chunk.to_dict(), chunk.ended().to_dict()
            # Only the finished chunk was compared from the neighbors' side.
            compared += bool(told["neighbors"])
            assert {**kept, "neighbors": None} == {**told, "neighbors": None}
            assert [n["chunk_id"] for n in kept["neighbors"]] == [
                n["chunk_id"] for n in told["neighbors"]
            ]
    assert compared >= 3


def test_a_text_that_was_cut_off_by_a_restart_says_so(trained: Trained) -> None:
    row = trained.services.store.create_generation(
        trained.run_id, trained.corpus_id, "x", {"retrieval": "on", "seed": 0}
    )

    trained.services.generations.recover()

    generation = trained.services.generations.get(row.id)
    assert generation.state == "interrupted"
    assert "restarted" in generation.message


def test_what_is_written_when_the_app_stops_says_so(trained: Trained, fresh: Services) -> None:
    long = {"max_new_tokens": 100_000}
    started = fresh.generations.start(run_id=trained.run_id, prompt="the cat", sampling=long)
    waiting = fresh.generations.start(run_id=trained.run_id, prompt="the cat", sampling=long)
    while not fresh.generations.get(started.id).chunks:
        time.sleep(0.01)

    fresh.generations.close()

    found = [fresh.generations.get(item.id) for item in (started, waiting)]
    assert [item.state for item in found] == ["interrupted", "interrupted"]
    assert all("The app was stopped" in item.message for item in found)
    assert [bool(item.chunks) for item in found] == [True, False]


def test_retrieval_off_never_touches_the_corpus(trained: Trained, fresh: Services) -> None:
    expected = post(trained, retrieval="off").json()["text"]
    with moved_away(fresh.home.corpus_dir(trained.corpus_id)):
        answer = fresh.generations.start(
            run_id=trained.run_id,
            prompt=body(trained)["prompt"],
            retrieval="off",
            sampling={"max_new_tokens": 40, "seed": 3},
        )
        found = wait_in(fresh, answer.id)
        with pytest.raises(MissingError, match="'letters' are gone"):
            fresh.generations.start(run_id=trained.run_id, prompt="the cat")

    assert (found["state"], found["text"]) == ("succeeded", expected)
    assert found["settings"]["corpus_fingerprint"] is None


def test_a_text_is_deleted_when_it_has_ended(trained: Trained) -> None:
    started = start_long(trained)
    path = f"/api/v1/generations/{started['id']}"

    refused = trained.client.delete(path)
    trained.client.post(f"{path}/stop")
    wait(trained, started["id"])
    done = trained.client.delete(path)

    assert (refused.status_code, done.status_code) == (409, 204)
    assert "Stop it first" in refused.json()["detail"]
    assert trained.client.get(path).status_code == 404
    assert trained.client.get(f"{path}/events").status_code == 404
