"""What programs can do, said once, and offered as REST routes, functions and tools.

``corpora``, ``jobs``, ``runs``, ``generations``, ``system`` and ``functions`` are the table: each
function of them is an operation with its name, arguments, view, docstring and effect. ``rest``,
``client`` (for ``gradio_client``) and ``tools`` (for assistants, over MCP) offer them, and
``description`` writes the OpenAPI document.
"""
