"""``python -m retro build``: chunk, embed and index a folder of text."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from retro.config.checks import config_from_dict, config_to_dict
from retro.config.corpus import CorpusConfig, Exclusion, IndexKind
from retro.errors import ConfigError
from retro.terminal import Bars, Subparsers, new_place, place, place_or_name

if TYPE_CHECKING:
    from retro.corpus.tokenizer import TokenizerSource


def add_parser(commands: Subparsers) -> None:
    """Add the command to the command line."""
    command = commands.add_parser("build", help="chunk, embed and index a folder of text")
    command.set_defaults(run_command=run)
    command.add_argument(
        "folder", nargs="?", type=place, metavar="FOLDER", help="text, or another corpus"
    )
    command.add_argument("--sample", metavar="NAME", help="a built-in sample: python-docs")
    command.add_argument("--out", required=True, type=new_place, metavar="CORPUS")
    command.add_argument("--chunk-size", type=int, help="tokens per chunk (default 64)")
    command.add_argument("--num-neighbors", type=int, help="neighbors per chunk (default 2)")
    command.add_argument("--vocab-size", type=int, help="default: chosen by corpus size")
    command.add_argument(
        "--tokenizer",
        type=place_or_name,
        metavar="MODEL",
        help="cut the text for a model: a run, a saved model, another corpus, smollm2-135m, or "
        "the folder or Hub name of a pretrained model",
    )
    command.add_argument(
        "--new-tokenizer",
        action="store_true",
        help="train it on the present documents; a corpus built again keeps it otherwise",
    )
    command.add_argument(
        "--encoder", type=place_or_name, help="Hub name or folder (default: the bundled MiniLM)"
    )
    command.add_argument("--exclusion", choices=[choice.value for choice in Exclusion])
    command.add_argument("--index-kind", choices=[choice.value for choice in IndexKind])


def run(arguments: argparse.Namespace) -> None:
    """Chunk, embed and index a folder of text, or the documents of another corpus."""
    from retro.corpus.files import is_corpus  # noqa: PLC0415  # --help is fast
    from retro.corpus.ingest import ingest_folder  # noqa: PLC0415
    from retro.corpus.tokenizer import (  # noqa: PLC0415
        find_tokenizer,
        is_model_name,
        tokenizer_words,
    )
    from retro.data.documents import (  # noqa: PLC0415
        DOCUMENTS_NAME,
        SkippedFile,
        store_document,
    )
    from retro.data.samples import sample_documents  # noqa: PLC0415

    if (arguments.folder is None) == (arguments.sample is None):
        raise ConfigError("build needs either a FOLDER or --sample NAME, and not both.")
    name = arguments.tokenizer
    source = None if name is None or is_model_name(name) else find_tokenizer(name)
    config = _corpus_config(arguments, source)
    bars = Bars()

    def on_skip(file: SkippedFile) -> None:
        tqdm.write(f"skipped {file.path}: {file.reason}", file=sys.stderr)

    if arguments.sample is not None:
        for document in sample_documents(arguments.sample):
            store_document(arguments.out, document)
    else:
        inner = DOCUMENTS_NAME if is_corpus(arguments.folder) else ""
        ingest_folder(arguments.folder / inner, arguments.out, bars, on_skip)
    from retro.corpus.build import build_corpus  # noqa: PLC0415  # imports torch and FAISS
    from retro.corpus.corpus import Corpus  # noqa: PLC0415
    from retro.data.tokenizer import NOT_LOSSLESS  # noqa: PLC0415

    summary = build_corpus(
        arguments.out,
        config,
        on_progress=bars,
        tokenizer=source,
        new_tokenizer=arguments.new_tokenizer,
    )
    bars.close()
    recall = "" if summary.recall is None else f", recall {summary.recall:.3f}"
    print(
        f"{arguments.out.name}: {summary.num_documents} documents, {summary.num_tokens} tokens, "
        f"{summary.num_chunks} chunks of {summary.chunk_size}, {summary.num_retrievable} of them "
        f"in the retrieval database; {summary.index_kind} index{recall}; "
        f"vocabulary {summary.vocab_size}, {tokenizer_words(summary.to_dict())}; "
        f"neighbors exclude the same {summary.exclusion}"
    )
    if not Corpus.open(arguments.out).tokenizer.is_lossless:
        print(NOT_LOSSLESS)
    if summary.num_short:
        print(
            f"{summary.num_short} of {summary.num_chunks} chunks have fewer than "
            f"{summary.num_neighbors} neighbors, because too little text is left to choose from"
        )


def _corpus_config(arguments: argparse.Namespace, source: "TokenizerSource | None") -> CorpusConfig:
    """Return the settings of a build: chosen ones, then those of the corpus that is there."""
    from retro.corpus.files import is_corpus, read_config  # noqa: PLC0415  # --help is fast

    names = ("chunk_size", "num_neighbors", "vocab_size", "encoder", "exclusion", "index_kind")
    chosen = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.tokenizer is not None or arguments.new_tokenizer:
        chosen["tokenizer"] = arguments.tokenizer if source is None else None
    before: dict[str, Any] = {"encoder": os.environ.get("RETRO_ENCODER") or None}
    for folder in (arguments.out, arguments.folder):
        if folder is not None and is_corpus(folder):
            before = config_to_dict(read_config(folder))
            break
    fitting = chosen if source is None else source.settings(chosen)
    return config_from_dict(CorpusConfig, {**before, **fitting})
