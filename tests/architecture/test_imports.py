"""Which package may import which, what nobody may import, and what a command may not import before it must."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = {
    "aprendiz": set(),
    "envs": {"aprendiz"},
    "agents": {"aprendiz", "envs"},
    "generative": {"aprendiz"},
    "language": {"aprendiz"},
}
"""Package to the other packages of this repository that it may import."""
PACKAGES = [name for name in DOORS if (ROOT / name).is_dir()]
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
EXTRAS = {"aprendiz/live": "web"}
"""Folders whose modules may import what an extra brings."""
SLOW_TO_IMPORT = {"torch", "gymnasium", "ale_py", "numba", "scipy", "matplotlib", "wandb", "stable_baselines3"}


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module imported, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, f"{package}.{node.module or ''}" if node.level else str(node.module)


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every module in text that a registry or `importlib` would import."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if re.fullmatch(r"[a-z_]\w*(\.\w+)*(:[A-Za-z_][\w.]*)?", text) and re.search("[.:]", text):
            yield node.lineno, text.partition(":")[0]


def wrong_doors(source: str, package: str) -> list[str]:
    tree = ast.parse(source)
    roots = ((line, name.partition(".")[0]) for line, name in [*imported(tree, package), *named(tree)])
    closed = {*DOORS, "tests", "benchmarks"} - DOORS[package] - {package}
    return [f"line {line}: {package} imports {root}" for line, root in roots if root in closed]


def unsafe(source: str) -> list[str]:
    tree = ast.parse(source)
    found = [f"line {line}: imports {name}" for line, name in imported(tree, "") if name.split(".")[0] in UNPICKLERS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            pickled = any(
                word.arg == "allow_pickle" and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                for word in node.keywords
            )
            if pickled or ast.unparse(node.func) in {"eval", "exec", "torch.load", "torch.package.PackageImporter"}:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_packages_import_each_other_in_one_direction(name: str) -> None:
    assert wrong_doors((ROOT / name).read_text(), name.partition("/")[0]) == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("aprendiz", "import envs"),
        ("aprendiz", "if TYPE_CHECKING:\n    from envs.core import Env"),
        ("aprendiz", "Entry('agents.dqn:DQN', 'deep Q-network')"),
        ("aprendiz", "importlib.import_module('language.train')"),
        ("envs", "def f():\n    from agents.core import Agent"),
        ("envs", "import agents.dqn as x"),
        ("agents", "from generative import GENERATIVE"),
        ("generative", "from envs import make"),
        ("language", "from agents.acting import ActingSource"),
        ("agents", "from tests.agents import helper"),
    ],
)
def test_a_wrong_door_is_noticed(package: str, source: str) -> None:
    assert len(wrong_doors(source, package)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_unpickles_or_evaluates_text(name: str) -> None:
    assert unsafe((ROOT / name).read_text()) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from cloudpickle import loads", "torch.load(path)", "eval(text)", "np.load(p, allow_pickle=x)"],
)
def test_unpickling_is_noticed(source: str) -> None:
    assert len(unsafe(source)) == 1
    assert unsafe("network.eval()\nnp.load(p, allow_pickle=False)\nsafetensors.torch.load(data)") == []


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=!~; ]", one)[0].lower().replace("_", "-") for one in requirements}

    core = names(project["dependencies"])
    distributions = packages_distributions()
    missing = set()
    for name in NAMES:
        extra = EXTRAS.get(str(Path(name).parent))
        allowed = core if extra is None else core | names(project["optional-dependencies"][extra])
        for line, module in imported(ast.parse((ROOT / name).read_text()), name.partition("/")[0]):
            root = module.partition(".")[0]
            if root not in sys.stdlib_module_names and root not in DOORS:
                providers = {one.lower().replace("_", "-") for one in distributions.get(root, [root])}
                if not providers & allowed:
                    missing.add(f"{name}, line {line}: {root}")
    assert sorted(missing) == []


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in FILES}
    assert sorted(listed) == sorted(folders)


def modules_after(code: str, cwd: Path) -> tuple[set[str], str]:
    """What is in sys.modules once `code` has run or exited with 0, and what it printed."""
    script = f"""
import sys
try:
    {code}
except SystemExit as stopped:
    assert not stopped.code, stopped.code
print("\\nMODULES", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    printed, _, modules = done.stdout.rpartition("\nMODULES")
    return set(modules.split()), printed


def is_command(path: Path) -> bool:
    return any(isinstance(n, ast.If) and "__main__" in ast.unparse(n.test) for n in ast.parse(path.read_text()).body)


def algorithms() -> set[str]:
    """Modules that a registry's built-ins live in."""
    found = set()
    for name in PACKAGES:
        for node in ast.walk(ast.parse((ROOT / name / "__init__.py").read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Entry":
                found.add(ast.literal_eval(node.args[0]).partition(":")[0])
    return found


COMMANDS = [
    str(p.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__main__") for p in FILES if is_command(p)
]


def run_command(module: str, *arguments: str) -> str:
    run = f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return f"import runpy; sys.argv = {[module, *arguments]!r}; {run}"


@pytest.mark.parametrize("module", [*PACKAGES, "aprendiz.cli", "aprendiz.config", "aprendiz.data", "aprendiz.text"])
def test_importing_a_package_imports_nothing_slow(module: str) -> None:
    modules, _ = modules_after(f"import {module}", ROOT)
    assert modules.isdisjoint(SLOW_TO_IMPORT | algorithms() | {"tyro", "rich"})


@pytest.mark.parametrize("module", COMMANDS)
def test_help_imports_neither_torch_nor_an_algorithm(module: str) -> None:
    modules, printed = modules_after(run_command(module, "--help"), ROOT)
    assert "usage" in printed.lower() and module.rpartition(".")[2] in printed
    assert modules.isdisjoint(SLOW_TO_IMPORT | algorithms())


@pytest.mark.parametrize("module", [name for name in COMMANDS if name.endswith(".train")])
def test_list_imports_neither_torch_nor_an_algorithm(module: str) -> None:
    modules, printed = modules_after(run_command(module, "--list"), ROOT)
    family = module.partition(".")[0]
    table = ast.parse((ROOT / family / "__init__.py").read_text())
    names = [ast.literal_eval(k) for n in ast.walk(table) if isinstance(n, ast.Dict) for k in n.keys if k is not None]
    assert names and all(name in printed for name in names)
    assert modules.isdisjoint(SLOW_TO_IMPORT | algorithms())
