"""What the app refuses to start with."""

from pathlib import Path

import pytest

from app.settings import read_settings
from retro.errors import ConfigError


def test_the_defaults_listen_on_loopback_without_a_token() -> None:
    settings = read_settings({})

    assert (settings.host, settings.port, settings.token) == ("127.0.0.1", 7860, None)
    assert settings.home == Path("~/.retro").expanduser()


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "::", "192.168.1.5", "retro.example", "127.0.0.1.x", "127.0.0.1.",
        "localhost..", ".localhost", "localhost.evil.com", "localhost.evil.com.",
        "127.0.0.1.evil.com", "localhost ",
    ],
)  # fmt: skip
def test_a_network_address_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="RETRO_TOKEN must be set") as caught:
        read_settings({"RETRO_HOST": host})

    assert repr(host) in str(caught.value)
    assert read_settings({"RETRO_HOST": host, "RETRO_TOKEN": "x" * 16}).token == "x" * 16


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LocalHost", "localhost.", "LOCALHOST.", "::1", "127.3.2.1"]
)
def test_loopback_needs_none(host: str) -> None:
    assert read_settings({"RETRO_HOST": host}).token is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRO_PORT", "0"),
        ("RETRO_PORT", "http"),
        ("RETRO_PORT", "70000"),
        ("RETRO_PORT", "1" * 5_000),
        ("RETRO_TOKEN", "short"),
        ("RETRO_MCP", "on"),
        ("RETRO_MCP", "READ"),
        ("RETRO_MCP", "read,write"),
        ("RETRO_ENCODER", "e" * 10_000),
        ("RETRO_ENCODER", "user/name\n"),
        ("RETRO_HOME", "/tmp/" + "h" * 10_000),
        ("RETRO_HOME", "~nobody-of-this-name/x"),
    ],
)
def test_wrong_values_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_settings({name: value})


def test_mcp_is_off_unless_it_is_switched_on() -> None:
    assert read_settings({}).mcp == "off"
    assert read_settings({"RETRO_MCP": ""}).mcp == "off"
    assert read_settings({"RETRO_MCP": "read"}).mcp == "read"
    with pytest.raises(ConfigError, match="RETRO_MCP must be one of off, read, write, got 'all'"):
        read_settings({"RETRO_MCP": "all"})
