"""The flags and environment variables of the embedded server, and what each of them is about.

They are named as those of the real server where it has them. Which it has and this one does not
obey are here too, each with the reason; a flag with a method of its own is in
:mod:`drachtwist.hosting.server_tap`.
"""

from __future__ import annotations

from drachtwist.hosting import tracing
from drachtwist.hosting.collector import NO_FREEZE
from drachtwist.net.logs import LEVELS
from drachtwist.server.limits import ABOUT, describe_limit
from drachtwist.tracing.hep import PORT as HOMER_PORT

__all__ = [
    "DEFAULT_FILE",
    "DEFAULT_SECRET",
    "FLAGS",
    "PARAMETERS",
    "SWITCHES_NOT_OBEYED",
    "VALUES_NOT_OBEYED",
    "VARIABLES",
    "VARIABLES_NOT_OBEYED",
]

DEFAULT_SECRET = "cymru"
"""Everybody's secret, for servers that only this machine can reach."""

DEFAULT_FILE = "/etc/drachtio.conf.xml"
"""Where the real server looks for its configuration."""

_REDIS = "there is no blacklist"

VALUES_NOT_OBEYED = {
    "user": "use twistd --uid and --gid",
    "sofia-loglevel": "there is no Sofia stack in it",
    "blacklist-redis-address": _REDIS,
    "blacklist-redis-port": _REDIS,
    "blacklist-redis-key": _REDIS,
    "blacklist-redis-sentinels": _REDIS,
    "blacklist-redis-master": _REDIS,
    "blacklist-redis-password": _REDIS,
    "blacklist-refresh-secs": _REDIS,
}
"""Flags with a value that are accepted and reported, and why they are not obeyed."""

SWITCHES_NOT_OBEYED = {
    "daemon": "twistd runs in the background unless it is told -n",
    "stdout": "use twistd -n",
    "memory-debug": "Python manages the memory",
    "globally-readable-logs": "use twistd --umask",
}
"""The same for flags without a value."""

_SHORT = {"user": "u", "sofia-loglevel": "s"}

VARIABLES = {
    "file": "CONFIG_FILE_PATH",
    "address": "ADMIN_ADDRESS",
    "port": "ADMIN_TCP_PORT",
    "tls-port": "ADMIN_TLS_PORT",
    "secret": "SECRET",
    "key-file": "TLS_KEY_FILE",
    "cert-file": "TLS_CERT_FILE",
    "chain-file": "TLS_CHAIN_FILE",
    "dh-param": "TLS_DH_PARAM_FILE",
    "min-tls-version": "MIN_TLS_VERSION",
    "tls-cipherlist": "TLS_CIPHER_LIST",
    "mtu": "UDP_MTU",
    "tcp-keepalive-interval": "TCP_KEEPALIVE_INTERVAL",
    "orphan-grace": "ORPHAN_GRACE",
    "max-orphans": "MAX_ORPHANS",
    "user-agent-options-auto-respond": "USER_AGENT_OPTIONS_AUTO_RESPOND",
    "prometheus-scrape-port": "PROMETHEUS_SCRAPE_PORT",
    "loglevel": "LOGLEVEL",
    "homer": "HOMER_ADDRESS",
    "homer-id": "HOMER_ID",
    **{f"limit-{name.replace('_', '-')}": f"LIMIT_{name.upper()}" for name in ABOUT},
}
"""Environment variables, without ``DRACHTIO_``, that stand in for flags that are not given."""

VARIABLES_NOT_OBEYED = {
    "SOFIA_LOGLEVEL": "there is no Sofia stack in it",
    "CONSOLE_LOGGING": "use twistd -n",
    "MEMORY_DEBUG": "Python manages the memory",
    "BLACKLIST_REDIS_ADDRESS": _REDIS,
    "BLACKLIST_REDIS_SENTINELS": _REDIS,
    "BLACKLIST_REDIS_MASTER": _REDIS,
    "BLACKLIST_REDIS_PASSWORD": _REDIS,
    "BLACKLIST_REDIS_PORT": _REDIS,
    "BLACKLIST_REDIS_KEY": _REDIS,
    "BLACKLIST_REDIS_REFRESH_SECS": _REDIS,
    "PRESERVE_HEADER_NAMES": "headers that SIP knows are written in their usual spelling,"
    " all others as the application spells them",
}
"""Environment variables that are accepted and reported."""

PARAMETERS = [
    [
        "file",
        "f",
        None,
        f"Configuration file; {DEFAULT_FILE} unless given, if there is one.",
    ],
    ["address", None, None, "Address of the admin ports; 127.0.0.1 unless given."],
    ["port", "p", None, "Admin port for TCP; 9022 unless given, 0 for none."],
    ["tls-port", None, None, "Admin port for TLS; needs --key-file and --cert-file."],
    [
        "secret",
        None,
        None,
        "What applications have to show. Other users of this machine can read it in the list"
        " of processes: better use --secret-file or DRACHTIO_SECRET. Without any it is"
        f" '{DEFAULT_SECRET}', which is refused unless the address is that of this machine"
        " itself.",
    ],
    ["secret-file", None, None, "A file whose first line is the secret."],
    [
        "http-handler",
        "a",
        None,
        "Ask a web application what to do with every new request (http://... or https://...),"
        " or connect to an application for it (tcp://host:port or tls://host:port).",
    ],
    ["http-method", "m", None, "GET or POST, which takes the SIP message along."],
    ["key-file", None, None, "Private key for TLS (PEM)."],
    ["cert-file", None, None, "Certificate for TLS (PEM)."],
    ["chain-file", None, None, "Further certificates to send along (PEM)."],
    ["dh-param", None, None, "Diffie-Hellman parameters for old clients of TLS (PEM)."],
    ["min-tls-version", None, None, "Oldest TLS to speak: 1.2, unless 1.3 is given."],
    ["tls-cipherlist", None, None, "Ciphers that TLS 1.2 may use, as OpenSSL writes them."],
    [
        "app-ca",
        None,
        None,
        "Certificates to trust when connecting to applications (PEM), instead of the system's"
        " authorities. Goes with --verify-applications, and switches it on.",
    ],
    [
        "peer-ca",
        None,
        None,
        "Certificates to trust when connecting to SIP peers over TLS (PEM), instead of the"
        " system's authorities.",
    ],
    ["mtu", None, None, "Longest request over UDP in bytes; 1300 unless given."],
    [
        "tcp-keepalive-interval",
        None,
        None,
        "Seconds between two probes of an idle application; 45 unless given, 0 for none.",
    ],
    [
        "orphan-grace",
        None,
        None,
        "Seconds that a call goes on whose application is gone, unless another takes it; 60"
        " unless given.",
    ],
    [
        "max-orphans",
        None,
        None,
        "How many such calls there may be; of more the oldest are ended. 10000 unless given.",
    ],
    [
        "user-agent-options-auto-respond",
        None,
        None,
        "The User-Agent whose OPTIONS are answered 200 without an application.",
    ],
    [
        "prometheus-scrape-port",
        None,
        None,
        "Serve numbers for Prometheus on this port ([ADDRESS:]PORT; 127.0.0.1 unless given).",
    ],
    [
        "homer",
        "y",
        None,
        f"Send all SIP to Homer (HEP3 over UDP): HOST:PORT; port {HOMER_PORT} unless given.",
    ],
    ["homer-id", "z", None, "The number that Homer knows this server by; 0 unless given."],
    ["loglevel", "l", None, f"What is logged: {', '.join(LEVELS)}; info unless given."],
    *tracing.PARAMETERS,
    *[
        [f"limit-{name.replace('_', '-')}", None, None, f"Limit: {describe_limit(name)}."]
        for name in ABOUT
    ],
    *[
        [name, _SHORT.get(name), None, f"Accepted, not obeyed: {why}."]
        for name, why in VALUES_NOT_OBEYED.items()
    ],
]
"""Flags with a value: name, letter, default, and what it is about."""

FLAGS = [
    ["noconfig", None, "Read no configuration file."],
    ["check-config", None, "Show the settings and what is wrong with them, and exit."],
    ["cdrs", None, "Send call detail records to the applications that routed them."],
    ["aggressive-nat-detection", None, "Believe nat=yes in a Contact or Record-Route."],
    ["disable-nat-detection", None, "Believe every Contact."],
    ["verify-applications", None, "Verify the certificates of applications over TLS."],
    ["verify-peers", None, "Verify the certificates of all SIP peers that it connects to."],
    ["no-verify-sips", None, "Do not verify even those of sips: peers, as the real server."],
    ["always-send-180", None, "Answer every new INVITE 180 at once."],
    ["reject-register-with-no-realm", None, "Refuse a REGISTER for an IPv4 address."],
    NO_FREEZE,
    *tracing.FLAGS,
    *[[name, None, f"Accepted, not obeyed: {why}."] for name, why in SWITCHES_NOT_OBEYED.items()],
]
"""Flags without one."""
