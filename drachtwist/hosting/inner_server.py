"""The settings of a server in the same process as the application: those that count there.

They are read as those of a server in a process of its own are, by the same flags and from the same
file. What is about its applications does not count: there is one, and it is here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from drachtwist.hosting.server_tap import Options
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.configfile import Finding

__all__ = ["inner_config", "server_option_names"]


def server_option_names() -> set[str]:
    """Return the names of the options of a server in a process of its own."""
    return {name.rstrip("=") for name in Options().longOpt} - {"help", "version"}


def inner_config(
    path: str | None, words: Sequence[str], secret: str, tls: TlsOptions
) -> tuple[ServerConfig, list[Finding], Callable[[], ServerConfig]]:
    """Read the settings of a server that one application in the same process uses.

    :param path: of its configuration file; None for none.
    :param words: flags of ``twistd drachtio-server``.
    :param secret: what the application shows.
    :param tls: key and certificate, if it has any; they win over those of the file.
    :returns: the settings, what of the file is not obeyed, and a function that reads them again.
    :raises UsageError: for what cannot be meant.
    """
    options = Options()
    options.environment = {}
    options.default_file = None
    # The file may say that there is no admin port; ours is none of its affairs.
    given = ["--port", "9022", "--tls-port", "0", "--secret", secret]
    given += ["--noconfig"] if path is None else ["--file", path]
    options.parseOptions([*given, *_files(tls), *words])
    read: ServerConfig = options["config"]
    findings: list[Finding] = list(options["findings"])
    if read.request_handlers:
        findings.append(Finding("request-handlers", "the application is in this process"))

    def settled(config: ServerConfig) -> ServerConfig:
        return dataclasses.replace(
            config,
            admin_host="127.0.0.1",
            admin_port=0,
            admin_tls_port=None,
            secret=secret,
            request_handlers=(),
            log_calls=False,  # the application tells of them, and knows more
            tls=tls if tls.has_identity else config.tls,
        )

    return settled(read), findings, lambda: settled(options.reread())


def _files(tls: TlsOptions) -> Iterable[str]:
    """Name the files of a key and a certificate, for whoever looks whether there are any."""
    for flag, source in (
        ("--key-file", tls.key),
        ("--cert-file", tls.certificate),
        ("--chain-file", tls.chain),
    ):
        if source is not None:
            yield flag
            yield str(source)
