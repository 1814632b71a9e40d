"""The sockets that the web server listens on."""

import errno
import os
import socket

from retro.errors import ConfigError, shown


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen: whether that is possible is known before anything starts.

    A name such as ``localhost`` may have several addresses; this host need not have all.

    Raises:
        ConfigError: No address is one of this host, or the port is taken.
    """
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, address in dict.fromkeys((item[0], item[4]) for item in found):
            try:
                listeners.append(socket.create_server(address, family=family))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = error
        if not listeners and missing is not None:
            raise missing
        return listeners
    except UnicodeError:
        raise ConfigError(
            f"RETRO_HOST must be an address or the name of a host, got {shown(host)}. Choose "
            f"another with --host or RETRO_HOST."
        ) from None
    except OSError as error:
        for listener in listeners:
            listener.close()
        # Those of a name that is not known are negative.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise ConfigError(
            f"RETRO_HOST and RETRO_PORT must be an address that is free, got {host}:{port} "
            f"({reason}). Stop the program that uses it, or choose another port "
            f"with --port or RETRO_PORT."
        ) from error
