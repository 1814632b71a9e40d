"""What services return, as pages, REST routes, gradio_client functions and tools read it.

``base`` has what all views have in common, and the answer of every error. The others are named
after their subject: ``system`` (with settings, storage and presets), ``corpora``, ``documents``
(with uploads, chunks and neighbors), ``jobs``, ``runs``, ``curves`` (with comparisons), and
``generations``, whose chunks are in ``chunks``. The docstring below a field is its description in
the OpenAPI document; ``docstrings`` finds it.
"""
