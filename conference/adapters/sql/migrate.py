"""`python -m conference.adapters.sql.migrate [revision]`: brings the database of the settings up to date.

The one module of this package that reads the settings: it is the entry of a process, as a worker's wiring is.
"""

import asyncio
import sys

from conference.adapters.sql.engine import open_database
from conference.adapters.sql.schema import upgrade
from conference.settings import settings


async def migrate(url: str, revision: str = "head") -> None:
    """Upgrades the database at a SQLAlchemy URL; a migration may take as long as it needs. Raises Unavailable."""
    database = open_database(url, statement_timeout_s=None)
    try:
        await upgrade(database, revision)
    finally:
        await database.close()


def main() -> None:
    chosen = settings()
    if not chosen.database_url:
        chosen.data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(migrate(chosen.sql_url, *sys.argv[1:2]))


if __name__ == "__main__":
    main()
