"""PostgreSQL: connections that end by themselves when a side is gone, and the server's clock."""

import time
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

CONNECT_TIMEOUT_S = 10
RECYCLE_S = 1800
"""A connection is replaced after this time; then the server's clock is read again."""
SESSION_SETTINGS = {
    # As long as SQLite waits for its lock.
    "lock_timeout": "30s",
    # A host that lost power must not hold its locks until TCP gives up, after hours.
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


class ServerClock:
    """The server's time, computed from the clock of this host.

    Leases are compared by several hosts, whose clocks may differ. The difference to the
    server is measured whenever a connection is made.
    """

    def __init__(self) -> None:
        self.offset = 0.0
        """Seconds that the server is ahead of this host."""

    def __call__(self) -> float:
        """Return UTC seconds."""
        return time.time() + self.offset

    def set_up_connection(self, connection: Any, _record: object) -> None:
        """Set a new connection's limits and compare the clocks, in one query."""
        settings = [
            f"set_config('{name}', '{value}', false)" for name, value in SESSION_SETTINGS.items()
        ]
        asked_at = time.time()
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT extract(epoch FROM clock_timestamp())::float8, {', '.join(settings)}"
            )
            server_time = cursor.fetchone()[0]
        # Half of the time between, as the answer has taken about as long as the question.
        self.offset = server_time - (asked_at + time.time()) / 2
        connection.commit()


def make_postgresql_engine(url: URL, clock: ServerClock) -> Engine:
    """Make an engine that notices lost connections before it uses them.

    Args:
        url: Of the server.
        clock: Is set by each connection the engine makes.
    """
    engine = create_engine(
        url,
        pool_size=10,
        max_overflow=30,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_S,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "retro",
            "tcp_user_timeout": 30_000,
            **KEEPALIVES,
        },
    )
    event.listen(engine, "connect", clock.set_up_connection)
    return engine
