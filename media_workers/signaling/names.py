"""Display names as the others see them."""

import unicodedata
from typing import Final

_LONGEST: Final = 64


def shown_name(text: str) -> str:
    """Without control, format and unassigned characters (they could turn the text around), spaces joined; may be
    empty."""
    visible = "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return " ".join(visible.split())[:_LONGEST].strip()
