"""What the pages name is there: tests, files and links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents import AGENTS
from generative import GENERATIVE
from language import LANGUAGE

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "runs" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_pitfall_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "pitfalls.md").read_text()
    named = re.findall(r"^- `(\S+\.py)::(\w+)`$", text, re.MULTILINE)
    assert len(named) == text.count("\n- ")
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists() or f"\ndef {test}(" not in (ROOT / file).read_text()
    ]
    assert missing == []


def test_no_pitfall_is_without_a_test() -> None:
    text = (ROOT / "docs" / "pitfalls.md").read_text()
    pitfalls = re.split(r"^(?=\*\*)", text, flags=re.MULTILINE)[1:]
    assert [pitfall.splitlines()[0] for pitfall in pitfalls if "\n- `tests/" not in pitfall] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", [d.name for d in AGENTS.describe_all() if d.distribution == "aprendiz"])
def test_every_agent_has_a_page_and_a_row_in_the_readme(name: str) -> None:
    found = AGENTS.describe(name)
    page = (ROOT / "docs" / "agents" / f"{name}.md").read_text()
    assert found.file in page and "python -m agents.train" in page and "## Known departures" in page
    assert re.search(rf"^\| `{name}` \|.*\({found.file}\)", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [d.name for d in GENERATIVE.describe_all() if d.distribution == "aprendiz"])
def test_every_generative_model_has_a_page_and_a_row_in_the_readme(name: str) -> None:
    found = GENERATIVE.describe(name)
    page = (ROOT / "docs" / "generative" / f"{name}.md").read_text()
    assert found.file in page and "python -m generative.train" in page and "## Known departures" in page
    assert re.search(rf"^\| `{name}` \|.*\({found.file}\)", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [d.name for d in LANGUAGE.describe_all() if d.distribution == "aprendiz"])
def test_every_language_model_has_a_page_and_a_row_in_the_readme(name: str) -> None:
    found = LANGUAGE.describe(name)
    page = (ROOT / "docs" / "language" / f"{name}.md").read_text()
    assert found.file in page and "python -m language.train" in page and "## Known departures" in page
    assert re.search(rf"^\| `{name}` \|.*\({found.file}\)", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_pages_of_agents_say_what_the_results_of_benchmarks_say() -> None:
    command = [sys.executable, "docs/agents/tables.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
