"""The worker's side of the protocol: a JSON line is asked on stdin, one is answered.

Needs the standard library and torch only. While it waits it reads from a pipe, so it takes no
time from the worker that is measured.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping

import torch


def serve(name: str, commands: Mapping[str, Callable[..., object]]) -> None:
    """Answer commands until stdin ends.

    A line is ``[command, {argument: value}]``, an answer ``{"value": ...}`` or ``{"error":
    ...}``. What a library prints goes to stderr.

    Args:
        name: What is measured here, for the table.
        commands: Name to function.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    facts = {
        "name": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    print(json.dumps({"value": facts}), file=answers, flush=True)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            answer: dict[str, object] = {"value": commands[command](**arguments)}
        except Exception as error:  # noqa: BLE001  # the benchmark reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
