"""The command line: ``python -m retro build | train | generate | search | export``."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from retro.config import (
    CorpusConfig,
    Exclusion,
    IndexKind,
    SamplingConfig,
    config_from_dict,
    config_to_dict,
)
from retro.errors import ConfigError, RetroError
from retro.model.presets import PRESETS
from retro.run import CONFIG_NAME, Run, create_run, open_run
from retro.terminal import Bars, MetricsFile, OneLineParser

if TYPE_CHECKING:
    from retro.retrieval.corpus_tokenizer import TokenizerSource


if TYPE_CHECKING:
    from retro.generation.events import Event


def build(arguments: argparse.Namespace) -> None:
    """Chunk, embed and index a folder of text, or the documents of another corpus."""
    from retro.data.documents import (  # noqa: PLC0415  # --help is fast
        DOCUMENTS_NAME,
        SkippedFile,
        store_document,
    )
    from retro.data.samples import sample_documents  # noqa: PLC0415
    from retro.retrieval.corpus import build_corpus, ingest_folder, is_corpus  # noqa: PLC0415
    from retro.retrieval.corpus_tokenizer import (  # noqa: PLC0415
        find_tokenizer,
        tokenizer_words,
    )

    if (arguments.folder is None) == (arguments.sample is None):
        raise ConfigError("build needs either a FOLDER or --sample NAME, and not both.")
    source = None if arguments.tokenizer is None else find_tokenizer(arguments.tokenizer)
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
    if summary.num_short:
        print(
            f"{summary.num_short} of {summary.num_chunks} chunks have fewer than "
            f"{summary.num_neighbors} neighbors, because too little text is left to choose from"
        )


def _corpus_config(arguments: argparse.Namespace, source: "TokenizerSource | None") -> CorpusConfig:
    """Return the settings of a build: chosen ones, then those of the corpus that is there."""
    from retro.retrieval.corpus import is_corpus, read_config  # noqa: PLC0415  # --help is fast

    names = ("chunk_size", "num_neighbors", "vocab_size", "encoder", "exclusion", "index_kind")
    chosen = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    before: dict[str, Any] = {"encoder": os.environ.get("RETRO_ENCODER") or None}
    for folder in (arguments.out, arguments.folder):
        if folder is not None and is_corpus(folder):
            before = config_to_dict(read_config(folder))
            break
    fitting = chosen if source is None else source.settings(chosen)
    return config_from_dict(CorpusConfig, {**before, **fitting})


def train(arguments: argparse.Namespace) -> None:
    """Train a new run, or go on with one."""
    from retro.training.trainer import train as train_run  # noqa: PLC0415  # imports torch

    model = dict(arguments.model)
    training = {
        **dict(arguments.training),
        **{
            name: getattr(arguments, name)
            for name in ("batch_size", "learning_rate", "sequence_length", "seed")
            if getattr(arguments, name) is not None
        },
    }
    if (arguments.out / CONFIG_NAME).exists():
        _refuse_changes(open_run(arguments.out), arguments.preset, model, training)
    else:
        if arguments.max_steps is not None:
            training["max_steps"] = arguments.max_steps
        create_run(
            arguments.out,
            arguments.corpus,
            preset=arguments.preset or "tiny",
            model=model,
            training=training,
        )
    bars = Bars()
    stop = _stop_signal()
    result = train_run(
        arguments.out,
        corpus_dir=arguments.corpus,
        max_steps=arguments.max_steps,
        listener=MetricsFile(arguments.out),
        should_stop=stop,
        on_progress=bars,
    )
    bars.close()
    if result.state == "stopped":
        print(f"stopped at step {result.step}; the same command goes on from there")
    else:
        print(f"finished at step {result.step}")


def _refuse_changes(
    run: Run, preset: str | None, model: dict[str, Any], training: dict[str, Any]
) -> None:
    """Refuse settings that differ from those a run was started with."""
    started = {"preset": run.preset, **run.model_choices, **run.training_choices}
    asked = {**({} if preset is None else {"preset": preset}), **model, **training}
    for name, value in asked.items():
        if started.get(name, value) != value or name not in started:
            raise ConfigError(
                f"{run.path.name} was started with {name} = {started.get(name, 'its default')}, "
                f"got {value}. Leave it out to go on, or choose another --out."
            )


def _stop_signal() -> Callable[[], bool]:
    """Return a function that tells whether Ctrl-C or SIGTERM arrived."""
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True
        tqdm.write("stopping after this step, with a checkpoint ...", file=sys.stderr)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return lambda: stopped


def generate(arguments: argparse.Namespace) -> None:
    """Write text and show the neighbors of each chunk."""
    from retro.generation.generate import Generator  # noqa: PLC0415  # imports torch
    from retro.generation.steering import Steering  # noqa: PLC0415

    config = config_from_dict(
        SamplingConfig,
        {
            name: getattr(arguments, name)
            for name in SAMPLING_OPTIONS
            if getattr(arguments, name) is not None
        },
    )
    steering = Steering(
        exclude_chunks=tuple(arguments.exclude_chunk),
        exclude_documents=tuple(arguments.exclude_document),
    )
    modes = ("on", "off") if arguments.retrieval == "both" else (arguments.retrieval,)
    generator = Generator.open(
        arguments.run, corpus_dir=arguments.corpus, step=arguments.step, with_corpus="on" in modes
    )
    texts = {}
    for mode in modes:
        if len(modes) > 1 and not arguments.json:
            print(f"=== retrieval {mode}\n")
        events = generator.generate(
            arguments.prompt,
            config,
            retrieval=mode == "on",
            steering=steering,
            score_other=len(modes) > 1,
        )
        texts[mode] = _follow(events, config, quiet=arguments.json)
    if arguments.json:
        answers = {mode: _as_json(arguments.prompt, config, texts[mode]) for mode in modes}
        answer = answers if len(modes) > 1 else answers[modes[0]]
        print(json.dumps(answer, ensure_ascii=False, indent=2))


SAMPLING_OPTIONS = {
    "max_new_tokens": "most tokens to write",
    "temperature": "0 always takes the likeliest token",
    "top_k": "draw from this many likeliest tokens; 0 is all",
    "top_p": "draw from the likeliest tokens that reach this probability",
    "min_p": "draw from tokens at least this share as likely as the likeliest",
    "repetition_penalty": "above 1: tokens of the text so far become less likely",
    "stop": "the text ends in front of this string; may be repeated",
    "seed": "the same seed and settings write the same text",
    "num_samples": "texts to write side by side",
    "num_neighbors": "neighbors read for each chunk",
}


def _follow(events: "Iterator[Event]", config: SamplingConfig, *, quiet: bool) -> list["Written"]:
    """Print what is written as it comes; return the chunks and the end of each text."""
    from retro.generation.events import ChunkEvent, FinishEvent  # noqa: PLC0415  # --help is fast

    written: list[Written] = [([], {}) for _ in range(config.num_samples)]
    for event in events:
        if isinstance(event, ChunkEvent):
            chunk = event.chunk.to_dict()
            written[event.sample][0].append(chunk)
            if not quiet and not (chunk["is_prompt"] and event.sample):
                _print_chunk(chunk, event.sample if config.num_samples > 1 else None)
        elif isinstance(event, FinishEvent):
            # No seconds: the same command prints the same object.
            written[event.sample][1].update(
                reason=event.reason, num_tokens=event.num_tokens, slid=event.slid
            )
            if not quiet:
                speed = event.num_tokens / max(event.seconds, 1e-9)
                forgot = "; the beginning was forgotten" if event.slid else ""
                print(
                    f"{event.num_tokens} tokens, {speed:.0f} tokens/s, ended by "
                    f"{event.reason}{forgot}\n"
                )
    return written


Written = tuple[list[dict[str, Any]], dict[str, Any]]
"""The chunks of a text, and how it ended."""


def _as_json(prompt: str, config: SamplingConfig, texts: list[Written]) -> dict[str, Any]:
    """Return texts as the REST routes answer them."""
    samples = [
        {
            "text": "".join(chunk["text"] for chunk in chunks if not chunk["is_prompt"]),
            "prompt": prompt,
            "seed": config.seed + number,
            "chunks": chunks,
            "result": result,
        }
        for number, (chunks, result) in enumerate(texts)
    ]
    return samples[0] if len(samples) == 1 else {**samples[0], "samples": samples}


def _print_chunk(chunk: dict[str, Any], sample: int | None) -> None:
    kind = "prompt" if chunk["is_prompt"] else f"copied {chunk['copied_fraction']:.0%}"
    text = "" if sample is None or chunk["is_prompt"] else f"text {sample + 1}, "
    print(f"--- {text}chunk {chunk['index'] + 1}, {len(chunk['token_ids'])} tokens, {kind}")
    print(chunk["text"])
    if chunk["index"] == 0:
        print("    (the first chunk has no neighbors)")
    for neighbor in chunk["neighbors"]:
        _print_neighbor(neighbor)
    print(flush=True)


def _print_neighbor(neighbor: dict[str, Any]) -> None:
    share = neighbor.get("attention_share")
    print(
        f"    [{neighbor['rank']}] {neighbor['document']}, characters {neighbor['start']}-"
        f"{neighbor['end']}, squared distance {neighbor['distance']:.3f} (lower is nearer)"
        + ("" if share is None else f", {share:.0%} of cross-attention")
    )
    print(f"        {_one_line(neighbor['text'])}")
    if neighbor["continuation"]:
        print(f"        ... {_one_line(neighbor['continuation'])}")


def _one_line(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 3]}..."


def search(arguments: argparse.Namespace) -> None:
    """Show the nearest chunks of a text."""
    from retro.retrieval.corpus import Corpus  # noqa: PLC0415  # imports numpy and more

    retriever = Corpus.open(arguments.corpus).retriever()
    for neighbor in retriever.search_text(arguments.text, arguments.k):
        _print_neighbor(
            {
                name: getattr(neighbor, name)
                for name in ("rank", "document", "start", "end", "distance", "text", "continuation")
            }
        )


def export(arguments: argparse.Namespace) -> None:
    """Save a checkpoint as a model that needs neither run nor corpus; publish it if asked."""
    from retro.export import export_run  # noqa: PLC0415  # imports torch
    from retro.model.retro import RETRO  # noqa: PLC0415

    if arguments.private and arguments.push_to_hub is None:
        raise ConfigError("--private needs --push-to-hub REPO.")
    folder = export_run(arguments.run, arguments.out, arguments.step)
    print(f"saved {folder}; write with: python -m retro generate {folder} --retrieval off")
    if arguments.push_to_hub is not None:
        model = RETRO.from_pretrained(folder)
        address = model.push_to_hub(arguments.push_to_hub, private=arguments.private or None)
        print(f"published {address}")


def _assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(prog="python -m retro", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="chunk, embed and index a folder of text")
    command.set_defaults(run_command=build)
    command.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="text, or another corpus"
    )
    command.add_argument("--sample", metavar="NAME", help="a built-in sample: python-docs")
    command.add_argument("--out", required=True, type=Path, metavar="CORPUS")
    command.add_argument("--chunk-size", type=int, help="tokens per chunk (default 64)")
    command.add_argument("--num-neighbors", type=int, help="neighbors per chunk (default 2)")
    command.add_argument("--vocab-size", type=int, help="default: chosen by corpus size")
    command.add_argument(
        "--tokenizer",
        metavar="RUN",
        help="use the tokenizer and chunk size of a run, saved model or corpus, "
        "so that its model can write from this corpus",
    )
    command.add_argument(
        "--new-tokenizer",
        action="store_true",
        help="train it on the present documents; a corpus built again keeps it otherwise",
    )
    command.add_argument("--encoder", help="Hub name or folder (default: the bundled MiniLM)")
    command.add_argument("--exclusion", choices=[choice.value for choice in Exclusion])
    command.add_argument("--index-kind", choices=[choice.value for choice in IndexKind])

    command = commands.add_parser("train", help="train a new run, or go on with one")
    command.set_defaults(run_command=train)
    command.add_argument("corpus", type=Path, metavar="CORPUS")
    command.add_argument("--out", required=True, type=Path, metavar="RUN")
    command.add_argument("--preset", help=f"one of {', '.join(PRESETS)} (default tiny)")
    command.add_argument("--max-steps", type=int, help="length of the whole run")
    command.add_argument("--batch-size", type=int)
    command.add_argument("--learning-rate", type=float)
    command.add_argument("--sequence-length", type=int)
    command.add_argument("--seed", type=int)
    for name in ("model", "training"):
        command.add_argument(
            f"--{name}",
            type=_assignment,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"any other {name} setting; may be repeated",
        )

    command = commands.add_parser("generate", help="write text and show its neighbors")
    command.set_defaults(run_command=generate)
    command.add_argument("run", metavar="RUN", help="or a saved model: a folder or a Hub name")
    command.add_argument("--prompt", required=True)
    command.add_argument("--corpus", type=Path, help="default: the corpus of the run")
    command.add_argument("--step", type=int, help="step of the checkpoint (default: newest)")
    command.add_argument("--retrieval", choices=["on", "off", "both"], default="on")
    defaults = SamplingConfig()
    for name, text in SAMPLING_OPTIONS.items():
        default = getattr(defaults, name)
        command.add_argument(
            f"--{name.replace('_', '-')}",
            type=str if name == "stop" else type(default),
            action="append" if name == "stop" else "store",
            help=text if name == "stop" else f"{text} (default {default})",
        )
    for name, kind, text in (
        ("document", str, "path of a document that nothing is retrieved from; may be repeated"),
        ("chunk", int, "id of a chunk that is not retrieved; may be repeated"),
    ):
        command.add_argument(f"--exclude-{name}", type=kind, action="append", default=[], help=text)
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("search", help="show the nearest chunks of a text")
    command.set_defaults(run_command=search)
    command.add_argument("corpus", type=Path, metavar="CORPUS")
    command.add_argument("text", metavar="TEXT")
    command.add_argument("-k", type=int, default=5, help="how many (default 5)")

    command = commands.add_parser("export", help="save a checkpoint as a model of its own")
    command.set_defaults(run_command=export)
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    command.add_argument("--step", type=int, help="step of the checkpoint (default: newest)")
    command.add_argument("--push-to-hub", metavar="REPO", help="publish it as USER/NAME as well")
    command.add_argument("--private", action="store_true", help="publish for yourself only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; None takes those of the process.

    Returns:
        Exit code: 0, or 1 after one line that says what was wrong.
    """
    arguments = make_parser().parse_args(argv)
    try:
        arguments.run_command(arguments)
    except RetroError as error:
        print(f"python -m retro {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # kept until the process ends
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
