"""``python -m retro export``: a checkpoint as a model of its own."""

import argparse

from retro.errors import ConfigError
from retro.terminal import Subparsers, new_place, place


def add_parser(commands: Subparsers) -> None:
    """Add the command to the command line."""
    command = commands.add_parser("export", help="save a checkpoint as a model of its own")
    command.set_defaults(run_command=run)
    command.add_argument("run", type=place, metavar="RUN")
    command.add_argument("--out", required=True, type=new_place, metavar="FOLDER")
    command.add_argument("--step", type=int, help="step of the checkpoint (default: newest)")
    command.add_argument("--push-to-hub", metavar="REPO", help="publish it as USER/NAME as well")
    command.add_argument("--private", action="store_true", help="publish for yourself only")


def run(arguments: argparse.Namespace) -> None:
    """Save a checkpoint as a model that needs neither run nor corpus; publish it if asked."""
    import torch  # noqa: PLC0415  # --help is fast

    from retro.export import export_run  # noqa: PLC0415  # imports torch
    from retro.model.hub_names import check_repository  # noqa: PLC0415
    from retro.model.open import open_saved  # noqa: PLC0415

    if arguments.private and arguments.push_to_hub is None:
        raise ConfigError("--private needs --push-to-hub REPO.")
    if arguments.push_to_hub is not None:
        check_repository(arguments.push_to_hub)
    folder = export_run(arguments.run, arguments.out, arguments.step)
    print(f"saved {folder}; write with: python -m retro generate {folder} --retrieval off")
    if arguments.push_to_hub is not None:
        model = open_saved(folder, torch.device("cpu"))
        address = model.push_to_hub(arguments.push_to_hub, private=arguments.private or None)
        print(f"published {address}")
