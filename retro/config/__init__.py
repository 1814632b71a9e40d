"""Settings of every stage, checked before any work starts.

Configs are frozen. An unknown name or a value outside its range is refused when the
config is made, so no invalid config object exists.
"""
