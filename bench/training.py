"""Training steps of the presets: forward, backward and AdamW on random tokens."""

import torch

from bench.timing import medians, print_table
from retro import RETRO
from retro.config.checks import config_to_dict
from retro.device import default_device
from retro.model.retro.presets import parameter_count, resolve_preset
from retro.training.optimizer import make_optimizer


def main() -> None:
    device = default_device()
    presets = (
        ("tiny", "small", "base", "retro-172m") if device.type == "cuda" else ("tiny", "small")
    )
    rows: list[list[object]] = []
    for name in presets:
        model_config, training = resolve_preset(
            name, model={}, training={}, num_tokens=4096, chunk_size=64, num_neighbors=2
        )
        torch.manual_seed(0)
        model = RETRO(**config_to_dict(model_config)).to(device)
        optimizer = make_optimizer(model, training)
        batch, length = min(training.batch_size, 8), training.sequence_length
        seq = torch.randint(1, 4096, (batch, length + 1), device=device)
        retrieved = torch.randint(1, 4096, (batch, length // 64, 2, 128), device=device)

        def step(
            dtype: torch.dtype | None,
            model: RETRO = model,
            optimizer: torch.optim.Optimizer = optimizer,
            seq: torch.Tensor = seq,
            retrieved: torch.Tensor = retrieved,
        ) -> None:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = model(seq, retrieved, return_loss=True)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

        seconds = medians(
            {"float32": lambda: step(None), "bfloat16": lambda: step(torch.bfloat16)}, rounds=5
        )
        rows.append(
            [
                device.type,
                name,
                f"{parameter_count(model_config) / 1e6:.1f} M",
                f"{batch} x {length}",
                f"{batch * length / seconds['float32']:.0f}",
                f"{batch * length / seconds['bfloat16']:.0f}",
            ]
        )
    print_table(
        ["device", "preset", "parameters", "batch", "float32, tokens/s", "bfloat16, tokens/s"], rows
    )
