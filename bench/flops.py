"""Floating-point operations of RETRO as benchmarks count them; the counting is the library's."""

from retro.model.retro.costs import PEAK_BFLOAT16, Flops, forward_flops, peak_flops

__all__ = ["PEAK_BFLOAT16", "Flops", "forward_flops", "peak_flops"]
