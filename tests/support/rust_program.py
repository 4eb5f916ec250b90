"""Programs of the data plane's workspace, as cargo builds them."""

import os
import subprocess
from pathlib import Path
from typing import Final

WORKSPACE: Final = Path(__file__).resolve().parents[2] / "dataplane"


class NotBuilt(Exception):
    """There is no such program here; the text says why."""


def target_directory() -> Path:
    """Where cargo builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or WORKSPACE / "target")


def built(package: str) -> Path:
    """The program of a package, as it was built last. Raises NotBuilt."""
    found = (target_directory() / profile / package for profile in ("release", "debug"))
    program = next((path for path in found if path.exists()), None)
    if program is None:
        raise NotBuilt(f"{package} is not built (cargo build --package {package})")
    return program


def build(package: str) -> Path:
    """Builds the program of a package for measurements. Raises NotBuilt without cargo or where the build fails."""
    try:
        command = ["cargo", "build", "--release", "--quiet", "--locked", "--package", package]
        subprocess.run(command, cwd=WORKSPACE, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotBuilt(f"{package} was not built: {error}") from error
    return target_directory() / "release" / package
