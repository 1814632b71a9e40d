"""Device slots."""

import pytest

from jobs.devices import device_slots, slot_environment, slots_of


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
