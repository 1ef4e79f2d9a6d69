"""A separately installed package adds one of each kind to the registries: the one that docs/plugins.md prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("plugin")  # one installation serves all
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "plugins.md"
README = ROOT / "README.md"
SUMMARY = "a corridor to walk along, stripes to look at, rhymes to read, and simple learners for them"
BROKEN = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "aprendiz-broken"
version = "1.0"
description = "an agent that does not import"

[project.entry-points."aprendiz.agents"]
broken-agent = "broken_agent:Agent"

[project.entry-points."aprendiz.generative"]
broken-model = "broken_agent:Model"

[project.entry-points."aprendiz.language"]
broken-words = "broken_agent:Words"

[tool.setuptools]
py-modules = ["broken_agent"]
"""


def install(source: Path, files: dict[str, str], target: Path) -> None:
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package of the page and one that does not import."""
    folder = tmp_path_factory.mktemp("plugins")
    files = dict(re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert sorted(files) == [
        *(
            f"corridor/{name}.py"
            for name in ("__init__", "agent", "backbone", "bigram", "env", "model", "rhymes", "stripes")
        ),
        "pyproject.toml",
    ]
    assert files["corridor/model.py"] == (ROOT / "tests" / "generative" / "linear_autoencoder.py").read_text()
    assert files["corridor/bigram.py"] == (ROOT / "tests" / "language" / "bigram.py").read_text()
    install(folder / "corridor-source", files, folder / "site")
    install(folder / "broken-source", {"pyproject.toml": BROKEN, "broken_agent.py": "import numpyy\n"}, folder / "site")
    toml, source = (
        re.search(rf"^```{kind}\n(.*?)^```$", README.read_text(), re.M | re.S)[1] for kind in ("toml", "python")
    )
    install(folder / "small-source", {"pyproject.toml": toml, "my_backbones.py": source}, folder / "site")
    return folder / "site"


def python(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(site)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "APRENDIZ_RUNS": str(cwd / "runs")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )


def train(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(site, cwd, "-m", "agents.train", *arguments)


def test_list_shows_plugins_with_their_distribution_and_its_summary(site: Path, tmp_path: Path) -> None:
    done = train(site, tmp_path, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("linear-q", "corridor", "one-layer"):
        line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert SUMMARY in line
        assert line.endswith("plugin aprendiz-corridor")
    line = next(line for line in done.stdout.splitlines() if "broken-agent" in line)
    assert "an agent that does not import" in line and line.endswith("plugin aprendiz-broken")
    assert "dqn" in done.stdout and "breakout" in done.stdout


def test_list_of_generative_models_shows_plugins_too(site: Path, tmp_path: Path) -> None:
    done = python(site, tmp_path, "-m", "generative.train", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("linear-autoencoder", "stripes", "one-layer"):
        line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert SUMMARY in line and line.endswith("plugin aprendiz-corridor")
    assert "broken-model" in done.stdout and "dcgan" in done.stdout and "digits" in done.stdout


def test_a_plugin_s_model_learns_a_plugin_s_data_with_a_plugin_s_backbone(site: Path, tmp_path: Path) -> None:
    plugins = ("linear_autoencoder", "--data", "stripes", "--backbone", "one-layer", "--size", "6", "--code-units", "9")
    done = python(site, tmp_path, "-m", "generative.train", *plugins, "--epochs", "2", "--wandb", "disabled")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("stripes-linear-autoencoder-s")
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["data"]["options"]["size"] == 6 and config["data"]["spec"]["classes"] == ["lying", "standing"]
    assert config["model"]["hyperparameters"]["backbone"] == "one-layer"
    for command in (
        ("sample", "--out", "a.png"),
        ("filters", "--out", "b.png"),
        ("encode", "stripes", "--out", "c.npy"),
    ):
        used = python(site, tmp_path, "-m", f"generative.{command[0]}", run.name, *command[1:])
        assert used.returncode == 0, used.stderr
    assert "float32 [600, 9] in c.npy" in used.stdout
    resumed = ("--resume", run.name, "--epochs", "3", "--wandb", "disabled")
    assert python(site, tmp_path, "-m", "generative.train", *resumed).returncode == 0


def test_a_plugin_s_data_and_backbone_serve_the_models_of_aprendiz(site: Path, tmp_path: Path) -> None:
    words = ("vae", "--data", "stripes", "--backbone", "one-layer", "--images", "200", "--wandb", "disabled")
    done = python(site, tmp_path, "-m", "generative.train", *words)
    assert done.returncode == 0, done.stderr


def test_a_generative_plugin_that_does_not_import_ends_in_one_line(site: Path, tmp_path: Path) -> None:
    done = python(site, tmp_path, "-m", "generative.train", "broken-model")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "aprendiz-broken" in line and "No module named 'numpyy'" in line


def test_list_of_language_models_shows_plugins_too(site: Path, tmp_path: Path) -> None:
    done = python(site, tmp_path, "-m", "language.train", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("bigram", "rhymes"):
        line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert SUMMARY in line and line.endswith("plugin aprendiz-corridor")
    assert "broken-words" in done.stdout and "lstm" in done.stdout and "pydoc" in done.stdout


def test_a_plugin_s_language_model_learns_a_plugin_s_text(site: Path, tmp_path: Path) -> None:
    options = ("--data", "rhymes", "--verses", "60", "--noise", "0.2", "--tokens", "3_000", "--wandb", "disabled")
    done = python(site, tmp_path, "-m", "language.train", "bigram", *options)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("rhymes-bigram-s")
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["text"]["options"]["verses"] == 60 and config["model"]["hyperparameters"]["noise"] == 0.2
    sampled = python(site, tmp_path, "-m", "language.sample", run.name, "--prompt", "I saw", "--length", "30")
    assert sampled.returncode == 0 and sampled.stdout.startswith("I saw") and len(sampled.stdout) == 36
    resumed = ("--resume", run.name, "--tokens", "4_000", "--wandb", "disabled")
    assert python(site, tmp_path, "-m", "language.train", *resumed).returncode == 0


def test_a_plugin_s_text_serves_the_models_of_aprendiz(site: Path, tmp_path: Path) -> None:
    words = ("ngram", "--data", "corridor.rhymes:rhymes", "--level", "word", "--wandb", "disabled")
    done = python(site, tmp_path, "-m", "language.train", *words)
    assert done.returncode == 0, done.stderr


def test_a_language_plugin_that_does_not_import_ends_in_one_line(site: Path, tmp_path: Path) -> None:
    done = python(site, tmp_path, "-m", "language.train", "broken-words")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "aprendiz-broken" in line and "No module named 'numpyy'" in line


def test_plugins_train_with_the_same_command(site: Path, tmp_path: Path) -> None:
    plugins = ("corridor", "--agent", "linear_q", "--backbone", "one-layer")
    options = ("--squares", "7", "--time-limit-steps", "6", "--learning-rate", "0.2")  # no time to turn back
    done = train(site, tmp_path, *plugins, *options, "--steps", "4_000", "--wandb", "disabled", "--no-video")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("corridor-linear-q-s")
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["environment"]["options"]["squares"] == 7
    assert config["agent"]["hyperparameters"]["backbone"] == "one-layer"
    assert config["agent"]["hyperparameters"]["learning_rate"] == 0.2
    evaluated = python(site, tmp_path, "-m", "agents.evaluate", run.name, "--episodes", "20")
    assert evaluated.returncode == 0, evaluated.stderr
    (evaluation,) = json.loads((run / "evaluations.json").read_text())
    assert evaluation["mean"] > 0.9  # 0.26 at random


def test_the_help_of_a_plugin_shows_its_own_options(site: Path, tmp_path: Path) -> None:
    done = train(site, tmp_path, "corridor", "--agent", "linear-q", "--help")
    assert done.returncode == 0, done.stderr
    assert "--squares" in done.stdout and "Step size of gradient descent." in " ".join(done.stdout.split())


def test_what_the_page_adds_keeps_the_contract(site: Path, tmp_path: Path) -> None:
    check = PAGE.read_text().rpartition("```python\n")[2].partition("```")[0]
    done = python(site, tmp_path, "-c", check)
    assert done.returncode == 0, done.stderr


def test_the_readme_s_backbone_reads_stacks_of_frames(site: Path, tmp_path: Path) -> None:
    code = """
import numpy, torch
from gymnasium.spaces import Box
from aprendiz import BACKBONES
assert BACKBONES.describe("small-cnn").summary == "a small convolution for small pictures"
backbone = BACKBONES.get("small-cnn")(Box(0, 255, (4, 84, 84), numpy.uint8))
assert backbone(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape == (2, backbone.features)
"""
    done = python(site, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_a_plugin_that_does_not_import_ends_in_one_line_that_names_it(site: Path, tmp_path: Path) -> None:
    done = train(site, tmp_path, "cartpole", "--agent", "broken-agent")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "aprendiz-broken" in line and "No module named 'numpyy'" in line
    assert not (tmp_path / "runs").exists()


def test_a_plugin_that_does_not_import_breaks_nothing_else(site: Path, tmp_path: Path) -> None:
    done = train(site, tmp_path, "gridworld", "--steps", "300", "--wandb", "disabled", "--no-video")
    assert done.returncode == 0, done.stderr
