"""Makes text from data, models and the environment safe to show: no terminal control characters, no credentials."""

import os
import re
from collections.abc import Mapping

# C0 except tab and newline, DEL, C1, marks and overrides of direction, line separators, byte order mark, surrogates.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?$|SECRET", re.IGNORECASE)
SHORTEST = 8  # the fewest characters of a credential; shorter values of such variables are words like `true`
IN_URL = re.compile(r"(?<=://)[^/\s'\"]+(?=@)")  # up to the last @, because a password may contain @
IN_QUERY = re.compile(r"(?i)([?&](?:[\w-]*(?:key|token|secret|password|signature|sig))=)[^&\s'\"]+")
HIDDEN = "***"
LONGEST = 4000  # the most characters of a line that is shown whole


def visible(text: str) -> str:
    """Returns the text with control characters escaped, as `\\x1b` or `\\u202e`, so that no terminal obeys them."""
    codes = {ord(letter) for letter in CONTROL.findall(text)}
    return text.translate({code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in codes})


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Returns the text with *** for credentials: those in URLs, and values of variables such as X_KEY or X_TOKEN."""
    environment = os.environ if environment is None else environment
    secrets = {v for k, v in environment.items() if SECRET.search(k) and len(v) >= SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):  # a secret may contain a shorter one
        text = text.replace(secret, HIDDEN)
    return IN_QUERY.sub(rf"\g<1>{HIDDEN}", IN_URL.sub(HIDDEN, text))


def shown(text: str) -> str:
    """Returns the text without control characters and credentials; cuts the middle out of lines longer than LONGEST."""
    return "\n".join(_clipped(line) for line in visible(without_secrets(text)).split("\n"))


def _clipped(line: str) -> str:
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST - 500]} … ({len(line) - LONGEST:,} characters more) … {line[-500:]}"
