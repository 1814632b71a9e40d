"""Which documents are held out."""

import pytest

from retro.data.splits import DocumentSource, Split, split_documents


def sources(*sizes: int) -> list[DocumentSource]:
    return [
        DocumentSource(path=f"{row:04d}.txt", bytes=size, sha256=f"{row:064x}")
        for row, size in enumerate(sizes)
    ]


def held_out(splits: list[tuple[DocumentSource, Split]]) -> set[str]:
    return {source.path for source, split in splits if split is Split.VALIDATION}


@pytest.mark.parametrize("num_documents", [5, 20, 100, 1000])
def test_about_the_wanted_share_is_held_out(num_documents: int) -> None:
    splits = split_documents(sources(*[1000] * num_documents), 0.05, seed=0)

    assert len(held_out(splits)) == max(1, round(0.05 * num_documents))


@pytest.mark.parametrize("sizes", [(9,), (5, 5), (3, 4, 3)])
def test_few_documents_are_shared_by_both_sides(sizes: tuple[int, ...]) -> None:
    splits = split_documents(sources(*sizes), 0.05, seed=0)

    both = [source.bytes for source, split in splits if split is Split.BOTH]
    assert both == [max(sizes)]
    assert not held_out(splits)


def test_a_huge_document_is_not_held_out() -> None:
    for seed in range(30):
        assert "0000.txt" not in held_out(
            split_documents(sources(10_000, *[100] * 10), 0.05, seed=seed)
        )


def test_tiny_documents_alone_are_not_enough() -> None:
    for seed in range(30):
        splits = split_documents(sources(*[1] * 20, *[1000] * 20), 0.05, seed=seed)
        kept = sum(source.bytes for source, split in splits if split is Split.VALIDATION)
        assert kept >= 0.025 * 20_020


def test_order_is_train_then_both_then_validation() -> None:
    splits = [split for _, split in split_documents(sources(*[100] * 40), 0.2, seed=1)]

    assert splits == [Split.TRAIN] * 32 + [Split.VALIDATION] * 8


def test_the_choice_follows_the_seed_and_not_the_other_documents() -> None:
    many = sources(*[100] * 200)

    first = held_out(split_documents(many, 0.1, seed=0))

    assert first == held_out(split_documents(many, 0.1, seed=0))
    assert first != held_out(split_documents(many, 0.1, seed=1))
    fewer = held_out(split_documents(many[:190], 0.1, seed=0))
    assert len(first & fewer) >= 15


def as_before(splits: list[tuple[DocumentSource, Split]]) -> dict[str, Split]:
    return {source.path: split for source, split in splits}


@pytest.mark.parametrize("seed", range(30))
def test_a_document_that_is_added_can_be_retrieved(seed: int) -> None:
    old = sources(*[1000] * 8)
    before = as_before(split_documents(old, 0.05, seed))
    new = DocumentSource(path="new.txt", bytes=900, sha256="0" * 64)

    splits = as_before(split_documents([*old, new], 0.05, seed, before))

    assert splits == {**before, "new.txt": Split.TRAIN}


@pytest.mark.parametrize("seed", range(5))
def test_what_was_trained_on_is_never_held_out_later(seed: int) -> None:
    old = sources(*[1000] * 40)
    before = as_before(split_documents(old, 0.1, seed))
    grown = sources(*[1000] * 100)

    splits = split_documents(grown, 0.1, seed, before)

    old_paths = set(before)
    assert held_out(splits) & old_paths == {
        path for path, split in before.items() if split is Split.VALIDATION
    }
    assert len(held_out(splits)) == 10


def test_the_document_that_was_shared_stays_shared_until_there_are_many() -> None:
    old = sources(1000)
    before = as_before(split_documents(old, 0.05, 0))
    assert before == {"0000.txt": Split.BOTH}

    few = as_before(split_documents(sources(1000, 200, 200), 0.05, 0, before))
    many = as_before(split_documents(sources(1000, *[200] * 60), 0.05, 0, before))

    assert few == {"0000.txt": Split.BOTH, "0001.txt": Split.TRAIN, "0002.txt": Split.TRAIN}
    assert many["0000.txt"] is Split.TRAIN
    assert list(many.values()).count(Split.VALIDATION) == 3


def test_what_was_held_out_may_be_gone() -> None:
    old = sources(*[1000] * 8)
    before = as_before(split_documents(old, 0.05, 0))
    left = [source for source in old if before[source.path] is Split.TRAIN]

    assert len(held_out(split_documents(left, 0.05, 0, before))) == 1


@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_a_large_share_is_held_out_whole(fraction: float) -> None:
    splits = split_documents(sources(*[1000] * 40), fraction, seed=0)

    assert len(held_out(splits)) == round(fraction * 40)


@pytest.mark.parametrize("seed", range(20))
def test_documents_of_all_sizes_leave_most_bytes_to_retrieve(seed: int) -> None:
    sizes = [1, 2400, 2300, 2200, 2100, 1000]

    splits = split_documents(sources(*sizes), 0.3, seed)

    assert sum(source.bytes for source, split in splits if split is Split.VALIDATION) <= 4500


@pytest.mark.parametrize("seed", range(5))
def test_in_the_place_of_what_is_gone_new_documents_are_held_out(seed: int) -> None:
    old = sources(*[1000] * 40)
    before = as_before(split_documents(old, 0.1, seed))
    left = [source for source in old if before[source.path] is Split.TRAIN]
    new = [source for source in sources(*[1000] * 50) if source.path not in before]

    splits = split_documents(sorted([*left, *new], key=lambda one: one.path), 0.1, seed, before)

    assert len(held_out(splits)) == 5
    assert held_out(splits) <= {source.path for source in new}
