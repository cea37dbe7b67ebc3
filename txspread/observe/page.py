"""The status page: one file, nothing from elsewhere, nothing but its own script.

Its content security policy allows the page's style and script by their hashes and
requests to its own origin, so that no name of a client or group can become code.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

PAGE: Final = files("txspread.observe").joinpath("page.html").read_bytes()
"""The page as it is served."""


def _hashes(tag: bytes) -> bytes:
    blocks = re.findall(b"<%s>(.*?)</%s>" % (tag, tag), PAGE, re.DOTALL)
    return b" ".join(
        b"'sha256-" + base64.b64encode(hashlib.sha256(block).digest()) + b"'" for block in blocks
    )


POLICY: Final = b"; ".join(
    (
        b"default-src 'none'",
        b"script-src " + _hashes(b"script"),
        b"style-src " + _hashes(b"style"),
        b"connect-src 'self'",
        b"base-uri 'none'",
        b"form-action 'none'",
        b"frame-ancestors 'none'",
    )
)
"""Value of the content-security-policy header."""
