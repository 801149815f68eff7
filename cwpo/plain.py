"""Text from data, models and the environment made fit to be shown: no terminal controls, no credentials."""

import os
import re
from collections.abc import Mapping

# C0 but tab and newline, DEL, C1, marks and overrides of direction, line separators, halves of a surrogate pair.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?$|SECRET", re.IGNORECASE)
SHORTEST = 8  # shorter values of such variables are words like `true`, not keys
IN_URL = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
IN_QUERY = re.compile(r"(?i)([?&](?:[\w-]*(?:key|token|secret|password|signature|sig))=)[^&\s'\"]+")
HIDDEN = "***"
LONGEST = 4000  # characters of a line


def visible(text: str) -> str:
    """The text with control characters as escapes, `\\x1b` or `\\u202e`: a terminal shows them instead of obeying."""
    codes = {ord(letter) for letter in CONTROL.findall(text)}
    return text.translate({code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in codes})


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without credentials: values of variables called ..._KEY, ..._TOKEN and the like, and what URLs carry."""
    environment = os.environ if environment is None else environment
    secrets = {v for k, v in environment.items() if SECRET.search(k) and len(v) >= SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):  # one may contain another
        text = text.replace(secret, HIDDEN)
    return IN_QUERY.sub(rf"\g<1>{HIDDEN}", IN_URL.sub(HIDDEN, text))


def shown(text: str) -> str:
    """What may be printed of a text from anywhere: no controls, no credentials, no endless lines."""
    return "\n".join(_clipped(line) for line in visible(without_secrets(text)).split("\n"))


def _clipped(line: str) -> str:
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST - 500]} … ({len(line) - LONGEST:,} characters more) … {line[-500:]}"
