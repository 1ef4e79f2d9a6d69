from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aprendiz import BACKBONES
from aprendiz.errors import PluginError, UnknownNameError
from aprendiz.registry import Entry, Registry

BUILTINS = {
    "q-learning": Entry("collections:OrderedDict", "tabular control", "Watkins 1989"),
    "dqn": Entry("collections:Counter.most_common", "deep Q-network"),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a fake distribution: its metadata, its entry points of aprendiz.fruit, and its one module."""

    def add(name: str, entries: dict[str, str], source: str = "Thing = 'thing'\n", summary: str = "A plugin.") -> None:
        site = tmp_path / name
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: {summary}\n")
        points = "".join(f"{key} = {value}\n" for key, value in entries.items())
        (info / "entry_points.txt").write_text(f"[aprendiz.fruit]\n{points}")
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return add


def test_builtins_are_listed_sorted_described_and_loaded() -> None:
    registry = Registry("fruit", BUILTINS)
    assert registry.names() == ["dqn", "q-learning"]
    found = registry.describe("q-learning")
    assert (found.summary, found.paper, found.file) == ("tabular control", "Watkins 1989", "collections.py")
    assert found.distribution == "aprendiz" and found.target == "collections:OrderedDict"
    assert registry.get("q-learning").__name__ == "OrderedDict"
    assert registry.get("dqn").__name__ == "most_common"  # a dotted attribute
    assert [one.name for one in registry.describe_all()] == registry.names()


def test_hyphens_underscores_and_capitals_do_not_matter() -> None:
    assert Registry("fruit", BUILTINS).canonical("Q_Learning") == "q-learning"


def test_unknown_name_lists_the_closest_and_how_to_see_all() -> None:
    with pytest.raises(
        UnknownNameError, match="unknown name 'qlearning' among the 2 fruit; closest: q-learning; --list"
    ):
        Registry("fruit", BUILTINS).get("qlearning")
    with pytest.raises(UnknownNameError, match="among the 2 pieces of fruit"):
        Registry("fruit", BUILTINS, "pieces of fruit").get("qlearning")


def test_builtins_may_be_computed_when_first_asked_for() -> None:
    calls: list[int] = []
    registry = Registry("fruit", lambda: calls.append(1) or BUILTINS)
    assert calls == []
    assert registry.names() == registry.names() == ["dqn", "q-learning"]
    assert calls == [1]


def test_module_and_attribute_need_no_registration() -> None:
    registry = Registry("fruit", BUILTINS)
    assert registry.get("collections:deque").__name__ == "deque"
    assert registry.canonical("collections:deque") == "collections:deque"
    with pytest.raises(
        PluginError, match="'no.such:Thing' cannot be loaded: ModuleNotFoundError: No module named 'no'"
    ):
        registry.get("no.such:Thing")
    with pytest.raises(PluginError, match="has no attribute 'dequeue'"):
        registry.get("collections:dequeue")


def test_a_plugin_adds_a_name_with_the_summary_of_its_distribution(install) -> None:
    install("ripe-plugin", {"Ripe_Mango": "ripe_plugin:Thing"}, summary="A ripe one.")
    registry = Registry("fruit", BUILTINS)
    assert registry.names() == ["dqn", "q-learning", "ripe-mango"]
    found = registry.describe("ripe-mango")
    assert (found.summary, found.distribution, found.file) == ("A ripe one.", "ripe-plugin", "ripe_plugin")
    assert "ripe_plugin" not in sys.modules  # described without importing it
    assert registry.get("ripe_mango") == "thing"


def test_a_plugin_that_does_not_import_is_named_and_breaks_nothing_else(install) -> None:
    install("rotten-plugin", {"rotten": "rotten_plugin:Thing"}, source="import numpyy\n")
    install("ripe-plugin", {"ripe": "ripe_plugin:Thing"})
    registry = Registry("fruit", BUILTINS)
    assert registry.names() == ["dqn", "q-learning", "ripe", "rotten"]
    assert registry.get("ripe") == "thing" and registry.describe("rotten").distribution == "rotten-plugin"
    with pytest.raises(PluginError, match="'rotten-plugin' cannot be loaded: ModuleNotFoundError: .*rotten_plugin.py"):
        registry.get("rotten")


def test_a_name_registered_by_two_plugins_names_both(install) -> None:
    install("red-plugin", {"mango": "red_plugin:Thing"})
    install("blue-plugin", {"Mango": "blue_plugin:Thing", "kiwi": "blue_plugin:Thing"})
    registry = Registry("fruit", BUILTINS)
    assert registry.names() == ["dqn", "kiwi", "mango", "q-learning"]
    assert registry.get("kiwi") == "thing"
    for method in (registry.get, registry.describe):
        with pytest.raises(PluginError, match="'mango' is registered by blue-plugin and red-plugin"):
            method("mango")
    summaries = {one.name: one.summary for one in registry.describe_all()}
    assert summaries["mango"] == "conflict: registered by blue-plugin and red-plugin"


def test_a_plugin_cannot_take_the_name_of_a_builtin(install) -> None:
    install("red-plugin", {"DQN": "red_plugin:Thing"})
    with pytest.raises(PluginError, match="registered by aprendiz and red-plugin"):
        Registry("fruit", BUILTINS).get("dqn")


def test_file_of_a_package_is_its_init() -> None:
    assert Registry("fruit", {"a": Entry("aprendiz:BACKBONES", "")}).describe("a").file == "aprendiz/__init__.py"
    assert BACKBONES.describe("NATURE_CNN").file == "aprendiz/backbones.py"
