"""``python -m retro generate``: text, and the neighbors of each chunk."""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from retro.commands.passages import print_neighbor
from retro.config.checks import config_from_dict
from retro.config.sampling import OF_PRETRAINED, SamplingConfig, defaults_of
from retro.terminal import Subparsers, place, place_or_name

if TYPE_CHECKING:
    from retro.generation.events import Event

Written = tuple[list[dict[str, Any]], dict[str, Any]]
"""The chunks of a text, and how it ended."""

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


def add_parser(commands: Subparsers) -> None:
    """Add the command to the command line."""
    command = commands.add_parser("generate", help="write text and show its neighbors")
    command.set_defaults(run_command=run)
    command.add_argument(
        "run",
        type=place_or_name,
        metavar="RUN",
        help="or a model: a folder, a Hub name, or smollm2-135m",
    )
    command.add_argument("--prompt", required=True)
    command.add_argument("--corpus", type=place, help="default: the corpus of the run")
    command.add_argument("--step", type=int, help="step of the checkpoint (default: newest)")
    command.add_argument("--retrieval", choices=["on", "off", "both"], default="on")
    defaults = SamplingConfig()
    for name, text in SAMPLING_OPTIONS.items():
        default = getattr(defaults, name)
        command.add_argument(
            f"--{name.replace('_', '-')}",
            type=str if name == "stop" else type(default),
            action="append" if name == "stop" else "store",
            help=text if name == "stop" else f"{text} (default {default}{_other_default(name)})",
        )
    command.add_argument(
        "--fast",
        action="store_true",
        default=None,
        help="weights of 8 bits: faster on a CPU, and the text may differ",
    )
    for name, kind, text in (
        ("document", str, "path of a document that nothing is retrieved from; may be repeated"),
        ("chunk", int, "id of a chunk that is not retrieved; may be repeated"),
    ):
        command.add_argument(f"--exclude-{name}", type=kind, action="append", default=[], help=text)
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _other_default(name: str) -> str:
    return f"; {OF_PRETRAINED[name]} of pretrained models" if name in OF_PRETRAINED else ""


def run(arguments: argparse.Namespace) -> None:
    """Write text and show the neighbors of each chunk."""
    from retro.generation.generate import Generator  # noqa: PLC0415  # imports torch
    from retro.generation.steering import Steering  # noqa: PLC0415

    given = {
        name: getattr(arguments, name)
        for name in (*SAMPLING_OPTIONS, "fast")
        if getattr(arguments, name) is not None
    }
    config_from_dict(SamplingConfig, given)
    steering = Steering(
        exclude_chunks=tuple(arguments.exclude_chunk),
        exclude_documents=tuple(arguments.exclude_document),
    )
    modes = ("on", "off") if arguments.retrieval == "both" else (arguments.retrieval,)
    generator = Generator.open(
        arguments.run, corpus_dir=arguments.corpus, step=arguments.step, with_corpus="on" in modes
    )
    defaults = defaults_of(generator.starts_trained)
    config = config_from_dict(SamplingConfig, {**defaults, **given})
    if generator.note and not arguments.json:
        print(f"{generator.note}\n")
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
        print_neighbor(neighbor)
    print(flush=True)
