"""`python -m functions.docs.generate`: writes docs/openapi.json, which a test compares with the routes.

`--check` writes nothing and ends with 1 where the file is not up to date.
"""

import json
import sys
from pathlib import Path
from typing import Final

from conference.domain.errors import Unavailable
from functions.app import create_api
from functions.services import Services

FILE: Final = Path(__file__).parents[2] / "docs" / "openapi.json"


class _NoServices:
    """The document needs routes and shapes only."""

    async def services(self) -> Services:
        raise Unavailable("services", retryable=False, after_s=None)


def document() -> str:
    """The OpenAPI 3.1 document as text, in a stable order."""
    return json.dumps(create_api(_NoServices()).openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        return 0 if FILE.read_text(encoding="utf-8") == document() else 1
    FILE.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
