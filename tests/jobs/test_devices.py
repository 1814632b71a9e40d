"""Device slots."""

from pathlib import Path

import pytest

from jobs.work.devices import device_slots, slot_environment, slots_of


@pytest.mark.parametrize(
    ("count", "visible", "slots"),
    [
        (0, None, ["cpu"]),
        (0, "0,1", ["cpu"]),
        (1, None, ["cuda:0"]),
        (3, None, ["cuda:0", "cuda:1", "cuda:2"]),
        (4, "2,3", ["cuda:2", "cuda:3"]),
        (4, " 1 , 0 ", ["cuda:1", "cuda:0"]),
        (4, "", ["cpu"]),
        (4, "-1", ["cpu"]),
        (4, "1,-1,2", ["cuda:1"]),
        (2, "0,7,1", ["cuda:0"]),
        (2, "GPU-8932f937,MIG-4a5b", ["cuda:GPU-8932f937", "cuda:MIG-4a5b"]),
    ],
)
def test_one_slot_for_each_device_that_may_be_used(
    count: int, visible: str | None, slots: list[str]
) -> None:
    assert list(slots_of(count, visible)) == slots


def test_a_process_is_confined_to_its_slot() -> None:
    assert slot_environment("cpu") == {}
    assert slot_environment("cuda:GPU-89") == {"CUDA_VISIBLE_DEVICES": "GPU-89"}


def test_every_host_has_a_slot() -> None:
    assert device_slots({})


@pytest.mark.parametrize(
    ("script", "slots"),
    [
        (
            "echo 'GPU 0: H200 (UUID: GPU-1)'; echo 'GPU 1: H200 (UUID: GPU-2)'",
            ["cuda:0", "cuda:1"],
        ),
        ("echo 'GPU 0: H200'; exit 9", ["cpu"]),
        ("echo 'No devices were found'", ["cpu"]),
    ],
)
def test_the_driver_is_asked_for_the_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, slots: list[str]
) -> None:
    put_program(tmp_path, monkeypatch, f"#!/bin/sh\n{script}\n")

    assert list(device_slots({})) == slots


def test_a_driver_that_cannot_be_asked_has_no_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(tmp_path, monkeypatch, "#!/no/such/interpreter\n")

    assert list(device_slots({})) == ["cpu"]


def test_a_host_without_the_driver_has_no_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert list(device_slots({})) == ["cpu"]


def put_program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the driver's tool be this program."""
    program = folder / "nvidia-smi"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
