"""Settings of the web process, read from the environment at start-up."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.home import DEFAULT_HOME, home_folder
from retro.errors import ConfigError, shown
from retro.places import check_place

SHORTEST_TOKEN = 16
McpMode = Literal["off", "read", "write"]
MCP_MODES: tuple[McpMode, ...] = ("off", "read", "write")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Where the app keeps its files and where it listens."""

    home: Path
    """Folder that holds everything."""

    host: str
    """Address to listen on."""

    port: int
    """Port to listen on."""

    token: str | None
    """Access token; None only on loopback."""

    database_url: str | None
    """SQLAlchemy URL; None is SQLite in ``home``."""

    encoder: str | None
    """Encoder of new corpora; None is the bundled one."""

    mcp: McpMode = "off"
    """What programs may do over MCP, one of ``MCP_MODES``."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check the settings.

    Raises:
        ConfigError: A value is out of range, or the app would be open to a network.
    """
    host = environment.get("RETRO_HOST") or "127.0.0.1"
    token = (environment.get("RETRO_TOKEN") or "").strip() or None
    port = environment.get("RETRO_PORT") or "7860"
    if not (port.isdecimal() and len(port) < 10 and 1 <= int(port) <= 65535):
        raise ConfigError(f"RETRO_PORT must be a port between 1 and 65535, got {port[:40]!r}.")
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"RETRO_TOKEN must be set to listen on {shown(host)}, because everyone who reaches "
            f"that address could read and delete everything. Set RETRO_TOKEN to a long random "
            f"text, or RETRO_HOST to 127.0.0.1."
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"RETRO_TOKEN must have at least {SHORTEST_TOKEN} characters, got {len(token)}. "
            f"Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    given = environment.get("RETRO_MCP") or "off"
    mcp = next((mode for mode in MCP_MODES if mode == given), None)
    if mcp is None:
        raise ConfigError(
            f"RETRO_MCP must be one of {', '.join(MCP_MODES)}, got {given[:40]!r}. Leave it unset "
            f"to keep MCP off."
        )
    encoder = environment.get("RETRO_ENCODER") or None
    if encoder is not None:
        check_place("RETRO_ENCODER", encoder)
    return Settings(
        home=home_folder(environment.get("RETRO_HOME") or DEFAULT_HOME),
        host=host,
        port=int(port),
        token=token,
        database_url=environment.get("RETRO_DATABASE_URL") or None,
        encoder=encoder,
        mcp=mcp,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    # With the dot of the root the name is written out in full, and means the same.
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
