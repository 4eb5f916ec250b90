"""Documents and settings in step with the code, and lock files that name no registry."""

import re
from pathlib import Path

import pytest

from conference.settings import Settings

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).resolve().parents[2]
README_CAP = 80
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
METRIC = re.compile(r"[\"'](parley_[a-z_]+)[\"']")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_CAP


def test_links_between_documents_lead_somewhere() -> None:
    folders = (ROOT, ROOT / "web_client", ROOT / "clients/python")
    documents = [*(ROOT / "docs").rglob("*.md"), *(file for folder in folders for file in folder.glob("*.md"))]
    broken = [
        f"{document.relative_to(ROOT)} -> {target}"
        for document in documents
        for target in LINK.findall(document.read_text())
        if not (document.parent / target).exists()
    ]
    assert not broken


def test_every_setting_is_in_the_operations_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    missing = [
        name for name in Settings.model_fields if f"PARLEY_{name.upper()}" not in guide and name != "otlp_endpoint"
    ]
    assert not missing
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in guide


def test_every_metric_is_in_the_operations_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    named = {
        metric
        for folder in ("conference", "functions", "media_workers")
        for path in (ROOT / folder).rglob("*.py")
        for metric in METRIC.findall(path.read_text())
    }
    assert named, "metrics are named by literals"
    assert [metric for metric in sorted(named) if metric not in guide] == []


def test_every_decision_record_has_the_three_parts() -> None:
    records = sorted((ROOT / "docs/adr").glob("*.md"))
    assert records
    for record in records:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name)
        text = record.read_text()
        for part in ("## Context", "## Choice", "## Consequences"):
            assert part in text, f"{record.name} lacks {part}"


def test_lock_files_name_no_registry() -> None:
    npm = [ROOT / "package-lock.json", ROOT / "local/emulators/package-lock.json"]
    locks = [ROOT / "requirements.txt", *(ROOT / "requirements").glob("*.txt"), *npm]
    for lock in locks:
        assert "://" not in re.sub(r'"(?:url|funding|license)": ?"[^"]*"', "", lock.read_text()), lock.name


def test_every_cell_of_the_connectivity_table_has_a_test_that_exists() -> None:
    page = (ROOT / "docs/connectivity.md").read_text()
    tables = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")]
    tests = {row[0].strip(): row[1].strip() for row in tables if len(row) == 3 and row[1].strip().startswith("`test_")}
    cells = {
        letter
        for row in tables
        if len(row) > 3
        for cell in row[1:]
        for letter in re.findall(r"\b[A-Z]\b", cell.strip())
    }
    source = "\n".join(path.read_text() for path in (ROOT / "tests/e2e").glob("test_*.py"))
    assert len(cells) > 5
    assert cells <= set(tests)
    assert [name for name in tests.values() if f"def {name.strip('`')}(" not in source] == []
