"""Side by side with retro-pytorch, which runs in its own environment and process.

``ours.py`` and ``theirs.py`` are the two worker processes; both speak the protocol of
``worker.py`` and take the same steps (``step.py``). The other modules are the benchmarks.
"""
