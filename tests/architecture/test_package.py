"""What `make package` builds: the app and nothing else, importable where there is nothing else, the same each time."""

import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tools.check_locks import main as check_locks
from tools.package import Pattern, build, chosen, left, modules, needed

pytestmark = pytest.mark.architecture
ROOT = Path(__file__).resolve().parents[2]
TRIGGERS = re.findall(r'function_name\("(\w+)"\)', (ROOT / "functions/triggers.py").read_text())
# Lists the functions and imports every module, in an interpreter that knows the package and, of what is installed, only
# the distributions that its requirements pin; says where the modules of ours came from.
PROBE = """
import importlib, importlib.metadata, json, sys
package, libraries, ours, pins = sys.argv[1:5]
sys.path = [package, *(path for path in sys.path if "site-packages" not in path), libraries]
plain = lambda name: name.lower().replace("_", "-").replace(".", "-")
pinned = {plain(pin) for pin in pins.split(",")}
by_top = importlib.metadata.packages_distributions()
missing = {top for top, names in by_top.items() if not any(plain(name) in pinned for name in names)}
missing |= {"local", "media_workers", "tests", "tools"}

class Fence:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"{name} is not in the package, nor in its requirements", name=name)

sys.meta_path.insert(0, Fence())
app = importlib.import_module("function_app").app
names = sorted(function.get_function_name() for function in app.get_functions())
for name in ours.split(","):
    importlib.import_module(name)
places = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({
    "names": names,
    "ours": {name: place for name, place in places.items() if name.startswith(("conference", "function"))},
    "fence": "pytest" in missing,
}))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "functions"
    build(ROOT, target)
    return target


def test_it_imports_and_lists_its_functions_where_there_is_nothing_else(package: Path) -> None:
    known = modules(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    # Alembic's scripts are run by Alembic, not imported.
    imported = [name for name in known if not name.startswith("conference.adapters.sql.migrations.")]
    pins = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==", (package / "requirements.txt").read_text(), re.MULTILINE)
    arguments = [str(package), sysconfig.get_paths()["purelib"], ",".join(imported), ",".join(pins)]
    command = [sys.executable, "-I", "-S", "-B", "-c", PROBE, *arguments]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fence"]
    assert len(TRIGGERS) > 1
    assert found["names"] == sorted(["http", *TRIGGERS])
    assert set(found["ours"]) >= set(imported)
    places = {name: place for name, place in found["ours"].items() if place}
    assert [name for name, place in places.items() if not Path(place).is_relative_to(package)] == []


def test_it_holds_what_the_app_needs_and_nothing_else(package: Path) -> None:
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert files == set(chosen(ROOT))
    assert {
        "function_app.py",
        "host.json",
        "requirements.txt",
        "LICENSE",
        "conference/adapters/redis/scripts/enter.lua",
    } <= files
    assert {PurePosixPath(file).parts[0] for file in files if "/" in file} == {"conference", "functions"}
    known = modules(files)
    assert needed(package, known) == set(known)
    assert not [file for file in files if "/media/" in file or file.startswith("conference/protocol/rtp")]
    assert not [file for file in files if "local.settings" in file or file.endswith((".pyc", ".toml", ".key", ".pem"))]


def test_the_zip_is_the_folder_and_the_same_each_time(package: Path, tmp_path: Path) -> None:
    build(ROOT, tmp_path / "again")
    first, second = package.with_suffix(".zip"), tmp_path / "again.zip"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert set(archive.namelist()) == set(chosen(ROOT))
        assert archive.read("host.json") == (ROOT / "host.json").read_bytes()


def test_its_requirements_are_in_step_with_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_locks() == 0, capsys.readouterr().out


def test_funcignore_leaves_out_what_never_belongs_to_the_app(tmp_path: Path) -> None:
    (tmp_path / ".funcignore").write_text((ROOT / ".funcignore").read_text())
    kept = ["function_app.py", "functions/docs/router.py", "conference/settings.py", "host.json"]
    dropped = [
        "docs/api.md",
        "local/x.py",
        ".venv/x.py",
        "local.settings.json",
        "functions/__pycache__/a.pyc",
        ".git/x",
    ]
    for file in (*kept, *dropped):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert sorted(left(tmp_path)) == sorted(kept)


@pytest.mark.parametrize("rule", ["!kept", "a/**/b", "[ab]", "a\\b"])
def test_a_rule_that_is_not_understood_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="does not know"):
        Pattern.of(rule)


def test_a_package_without_its_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".funcignore").write_text("")
    with pytest.raises(ValueError, match="have to be in the package"):
        chosen(tmp_path)
