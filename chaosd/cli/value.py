"""What a word on the command line means, without YAML where it would say the same."""

from __future__ import annotations

import re
from typing import Any

_TEXT = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./@+-]|:(?=[A-Za-z0-9_./]))*", re.ASCII)
_AMOUNT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?(?:%|[a-wyzA-WYZ]{1,8})", re.ASCII)  # 0x would be a number
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,14}", re.ASCII)
_BROKEN = re.compile(r"(?:0|[1-9][0-9]{0,8})\.[0-9]{1,9}", re.ASCII)
_NAMES = {"true": True, "false": False}
_OTHERS = ("true", "false", "yes", "no", "on", "off", "null")  # in any case, names of values in YAML


def value(text: str) -> Any:
    """What a word means in YAML; importing that takes longer than the daemon takes to put a fault in force.

    Raises:
        ChaosdError: it is not YAML.
    """
    if text in _NAMES:
        return _NAMES[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _BROKEN.fullmatch(text):
        return float(text)
    if _AMOUNT.fullmatch(text) or (_TEXT.fullmatch(text) and text.lower() not in _OTHERS):
        return text
    from chaosd.document import scalar

    return scalar(text)
