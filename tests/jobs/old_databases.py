"""Databases as former versions of the program left them, with a row in every table."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, NullPool, create_engine, insert, text

from jobs.store.database import parse_url
from jobs.store.sqlite import newest_module

FOLDER = Path(__file__).parent / "old_schemas"
JOB = {
    "id": "job1",
    "kind": "train",
    "state": "running",
    "settings": {"seed": 3},
    "corpus_id": "corpus1",
    "run_id": "run1",
    "stage": "train",
    "done": 2**40,
    "total": 2**41,
    "message": "",
    "attempt": 1,
    "worker": "host",
    "slot": "cuda:0",
    "lease_token": "token1",
    "created_at": 1.5,
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "corpora": [
        {"id": "corpus1", "name": "l'été", "settings": {}, "created_at": 1.0, "updated_at": 1.0}
    ],
    "documents": [
        {
            "corpus_id": "corpus1",
            "path": "a.txt",
            "bytes": 5,
            "sha256": "0",
            "encoding": "utf-8",
            "created_at": 1.0,
        }
    ],
    "runs": [
        {
            "id": "run1",
            "name": "first",
            "corpus_id": "corpus1",
            "settings": {"preset": "tiny"},
            "state": "running",
            "step": 7,
            "total_steps": 10,
            "job_id": "job1",
            "message": "",
            "created_at": 1.25,
            "updated_at": 2.5,
        }
    ],
    "jobs": [
        JOB,
        JOB | {"id": "job2", "state": "queued", "after_id": "job1", "lease_token": None},
    ],
    "job_events": [
        {"job_id": "job1", "at": 2.0, "to_state": "queued", "attempt": 0, "message": ""}
    ],
    "metrics": [{"run_id": "run1", "name": "train_loss", "step": 7, "value": 0.1}],
    "checkpoints": [
        {"run_id": "run1", "step": 7, "bytes": 2**33, "is_best": True, "created_at": 3.0}
    ],
    "generations": [
        {
            "id": "text1",
            "run_id": "run1",
            "run_name": "first",
            "prompt": "Once",
            "settings": {"seed": 3},
            "state": "succeeded",
            "message": "",
            "stop_requested": False,
            "created_at": 4.0,
        }
    ],
    "generation_chunks": [
        {"generation_id": "text1", "variant": "on", "position": 0, "chunk": {"text": "x"}}
    ],
    "workers": [
        {
            "host": "host",
            "pid": 7,
            "slots": ["cuda:0"],
            "started_at": 1.0,
            "heartbeat_at": 2.0,
        }
    ],
}


def plain_engine(url: str) -> Engine:
    """Return an engine that neither upgrades nor sets anything."""
    parsed = parse_url(url)
    # Two SQLite libraries in one process would not see each other's locks.
    own = {"module": newest_module()} if parsed.get_backend_name() == "sqlite" else {}
    return create_engine(parsed, poolclass=NullPool, **own)


def make_old_database(url: str, version: int) -> None:
    """Make a database of schema version 1 or 2 by the statements of that time."""
    engine = plain_engine(url)
    script = FOLDER / f"version_2_{engine.dialect.name}.sql"
    with engine.begin() as connection:
        for statement in script.read_text().split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        if version == 1:
            for column in ("parent_id", "branch_index"):
                connection.execute(text(f"ALTER TABLE generations DROP COLUMN {column}"))
        tables = read_tables(connection)
        for name, rows in ROWS.items():
            for row in rows:
                connection.execute(insert(tables.tables[name]), row)
        for number in range(1, version + 1):
            connection.execute(text(f"INSERT INTO schema_version VALUES ({number}, 5.5)"))


def read_tables(connection: Connection) -> MetaData:
    """Return the tables that are there."""
    tables = MetaData()
    tables.reflect(connection)
    return tables


def dump(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables, by the names of tables and columns."""
    engine = plain_engine(url)
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(table.select()).mappings().fetchall()
            ]
            for table in read_tables(connection).sorted_tables
        }
