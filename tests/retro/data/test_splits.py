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
