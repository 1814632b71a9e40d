"""What the REST routes answer: the shapes that the OpenAPI description names.

They describe and are not applied: a field that a service adds is answered at once, and tests
compare real answers with them. The docstring below each field is its description, by what is in
``docstrings``.

``base`` has what all have in common, and the answer of every error. The others are named after
what they tell of: ``system`` (with settings, storage and presets), ``corpora``, ``documents``
(with uploads, chunks and neighbors), ``jobs``, ``runs``, ``curves`` (with comparisons), and
``generations``, whose chunks are in ``chunks`` and examples in ``generation_examples``.
"""
