"""Builds what is published as the Functions app: build/functions and build/functions.zip.

From the files that .funcignore leaves it takes the app's entry and the modules of ours that this imports, at once or by
name, with the data beside them; and requirements.txt, the lock file of the app (`make lock` writes it). Publish with
`cd build/functions && func azure functionapp publish NAME`, or deploy the zip with a remote build.
"""

import ast
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ENTRY: Final = "function_app.py"
# What no import of the app names: the program that brings a database up to date, and Alembic's scripts.
BESIDE: Final = ("conference.adapters.sql.migrate", "conference.adapters.sql.migrations")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the same bytes from the same files


@dataclass(frozen=True)
class Pattern:
    """A line of .funcignore, by the rules of .gitignore as far as they are used here."""

    text: str
    is_anchored: bool
    is_folder: bool

    @classmethod
    def of(cls, line: str) -> "Pattern":
        """Raises ValueError for a rule that is not known here."""
        if line.startswith("!") or "**" in line or "[" in line or "\\" in line:
            raise ValueError(f".funcignore: {line} is a rule that this tool does not know")
        text = line.strip("/")
        return cls(text, line.startswith("/") or "/" in text, line.endswith("/"))

    def matches(self, path: PurePosixPath, is_folder: bool) -> bool:
        if self.is_folder and not is_folder:
            return False
        return fnmatchcase(str(path) if self.is_anchored else path.name, self.text)


def left(root: Path) -> Iterator[str]:
    """The files below `root` that .funcignore leaves, as paths with slashes."""
    lines = (line.strip() for line in (root / ".funcignore").read_text(encoding="utf-8").splitlines())
    patterns = [Pattern.of(line) for line in lines if line and not line.startswith("#")]

    def is_ignored(path: PurePosixPath, is_folder: bool) -> bool:
        return any(pattern.matches(path, is_folder) for pattern in patterns)

    for folder, folders, files in os.walk(root):
        here = PurePosixPath(Path(folder).relative_to(root).as_posix())
        folders[:] = sorted(name for name in folders if not is_ignored(here / name, True))
        yield from (str(here / name) for name in sorted(files) if not is_ignored(here / name, False))


def modules(files: Iterable[str]) -> dict[str, str]:
    """The path of each module by its name, packages included."""
    found = {}
    for file in files:
        if file.endswith(".py"):
            name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            found[name] = file
    return found


def needed(root: Path, known: dict[str, str]) -> set[str]:
    """The modules that the entry needs, with the packages that they are in."""
    beside = [name for name in known if name.startswith(BESIDE)]
    pending, seen = ["function_app", *beside], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        pending.extend(_named((root / known[name]).read_text(encoding="utf-8"), known))
        package = name.rpartition(".")[0]
        if package in known:
            pending.append(package)
    return seen


def _named(source: str, known: dict[str, str]) -> Iterator[str]:
    """The modules of ours that a source imports, or names in a text, as `import_module` takes it."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            names = [node.value]
        yield from (name for name in names if name in known)


def chosen(root: Path) -> list[str]:
    """The files of the package. Raises ValueError where the entry or the requirements are missing."""
    files = list(left(root))
    if not {ENTRY, "host.json", "requirements.txt"} <= set(files):
        raise ValueError("function_app.py, host.json and requirements.txt have to be in the package")
    known = modules(files)
    wanted = needed(root, known)
    paths = {known[name] for name in wanted}
    folders = {str(PurePosixPath(known[name]).parent) for name in wanted}
    return [file for file in files if (file in paths if file.endswith(".py") else _is_beside(file, folders))]


def _is_beside(file: str, folders: set[str]) -> bool:
    """Whether data lies in a package that is taken, or below it in a folder without modules, or in the root."""
    return (
        any(str(parent) in folders for parent in PurePosixPath(file).parents if str(parent) != ".") or "/" not in file
    )


def build(root: Path, target: Path) -> list[str]:
    """Makes the folder `target` anew, and `target`.zip beside it; gives the files."""
    files = chosen(root)
    shutil.rmtree(target, ignore_errors=True)
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, target / file)
    with zipfile.ZipFile(target.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file, _EPOCH)
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, (target / file).read_bytes())
    return files


def main() -> int:
    """Prints what was built; gives the exit code."""
    target = ROOT / "build" / "functions"
    files = build(ROOT, target)
    size = target.with_suffix(".zip").stat().st_size
    sys.stdout.write(f"{len(files)} files in {target.relative_to(ROOT)}, {size / 1e6:.1f} MB as a zip beside it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
