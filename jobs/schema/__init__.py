"""The tables' numbered changes, applied by alembic.

A change is a module in ``versions``. It spells out its columns itself: the models are
those of today, and what a change did must stay what it did. The number of the newest one
is ``jobs.schema.upgrade.NEWEST``.
"""
