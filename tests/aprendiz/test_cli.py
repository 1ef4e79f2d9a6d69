from __future__ import annotations

import dataclasses
import errno
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import tyro

from aprendiz import cli
from aprendiz.errors import AprendizError, ConfigError
from aprendiz.registry import Entry, Registry


@dataclass(frozen=True, kw_only=True)
class Config:
    learning_rate: float = 1e-4
    """Step size of Adam (Mnih et al. 2015)."""
    double: bool = False
    """Choose with one network, judge with the other."""
    loss: Literal["huber", "mse"] = "huber"
    limit: int | None = None
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if self.limit == 0:
            raise ValueError("limit is 0")


Options = dataclasses.make_dataclass(
    "Options",
    [
        ("environment", tyro.conf.Positional[str]),
        ("steps", Annotated[int, tyro.conf.arg(help="Budget in agent decisions.")], 100),
        ("config", Annotated[Config, tyro.conf.arg(name="")], dataclasses.field(default_factory=Config)),
    ],
    kw_only=True,
    frozen=True,
)


def parse(*argv: str):
    return cli.parse(Options, argv, prog="python -m agents.train", description="Train an agent.")


def test_values_reach_the_nested_dataclass() -> None:
    parsed = parse("breakout", "--steps", "50_000", "--learning-rate", "5e-4", "--double", "--betas", "0", "0.9")
    assert (parsed.environment, parsed.steps) == ("breakout", 50_000)
    assert parsed.config == Config(learning_rate=5e-4, double=True, betas=(0.0, 0.9))


def test_underscores_equals_signs_and_none() -> None:
    assert parse("b", "--learning_rate=1", "--no-double", "--limit", "None").config == Config(learning_rate=1.0)


def test_a_default_instance_gives_the_defaults() -> None:
    default = Options(environment="pong", steps=7, config=Config(loss="mse"))
    assert cli.parse(Options, ["--steps", "8"], prog="p", default=default) == dataclasses.replace(default, steps=8)


def test_flag_names() -> None:
    flags = ["--steps", "--learning-rate", "--double", "--no-double", "--loss", "--limit", "--betas"]
    assert cli.flag_names(Options) == flags


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "^missing environment; python -m agents.train --help"),
        (
            ("b", "--lerning-rate", "3"),
            "^unknown option --lerning-rate; closest: --learning-rate; python -m agents.train",
        ),
        (("b", "--rate=3"), "^unknown option --rate; closest: --learning-rate;"),
        (("b", "-z"), "^unknown option -z;"),
        (("b", "extra"), "^unexpected argument extra;"),
        (("b", "--steps", "many"), "^--steps takes a whole number, not 'many';"),
        (("b", "--steps"), "^--steps needs a value;"),
        (("b", "--learning-rate", "x"), "^--learning-rate takes a number, not 'x';"),
        (("b", "--learning-rate", "-1"), r"^learning_rate is -1.0; it must be above 0$"),
        (("b", "--loss", "l1"), "^--loss cannot be 'l1'; choose from 'huber', 'mse';"),
        (("b", "--limit", "x"), r"^--limit takes INT or None, not 'x';"),
        (("b", "--limit", "0"), "^limit is 0;"),
        (("b", "--betas", "1"), "^--betas needs 2 values;"),
        (("b", "--double", "True"), r"^unexpected argument True \(a boolean is --name or --no-name\);"),
    ],
)
def test_errors_are_one_line(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AprendizError, match=message) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value) and "│" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_a_missing_positional_is_named_though_its_help_says_more_than_its_name() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Command:
        run: Annotated[str, tyro.conf.Positional]
        """A run's folder, or its name."""

    with pytest.raises(AprendizError, match="^missing run; prog --help lists"):
        cli.parse(Command, [], prog="prog")


def test_an_option_that_decides_which_others_there_are_is_given_once() -> None:
    assert cli.given(["--data", "digits", "--n=3"], "n") == "3" and cli.given(["--data"], "data") is None
    assert cli.given(["--data", "digits", "--data=digits"], "data") == "digits"
    with pytest.raises(AprendizError, match="^--data is given as mnist and as digits: give it once$"):
        cli.given(["--data", "mnist", "--data=digits"], "data")


def test_help_shows_docstrings_and_defaults_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for expected in ("Train an agent.", "Budget in agent decisions. (default: 100)", "Step size of Adam", "0.0001"):
        assert expected in shown


def run_main(monkeypatch: pytest.MonkeyPatch, function) -> int:
    monkeypatch.setattr(sys, "argv", ["prog", "a", "b"])
    with pytest.raises(SystemExit) as caught:
        cli.main(function)
    return caught.value.code


def test_main_passes_argv_and_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_main(monkeypatch, lambda argv: None) == 0
    assert run_main(monkeypatch, lambda argv: len(argv)) == 2


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (AprendizError("no game\n'brekout'"), 2, "error: no game 'brekout'\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x/y"),
            2,
            "error: no space left on the disk while writing x/y;",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_main_turns_errors_into_one_line(monkeypatch, capsys, error: BaseException, code: int, shown: str) -> None:
    def fail(argv: list[str]) -> None:
        raise error

    assert run_main(monkeypatch, fail) == code
    printed = capsys.readouterr().err
    assert printed.startswith(shown) and printed.count("\n") == 1


def test_main_lets_a_defect_keep_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prog"])
    with pytest.raises(ZeroDivisionError):
        cli.main(lambda argv: 1 // 0)


def test_a_closed_pipe_is_quiet() -> None:
    code = "from aprendiz import cli\ncli.main(lambda argv: [print('line', i) for i in range(100_000)] and None)"
    command = f'"{sys.executable}" -c "{code}" | head -1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("line 0\n", "")


def test_lists_are_plain_and_whole_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry("sorts", {"dqn": Entry("agents.dqn:DQN", "word " * 60, "Mnih 2015"), "ab": Entry("a.b:C", "x")})
    cli.print_list([cli.registry_section("Agents", registry)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Agents:" and lines[1].split() == ["ab", "x", "a/b.py"]
    assert "word " * 60 in lines[2] and lines[2].endswith("Mnih 2015  agents/dqn.py")


def test_importing_the_command_line_imports_neither_torch_nor_tyro() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import aprendiz.cli; spent = time.perf_counter() - start;"
        "print(spent, [name for name in ('torch', 'tyro', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    seconds, loaded = done.stdout.split(" ", 1)
    assert loaded.strip() == "[]" and float(seconds) < 1.0  # 0.03 s on an idle machine
