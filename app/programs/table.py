"""All operations, in the order in which their routes are tried."""

from app.programs import corpora, functions, generations, jobs, runs, system

OPERATIONS = tuple(
    operation
    for family in (system, corpora, jobs, runs, generations, functions)
    for operation in family.FAMILY.operations
)
