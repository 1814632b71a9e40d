"""Floating-point operations of RETRO as benchmarks count them; the counting is the library's."""

from retro.model.memory import PEAK_BFLOAT16, peak_flops
from retro.model.retro.costs import Flops, forward_flops

__all__ = ["PEAK_BFLOAT16", "Flops", "forward_flops", "peak_flops"]
