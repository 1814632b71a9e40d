"""What a run will need, estimated before it starts: parameters, memory, time."""

import math
import os
import socket
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from app.services.run_settings import list_presets, with_base
from app.services.runs import RunService
from app.services.system import list_devices
from app.services.views import runs as views
from app.services.views.system import Device, Preset
from jobs.errors import NotFoundError
from jobs.store.rows import RunRow
from jobs.store.store import Store
from jobs.work.devices import CPU_SLOT
from retro.config.checks import config_from_dict
from retro.config.training import Precision, TrainingConfig
from retro.errors import ConfigError
from retro.model.choices import BASE, kind_of
from retro.model.costs import flops_per_token, memory_of, num_parameters, num_trained
from retro.model.kinds import ModelSettings, settings_from_dict
from retro.model.memory import peak_flops
from retro.run_space import needed_bytes

PROGRAM_BYTES = 350_000_000
"""What Python and its libraries take before there is a model."""
RECOMPUTED = 4 / 3
"""Work with gradient checkpointing over work without: the forward pass is done twice."""
CPU_FLOPS_PER_THREAD = 20e9
"""Rough figure for a CPU that nothing was measured on."""
GPU_FLOPS = 40e12
"""Rough figure for a GPU whose data sheet is not known."""
GPU_SHARE = 0.25
"""Rough share of a known GPU's peak that training reaches."""
MOST_RUNS = 30
SPEED_POINTS = 40
KEPT_S = 10.0


@dataclass(frozen=True, slots=True)
class Measured:
    """How fast an earlier run was."""

    name: str
    flops_per_token: float
    tokens_per_second: float

    @property
    def flops_per_second(self) -> float:
        """Operations that reached the model."""
        return self.flops_per_token * self.tokens_per_second


class EstimateService:
    """Estimates runs from their settings and from how fast earlier runs were."""

    def __init__(self, store: Store, runs: RunService) -> None:
        self._store = store
        self._runs = runs
        self._known: tuple[float, list[Measured]] = (-math.inf, [])

    def estimate(
        self,
        corpus_id: str,
        *,
        preset: str | None = None,
        model: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        base: str | None = None,
        revision: str | None = None,
        mode: str | None = None,
    ) -> views.Estimate:
        """Return parameters, memory in bytes and seconds of a run, without making it.

        Raises:
            ConfigError: A name is unknown or a value out of range.
            NotFoundError: There is no such corpus.
        """
        preset, model = with_base(preset, model, base=base, revision=revision, mode=mode)
        resolved, config = self._runs.settings.resolve(corpus_id, preset, model, training)
        device = list_devices()[0]
        kept, recomputed = (_memory(resolved, config, device, again) for again in (False, True))
        needed = recomputed if config.gradient_checkpointing else kept
        has = device.memory_bytes
        seconds, speed, basis = self._time(resolved, config, device)
        return views.Estimate(
            parameters=num_parameters(resolved),
            trained=num_trained(resolved),
            memory=kept,
            memory_checkpointed=recomputed,
            needed_bytes=needed.total,
            checkpoint_bytes=needed_bytes(resolved, config, step=0, num_kept=0),
            device=device,
            fits=None if has is None else needed.total <= has,
            seconds=seconds,
            tokens_per_second=speed,
            basis=basis,
        )

    def presets(
        self, corpus_id: str, base: str | None = None
    ) -> list[tuple[Preset, views.Estimate]]:
        """Return the presets with their estimates; one that does not fit the corpus is left out.

        Args:
            corpus_id: The corpus.
            base: A pretrained model, for its modes instead.
        """
        model = {BASE: base} if base else None
        found = []
        for preset in list_presets(base):
            try:
                estimate = self.estimate(corpus_id, preset=preset.name, model=model)
                found.append((preset, estimate))
            except ConfigError:
                continue
        return found

    def _time(
        self, model: ModelSettings, config: TrainingConfig, device: Device
    ) -> tuple[float, float, views.EstimateBasis]:
        """Return seconds, tokens per second, and where they come from."""
        per_token = _flops_per_token(model, config)
        measured = self._measured()
        if measured:
            # Small products reach a smaller share of what a device can do than large ones.
            best = min(measured, key=lambda m: abs(math.log(m.flops_per_token / per_token)))
            flops = best.flops_per_second
            basis = views.EstimateBasis(
                kind="measured",
                run=best.name,
                flops_per_second=flops,
                text=f"from the speed that run {best.name!r} measured on this host",
            )
        else:
            flops, words = _rough_speed(device)
            basis = views.EstimateBasis(
                kind="rough",
                run=None,
                flops_per_second=flops,
                text=f"from a rough figure, {words}; no run was measured on this host yet",
            )
        speed = flops / per_token
        tokens = config.max_steps * config.batch_size * config.accumulation * config.sequence_length
        return tokens / speed, speed, basis

    def _measured(self) -> list[Measured]:
        """Return the speeds of the newest runs on this host; kept for a moment while one types."""
        at, known = self._known
        if time.monotonic() - at < KEPT_S:
            return known
        found = [
            speed
            for row in self._store.list_runs()[:MOST_RUNS]
            if (speed := self._speed_of(row)) is not None
        ]
        self._known = (time.monotonic(), found)
        return found

    def _speed_of(self, row: RunRow) -> Measured | None:
        resolved = row.settings.get("resolved")
        if not resolved or row.job_id is None:
            return None
        try:
            job = self._store.get_job(row.job_id)
        except NotFoundError:
            return None
        on_gpu = list_devices()[0].kind == "cuda"
        if job.worker != socket.gethostname() or (job.slot != CPU_SLOT) != on_gpu:
            return None
        kind = kind_of(row.settings.get("model") or {})
        try:
            model = settings_from_dict(kind, resolved["model"])
            config = config_from_dict(TrainingConfig, resolved["training"])
            per_token = _flops_per_token(model, config)
        except ConfigError:
            return None
        since = max(0, row.step - SPEED_POINTS * config.log_every)
        points = self._store.metrics(row.id, "tokens_per_second", since)
        speeds = [point.value for point in points if point.value > 0]
        return Measured(row.name, per_token, median(speeds)) if speeds else None


def _flops_per_token(model: ModelSettings, config: TrainingConfig) -> float:
    """Return the operations of training on one token, those that are done twice included."""
    total = flops_per_token(model, config)
    return total * (RECOMPUTED if config.gradient_checkpointing else 1.0)


def _memory(
    model: ModelSettings, config: TrainingConfig, device: Device, checkpointing: bool
) -> views.TrainingMemory:
    # Whether a CPU would choose bfloat16 is not known here: the larger is reported.
    on_gpu = device.kind == "cuda"
    halves = config.precision is Precision.BFLOAT16 or (
        config.precision is Precision.AUTO and on_gpu
    )
    memory = memory_of(model, config, checkpointing=checkpointing, halves=halves, gpu=on_gpu)
    return views.TrainingMemory(
        weights=memory.weights,
        gradients=memory.gradients,
        moments=memory.moments,
        activations=memory.activations,
        program=PROGRAM_BYTES,
        total=memory.total + PROGRAM_BYTES,
    )


def _rough_speed(device: Device) -> tuple[float, str]:
    """Return operations per second, and the figure in words."""
    if device.kind == "cuda":
        peak = peak_flops(device.name)
        if peak is None:
            return GPU_FLOPS, f"{GPU_FLOPS / 1e12:.0f} TFLOP/s for a GPU"
        return peak * GPU_SHARE, f"{GPU_SHARE:.0%} of the GPU's peak"
    threads = _num_threads()
    per_thread = CPU_FLOPS_PER_THREAD
    return threads * per_thread, f"{per_thread / 1e9:.0f} GFLOP/s for each CPU thread"


def _num_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
