"""Refuses a run that the disk has no room for, before its first step."""

from retro.checkpoints import list_checkpoints
from retro.config.pretrained import PretrainedConfig
from retro.config.training import FIRST_CHECKPOINT, TrainingConfig
from retro.disk import require_free
from retro.model.kinds import ModelSettings
from retro.model.pretrained.stored import known_sizes
from retro.model.retro.presets import parameter_count
from retro.run import Run

BYTES_PER_PARAMETER = 12
"""A weight and the two moments of AdamW, each float32."""
FIXED_BYTES = 64 * 1024
"""Random states, counts and the manifest with all settings."""
BYTES_PER_LAYER = 16 * 1024
"""Names, shapes and padding of a layer's tensors in both files."""


def estimate_checkpoint_bytes(config: ModelSettings) -> int:
    """Return the size of a checkpoint without making the model, up to some percent too large.

    That of a pretrained model which is not here yet is not known: it counts as nothing.
    """
    if isinstance(config, PretrainedConfig):
        sizes = known_sizes(config)
        if sizes is None:
            return 0
        tensors_per_layer = BYTES_PER_LAYER * sizes.layers
        return BYTES_PER_PARAMETER * sizes.trained(config) + tensors_per_layer + FIXED_BYTES
    layers = config.dec_depth + config.enc_depth + len(config.dec_cross_attn_layers)
    layers += len(config.encoder_cross_layers)
    return BYTES_PER_PARAMETER * parameter_count(config) + BYTES_PER_LAYER * layers + FIXED_BYTES


def checkpoints_to_come(config: TrainingConfig, step: int) -> int:
    """Return how many checkpoints a run writes after ``step`` if nobody stops it."""
    if step >= config.max_steps:
        return 0
    every, last = config.checkpoint_every, config.max_steps
    is_first_extra = step < FIRST_CHECKPOINT < min(every, last)
    return last // every - step // every + (last % every != 0) + is_first_extra


def needed_bytes(
    model: ModelSettings, training: TrainingConfig, *, step: int, num_kept: int
) -> int:
    """Return the room that a run still takes on the disk.

    At most ``keep_checkpoints`` newest ones, the best one and the one that is just written are
    there at the same time; what is there already takes no more room. A run that is nearly done
    writes fewer. In short: size * min(to come, max(1, keep + 2 - kept)).

    Args:
        model: Settings of the model.
        training: Settings of the training.
        step: Step of the newest checkpoint; 0 where there is none.
        num_kept: Checkpoints there are, without those that are kept for good.
    """
    room = max(1, training.keep_checkpoints + 2 - num_kept)
    return estimate_checkpoint_bytes(model) * min(checkpoints_to_come(training, step), room)


def require_room(run: Run) -> None:
    """Refuse to train a run whose next checkpoints do not fit on the disk.

    Raises:
        DiskFullError: There is too little room; nothing was changed.
    """
    assert run.model is not None
    assert run.training is not None
    records = list_checkpoints(run.path)
    needed = needed_bytes(
        run.model,
        run.training,
        step=records[-1].step if records else 0,
        num_kept=sum(not record.is_pinned for record in records),
    )
    if needed:
        require_free(run.path, needed, f"the checkpoints of run {run.path.name}")
