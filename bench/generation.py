"""Writing with a cache against reading everything again for each token, preset `small`."""

import torch

from bench.timing import medians, print_table
from retro import RETRO
from retro.config import config_to_dict
from retro.device import default_device
from retro.model.presets import resolve_preset

NUM_TOKENS = 128


def main() -> None:
    device = default_device()
    config, _ = resolve_preset(
        "small", model={}, training={}, num_tokens=4096, chunk_size=64, num_neighbors=2
    )
    model = RETRO(**config_to_dict(config)).to(device).eval()
    seq = torch.randint(1, 4096, (1, NUM_TOKENS), device=device)
    retrieved = torch.randint(1, 4096, (1, NUM_TOKENS // 64, 2, 128), device=device)

    @torch.inference_mode()
    def cached() -> None:
        cache = model.new_cache(1)
        for t in range(NUM_TOKENS):
            ends = (t + 1) % 64 == 0
            model.read(seq[:, t : t + 1], cache, retrieved[:, t // 64][:, None] if ends else None)

    @torch.inference_mode()
    def recomputed() -> None:
        for t in range(NUM_TOKENS):
            model(seq[:, : t + 1], retrieved[:, : (t + 1) // 64])

    seconds = medians({"cached": cached, "recomputed": recomputed}, rounds=3)
    print_table(
        ["device", "way", "tokens/s", "ratio"],
        [
            [
                device.type,
                name,
                f"{NUM_TOKENS / seconds[name]:.0f}",
                f"{seconds['recomputed'] / seconds[name]:.1f}",
            ]
            for name in seconds
        ],
    )
