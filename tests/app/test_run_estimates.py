"""Estimates of runs, where they come from, and the form that shows them."""

import socket
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.pages.new_run import _estimate, fill_form
from app.pages.run_fields import FIELDS, read_model, read_training, write_model
from app.services import estimates
from app.services.services import Services
from app.services.views.system import Device
from jobs.store.states import JobState
from retro.config.training import TrainingConfig
from retro.errors import ConfigError
from retro.model.pretrained.bundled import BUNDLED_NAME
from tests.app.test_run_curves import measure
from tests.browser.run_rows import add_corpus, add_run


@pytest.fixture
def corpus_id(services: Services) -> str:
    return add_corpus(services.store)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device(kind="cpu", name="CPU, 2 threads", memory_bytes=16_000_000_000)
    monkeypatch.setattr(estimates, "list_devices", lambda: [device])
    return device


def estimate(client: TestClient, corpus_id: str, **body: Any) -> Any:
    return client.post("/api/v1/runs/estimate", json={"corpus_id": corpus_id, **body})


def add_measured(services: Services, corpus_id: str, speed: float, *, host: str = "") -> str:
    """Add a run that measured a speed on a host, this one if none is named."""
    store = services.store
    run_id = add_run(store, corpus_id, f"at {speed}", step=10)
    store.submit("train", run_id=run_id, settings={})
    job = store.claim(host or socket.gethostname(), "cpu")
    assert job is not None
    measure(services, run_id, "tokens_per_second", {5: speed, 10: speed})
    store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING)
    store.transition(job.id, job.lease_token, JobState.RUNNING, JobState.SUCCEEDED)
    return run_id


def test_without_any_run_the_figure_is_rough_and_said_to_be(
    client: TestClient, services: Services, corpus_id: str
) -> None:
    add_measured(services, corpus_id, 1000.0, host="elsewhere")

    found = estimate(client, corpus_id).json()

    assert found["basis"]["kind"] == "rough"
    assert "20 GFLOP/s for each CPU thread" in found["basis"]["text"]
    assert found["seconds"] > 0
    assert services.runs.list_runs()[0].name == "at 1000.0"


def test_a_run_as_before_takes_the_time_that_was_measured(
    client: TestClient, services: Services, corpus_id: str
) -> None:
    add_measured(services, corpus_id, 1000.0)

    found = estimate(client, corpus_id, training={"max_steps": 500}).json()

    assert found["basis"]["kind"] == "measured"
    assert "'at 1000.0'" in found["basis"]["text"]
    assert found["tokens_per_second"] == pytest.approx(1000)
    assert found["seconds"] == pytest.approx(500 * 4 * 256 / 1000)


def test_the_time_follows_the_settings(
    client: TestClient, services: Services, corpus_id: str
) -> None:
    add_measured(services, corpus_id, 1000.0)
    base = estimate(client, corpus_id).json()

    twice = estimate(client, corpus_id, training={"accumulation": 2}).json()
    again = estimate(client, corpus_id, training={"gradient_checkpointing": True}).json()
    small = estimate(client, corpus_id, preset="small").json()

    assert twice["seconds"] == pytest.approx(2 * base["seconds"])
    assert twice["needed_bytes"] == base["needed_bytes"]
    assert again["seconds"] == pytest.approx(4 / 3 * base["seconds"])
    assert again["needed_bytes"] == again["memory_checkpointed"]["total"] < base["needed_bytes"]
    assert small["tokens_per_second"] < base["tokens_per_second"]
    assert small["parameters"] > base["parameters"]


def test_what_does_not_fit_the_device_is_told(
    client: TestClient, services: Services, corpus_id: str, device: Device
) -> None:
    assert estimate(client, corpus_id).json()["fits"] is True
    assert estimate(client, corpus_id, preset="retro-7.5b").json()["fits"] is False
    shown = _estimate(services, corpus_id, None, "retro-7.5b", "", [None] * len(FIELDS))
    assert "more than this device has (16 GB)" in shown

    device.memory_bytes = None

    assert estimate(client, corpus_id, preset="retro-7.5b").json()["fits"] is None


@pytest.mark.parametrize(
    ("name", "words"), [("NVIDIA H100 80GB", "25% of the GPU's peak"), ("Odd card", "40 TFLOP/s")]
)
def test_a_gpu_has_a_rough_figure_of_its_own(
    client: TestClient, corpus_id: str, device: Device, name: str, words: str
) -> None:
    slow = estimate(client, corpus_id).json()
    device.kind, device.name = "cuda", name

    found = estimate(client, corpus_id).json()

    assert words in found["basis"]["text"]
    assert found["seconds"] < slow["seconds"] / 10
    assert found["memory"]["activations"] < slow["memory"]["activations"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"training": {"batch_size": 0}}, 422, "batch_size must be a whole number"),
        ({"training": {"batchsize": 1}}, 422, "Did you mean 'batch_size'"),
        ({"preset": "huge"}, 422, "preset must be one of"),
        ({"corpus_id": "nothing"}, 404, "There is no corpus nothing"),
        ({"model": [1]}, 422, "model"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    client: TestClient, corpus_id: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = estimate(client, **{"corpus_id": corpus_id, **body})

    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


def test_the_form_has_every_setting_of_the_training() -> None:
    assert sorted(FIELDS) == sorted(TrainingConfig.__dataclass_fields__)


def test_only_what_was_changed_is_kept_from_the_form() -> None:
    defaults = TrainingConfig()
    before = {name: getattr(defaults, name) for name in FIELDS}
    values = {**before, "batch_size": 3, "packing": False, "seed": None, "precision": "float32"}

    changed = read_training([values[name] for name in FIELDS], defaults)

    assert changed == {"batch_size": 3, "packing": False, "precision": "float32"}


def test_model_settings_are_lines_and_come_back_as_they_were() -> None:
    model = {"dec_depth": 6, "dec_cross_attn_layers": [2, 4], "use_deepnet": True}

    assert read_model(write_model(model)) == model
    assert read_model("\n dec_dim = 64 \n\n") == {"dec_dim": 64}
    with pytest.raises(ConfigError, match="NAME=VALUE, got 'dec_dim 64'"):
        read_model("dec_dim 64")


def test_a_duplicate_fills_the_form_with_the_settings_of_its_run(
    services: Services, corpus_id: str
) -> None:
    run_id = add_run(services.store, corpus_id, "first", step=10, seed=7, packing=False)

    box, _, base, preset, name, model, _, parent, shown, *values = fill_form(
        services, {"duplicate": run_id}
    )
    filled = dict(zip(FIELDS, values, strict=True))

    assert (box["visible"], preset["value"], name, model) == (True, "tiny", "first (2)", "")
    assert base["value"] == "scratch"
    assert (parent, filled["seed"], filled["packing"], filled["max_steps"]) == (
        run_id, 7, False, 600,
    )  # fmt: skip
    assert "Parameters" in shown


@pytest.mark.parametrize("query", [{"run": "x"}, {"compare": "a,b"}, {"duplicate": "nothing"}])
def test_the_form_is_on_the_list_only(
    services: Services, corpus_id: str, query: dict[str, str]
) -> None:
    assert fill_form(services, {})[0]["visible"] is True
    assert fill_form(services, query)[0]["visible"] is False
    assert len(fill_form(services, query)) == 9 + len(FIELDS)
    assert corpus_id


def test_a_wrong_value_is_told_in_the_form_while_typing(services: Services, corpus_id: str) -> None:
    values: list[Any] = [None] * len(FIELDS)
    values[FIELDS.index("batch_size")] = -1

    wrong = _estimate(services, corpus_id, None, "tiny", "", values)
    hostile = _estimate(services, corpus_id, None, "tiny", "<b>=1", [None] * len(FIELDS))

    assert "batch_size must be a whole number between 1 and 65536, got -1." in wrong
    assert "&lt;b&gt;" in hostile
    assert "<b>" not in hostile


@pytest.mark.parametrize(("mode", "trained"), [("gates", 270), ("lora", 921_870)])
def test_modes_of_a_pretrained_model_are_estimated_without_loading_it(
    client: TestClient, corpus_id: str, mode: str, trained: int
) -> None:
    found = estimate(client, corpus_id, base=BUNDLED_NAME, mode=mode).json()

    assert (found["parameters"], found["trained"]) == (134_515_008, trained)
    assert 1e9 < found["needed_bytes"] < 3e9
    assert found["memory_checkpointed"]["total"] < found["memory"]["total"]
    assert 60 < found["seconds"] < 20_000
    assert found["checkpoint_bytes"] < 100_000_000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"base": "nobody/nothing"}, "known only when the model is on this machine"),
        ({"mode": "lora"}, "mode and revision belong to a pretrained model, got 'lora' and no"),
        ({"base": BUNDLED_NAME, "mode": "most"}, "mode must be one of gates, lora, full"),
        ({"base": BUNDLED_NAME, "mode": "lora", "preset": "tiny"}, "either a preset"),
        ({"preset": "gates"}, "gates is a way to train a pretrained model"),
        ({"base": "a\0b"}, "base"),
    ],
)
def test_a_wrong_choice_of_a_base_is_one_sentence(
    client: TestClient, corpus_id: str, body: dict[str, Any], words: str
) -> None:
    answer = estimate(client, corpus_id, **body)

    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text


def test_the_form_begins_with_the_model_that_a_corpus_was_cut_for(
    services: Services, corpus_id: str
) -> None:
    services.corpora.change(corpus_id, settings={"tokenizer": BUNDLED_NAME})

    _, _, base, preset, *rest = fill_form(services, {})

    assert (base["value"], preset["value"]) == (BUNDLED_NAME, "lora")
    assert [name for _, name in preset["choices"]] == ["gates", "lora", "full"]
    assert "921,870 numbers are trained" in rest[4]
    shown = _estimate(
        services, corpus_id, BUNDLED_NAME, "gates", "lora_rank=4", [None] * len(FIELDS)
    )
    assert "270 numbers are trained" in shown
