"""Ask a SIP element whether it is there: exit status 0 when OPTIONS is answered with 200."""

from __future__ import annotations

import socket
import sys


def main(port: int) -> int:
    """Send one OPTIONS over UDP, and look at the answer."""
    with socket.socket(type=socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(30.0)
        own = phone.getsockname()[1]
        text = (
            f"OPTIONS sip:app@127.0.0.1:{port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK{own}\r\n"
            f"From: <sip:probe@127.0.0.1:{own}>;tag={own}\r\n"
            f"To: <sip:app@127.0.0.1:{port}>\r\n"
            f"Call-ID: probe-{own}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        phone.sendto(text.encode(), ("127.0.0.1", port))
        try:
            answer = phone.recv(65536)
        except OSError:
            return 1
        return 0 if answer.startswith(b"SIP/2.0 200 ") else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
