"""A small BERT with its own WordPiece tokenizer, made on the spot."""

from pathlib import Path
from pydoc_data import topics

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, BertTokenizer

CLS, SEP = 101, 102
WIDTH = 32


def save_small_bert(folder: Path, *, seed: int = 0, vocab_size: int = 2000) -> Path:
    """Write config, weights and tokenizer; ids of special tokens are those of BERT cased."""
    folder.mkdir(parents=True, exist_ok=True)
    unused = [f"[unused{number}]" for number in range(1, 100)]
    special = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=False)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False
    )
    learner.train_from_iterator(topics.topics.values(), trainer)
    vocab = learner.get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)))
    BertTokenizer(
        str(folder / "vocab.txt"), do_lower_case=False, model_max_length=512
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=8192, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=512,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def write_prose(folder: Path, num_documents: int, characters: int | None = None) -> Path:
    """Write real prose, one document per topic of the language reference."""
    for name in sorted(topics.topics)[:num_documents]:
        path = folder / name[:1] / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(topics.topics[name][:characters])
    return folder
