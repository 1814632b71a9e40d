"""``python -m retro train``: a new run, or one that goes on."""

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tqdm import tqdm

from retro.checkpoints import list_checkpoints
from retro.config.checks import config_from_dict, config_to_dict
from retro.config.training import TrainingConfig
from retro.errors import ConfigError
from retro.json_files import parse_json
from retro.model.choices import DEFAULT_PRESETS, kind_of
from retro.model.pretrained.modes import MODES
from retro.model.retro.presets import PRESETS
from retro.run import CONFIG_NAME, Run, create_run, open_run
from retro.terminal import Bars, MetricsFile, Subparsers, new_place, place


def add_parser(commands: Subparsers) -> None:
    """Add the command to the command line."""
    command = commands.add_parser("train", help="train a new run, or go on with one")
    command.set_defaults(run_command=run)
    command.add_argument("corpus", type=place, metavar="CORPUS")
    command.add_argument("--out", required=True, type=new_place, metavar="RUN")
    command.add_argument("--preset", help=f"one of {', '.join(PRESETS)} (default tiny)")
    command.add_argument(
        "--base",
        metavar="MODEL",
        help="train a pretrained model: smollm2-135m, a folder, or a name on the Hub",
    )
    command.add_argument("--revision", help="branch, tag or commit of --base on the Hub")
    command.add_argument(
        "--mode", choices=list(MODES), help="what is trained in --base (default lora)"
    )
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


def run(arguments: argparse.Namespace) -> None:
    """Train a new run, or go on with one."""
    from retro.training.trainer import train as train_run  # noqa: PLC0415  # imports torch

    model = {
        **dict(arguments.model),
        **{
            name: getattr(arguments, name)
            for name in ("base", "revision")
            if getattr(arguments, name) is not None
        },
    }
    preset = _preset(arguments)
    training = {
        **dict(arguments.training),
        **{
            name: getattr(arguments, name)
            for name in ("batch_size", "learning_rate", "sequence_length", "seed")
            if getattr(arguments, name) is not None
        },
    }
    note = None
    if (arguments.out / CONFIG_NAME).exists():
        before = open_run(arguments.out)
        _refuse_changes(before, preset, model, training)
        note = _length_note(before, arguments.max_steps)
    else:
        if arguments.max_steps is not None:
            training["max_steps"] = arguments.max_steps
        create_run(
            arguments.out,
            arguments.corpus,
            preset=preset or DEFAULT_PRESETS[kind_of(model)],
            model=model,
            training=training,
        )
    bars = Bars()
    stop = _stop_signal()
    result = train_run(
        arguments.out,
        corpus_dir=arguments.corpus,
        max_steps=arguments.max_steps,
        listener=MetricsFile(arguments.out, arguments.corpus, note),
        should_stop=stop,
        on_progress=bars,
    )
    bars.close()
    if result.state == "stopped":
        print(f"stopped at step {result.step}; the same command goes on from there")
    else:
        print(f"finished at step {result.step}")


def _preset(arguments: argparse.Namespace) -> str | None:
    """Return the preset or the mode that is asked for."""
    if arguments.mode is None:
        return str(arguments.preset) if arguments.preset is not None else None
    if arguments.preset is not None:
        raise ConfigError(
            f"A run has either a preset, for RETRO from scratch, or a mode, for a pretrained "
            f"model, got {arguments.preset} and {arguments.mode}. Leave one of them out."
        )
    return str(arguments.mode)


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


def _length_note(run: Run, max_steps: int | None) -> str | None:
    """Return what another length does to a run; None where it keeps its length."""
    from retro.training.optimizer import extension_note  # noqa: PLC0415  # imports torch

    if run.training is None or max_steps is None:
        return None
    values = {**config_to_dict(run.training), "max_steps": max_steps}
    longer = config_from_dict(TrainingConfig, values)
    steps = [record.step for record in list_checkpoints(run.path)]
    return extension_note(max(steps, default=0), run.training, longer)


def _stop_signal() -> Callable[[], bool]:
    """Return a function that returns whether Ctrl-C or SIGTERM arrived."""
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


def _assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value
