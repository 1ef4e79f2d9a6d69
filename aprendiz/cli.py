"""What every command shares: typed options, errors in one line, exit codes and lists."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import io
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from aprendiz.errors import AprendizError, ConfigError
from aprendiz.registry import BUILTIN_DISTRIBUTION, Registry

T = TypeVar("T")


def parse(
    options: type[T] | Any, argv: Sequence[str], *, prog: str, description: str = "", default: T | None = None
) -> T:
    """Read `argv` (without the program's name) into an instance of `options`.

    `options` is a dataclass or anything that tyro reads, such as one from `dataclasses.make_dataclass`, whose nested
    dataclasses are flattened by `Annotated[Inner, tyro.conf.arg(name="")]`. Hyphens equal underscores; a boolean is
    `--flag` or `--no-flag`. `-h` prints the help with the fields' docstrings and defaults, and exits with 0. Raises
    ConfigError in one line for an unknown flag, a bad value or a missing one; a ConfigError of `__post_init__` comes
    out as it is.
    """
    import tyro  # 0.1 s: only those who parse pay

    captured = io.StringIO()
    keywords: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(options, args=list(argv), prog=prog, description=description, **keywords)
    except SystemExit as stopped:
        if not stopped.code:
            raise
    except ValueError as error:  # from the __post_init__ of a nested dataclass
        raise ConfigError(f"{error}; {prog} --help lists what is allowed") from error
    _explain(options, argv, prog, captured.getvalue())


def parse_known(options: type[T] | Any, argv: Sequence[str], *, prog: str) -> T:
    """What `argv` says of `options`, whatever else stands in it: for those that decide which others there are.

    Help flags are passed over. Raises ConfigError in one line for a bad value of one of `options`.
    """
    import tyro

    captured = io.StringIO()
    words = [word for word in argv if word not in ("-h", "--help")]
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(options, args=words, prog=prog, return_unknown_args=True)[0]
    except SystemExit:
        pass
    except ValueError as error:
        raise ConfigError(f"{error}; {prog} --help lists what is allowed") from error
    _explain(options, [], prog, captured.getvalue())


def given(argv: Sequence[str], name: str) -> str | None:
    """The value of --name, before the options as a whole can be known. Raises ConfigError where there are two."""
    values = []
    for index, word in enumerate(argv):
        if word == f"--{name}" and index + 1 < len(argv):
            values.append(argv[index + 1])
        if word.startswith(f"--{name}="):
            values.append(word.partition("=")[2])
    if len(set(values)) > 1:
        raise ConfigError(f"--{name} is given as {' and as '.join(values)}: give it once")
    return values[0] if values else None


def flat(title: str) -> Any:
    """For `Annotated`: the flags of a nested dataclass without a prefix, under a title of their own."""
    import tyro

    return tyro.conf.arg(name="", help=title)


def flag_names(options: type | Any) -> list[str]:
    """The flags, such as `--learning-rate` and `--no-resume`, of a dataclass and of the dataclasses inside it."""
    return [option.name for option in _options(options) if option.name.startswith("--")]


def main(function: Callable[[list[str]], int | None]) -> None:
    """Run a command: `function(argv)` with the program's name left out; what it returns is the exit code.

    AprendizError and a full disk become one line on stderr and exit code 2, Ctrl-C exits with 130; every other
    exception keeps its traceback.
    """
    try:
        code = function(sys.argv[1:])
        sys.stdout.flush()
    except AprendizError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of our output went away, as in `--list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        _fail(f"no space left on the disk{where}; make room and resume, or set APRENDIZ_RUNS to a folder elsewhere")
    sys.exit(code or 0)


def let_idle_threads_sleep() -> None:
    """Tells OpenMP, unless its user has, that threads without work sleep at once; for before PyTorch is imported.

    They would spin for some milliseconds, in which they hold up threads of ours (`aprendiz.recurrent.rows`): on two
    cores an update of a recurrent network took a third longer.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class Section(NamedTuple):
    """A titled table of `print_list`; every row has as many cells as there are columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def registry_section(title: str, registry: Registry) -> Section:
    """The names of a registry with one line each, their papers, and where they come from."""
    rows = []
    for found in registry.describe_all():
        plugin = found.distribution not in ("", BUILTIN_DISTRIBUTION)
        rows.append((found.name, found.summary, found.paper, f"plugin {found.distribution}" if plugin else found.file))
    return Section(title, ("name", "summary", "paper", "origin"), rows)


def print_list(sections: Sequence[Section]) -> None:
    """Print sections as tables; where stdout is no terminal, as plain aligned text of which nothing is cut off."""
    if not sys.stdout.isatty():
        for section in sections:
            print(f"{section.title}:")
            widths = [max((len(row[i]) for row in section.rows), default=0) for i in range(len(section.columns))]
            for row in section.rows:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
                print(f"  {'  '.join(cells)}".rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for section in sections:
        table = Table(title=section.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for index, column in enumerate(section.columns):
            table.add_column(column, no_wrap=index == 0, overflow="fold", style="cyan" if index == 0 else None)
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        console.print()


def _fail(message: str) -> NoReturn:
    with contextlib.suppress(BrokenPipeError):
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


class _Option(NamedTuple):
    name: str
    """`--flag`, or the bare name of a positional."""
    kind: Any
    required: bool


def _options(options: Any, prefix: str = "") -> list[_Option]:
    """Every option of a dataclass and of those inside it, named the way tyro names them."""
    options = typing.get_args(options)[0] if typing.get_origin(options) is typing.Annotated else options
    if not dataclasses.is_dataclass(options):
        return []
    hints = typing.get_type_hints(options, include_extras=True)
    result: list[_Option] = []
    for field in dataclasses.fields(options):
        kind, extras = hints[field.name], []
        if typing.get_origin(kind) is typing.Annotated:
            kind, *extras = typing.get_args(kind)
        if not field.init:
            continue
        named = [extra.name for extra in extras if getattr(extra, "name", None) is not None]
        name = (named[0] if named else field.name).replace("_", "-")
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if dataclasses.is_dataclass(kind):
            result += _options(kind, f"{prefix}{name}." if name else prefix)
        elif any("Positional" in str(extra) for extra in extras):  # tyro.conf.Positional[...]
            result.append(_Option(name, kind, required))
        else:
            result.append(_Option(f"--{prefix}{name}", kind, required))
            if kind is bool:
                result.append(_Option(f"--{prefix}no-{name}", kind, False))
    return result


def _explain(options: Any, argv: Sequence[str], prog: str, captured: str) -> NoReturn:
    """Say in one line why tyro refused `argv`: unknown options first, then what tyro says, without its box."""
    known = [*flag_names(options), "-h", "--help"]
    for token in argv:
        flag = token.partition("=")[0].replace("_", "-")
        if known and re.match(r"--?[^\d.-]", flag) and flag not in known:
            bare = flag.lstrip("-")
            close = [name for name in known if len(bare) > 2 and bare in name]
            close = close or difflib.get_close_matches(flag, known, 3, 0.6)
            hint = f"closest: {', '.join(close[:3])}; " if close else ""
            raise ConfigError(f"unknown option {flag}; {hint}{prog} --help lists all")
    lines = (re.sub(r"[-\u2500]{4,}", "", line).strip(_BOX) for line in captured.splitlines())
    words = " ".join(" ".join(lines).split())
    words = re.split(r" ?(?:Argument helptext:|For full helptext)", words)[0].rstrip(". ")
    if words.startswith("Required options"):
        required = [option.name for option in _options(options) if option.required]
        missing = [name for name in required if f"{name} " in f"{words} "]
        missing = missing or [name for name in required if not name.startswith("--")]  # tyro shows the type alone
        words = f"missing {' and '.join(missing)}" if missing else words
    for pattern, replacement in _PHRASES:
        words = re.sub(pattern, replacement, words)
    raise ConfigError(f"{words}; {prog} --help lists what is allowed")


_BOX = " \t|+\u2500\u2502\u256d\u256e\u256f\u2570"
"""What tyro draws its boxes with, in Unicode and in ASCII."""
_PHRASES = (
    (r".*Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)", r"\1 takes a whole number, not \2"),
    (r".*Error parsing (\S+): could not convert string to float: (.*)", r"\1 takes a number, not \2"),
    (
        r".*Error parsing (\S+): no type matching \{None\}\|(.+?) could be instantiated from \['(.*?)'\].*",
        r"\1 takes \2 or None, not '\3'",
    ),
    (r".*Error parsing (\S+): ", r"\1: "),
    (r".*Missing value for argument '([^']+)'. Expected 1 values", r"\1 needs a value"),
    (r".*Missing value for argument '([^']+)'. Expected", r"\1 needs"),
    (
        r".*invalid choice ('.*') for argument '([^']+)'. Expected one of \((.*?),?\)",
        r"\2 cannot be \1; choose from \3",
    ),
    (r"^Unrecognized.*?: (.*)$", r"unexpected argument \1"),
    (r"^unexpected argument (?i:true|false)$", r"\g<0> (a boolean is --name or --no-name)"),
)
"""What tyro says, and how it reads in one line."""
