"""The commands of ``python -m retro``, one module each."""
