"""How the training commands of all families read their words: what comes first, what is given, what is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Optional

from aprendiz.cli import flat, parse
from aprendiz.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """A family's `python -m <family>.train`."""

    prog: str
    description: str
    subject: str
    """What the first word names: `model`."""
    example: str
    """Such a word."""
    options: type
    """What every run has."""
    resume_options: type

    def run(
        self,
        argv: Sequence[str],
        *,
        show_lists: Callable[[], None],
        create: Callable[[list[str]], int],
        resume: Callable[[Any], int],
    ) -> int:
        """Does what the words ask for: `create` takes those of a new run, `resume` the options of an old one. Returns
        the exit code: 0, or 128 + the signal that stopped it."""
        if "--list" in argv:
            show_lists()
            return 0
        if any(word == "--resume" or word.startswith("--resume=") for word in argv):
            return resume(parse(self.resume_options, argv, prog=self.prog, description=self.description))
        if argv and not argv[0].startswith("-"):
            return create(list(argv))
        if not {"-h", "--help"} & set(argv):
            article = "an" if self.subject[0] in "aeiou" else "a"
            raise ConfigError(
                f"name {article} {self.subject} first, as in `{self.prog} {self.example}`, or --resume RUN; --list "
                f"shows all {self.subject}s"
            )
        parse(self._general_options(), argv, prog=self.prog, description=self.description)
        return 0

    def _general_options(self) -> type:
        """The common options behind a positional subject, for the general help."""
        import tyro

        return dataclasses.make_dataclass(
            "Options",
            [
                (self.subject, Annotated[str, tyro.conf.Positional]),
                ("common", Annotated[self.options, flat("options")], field(default_factory=self.options)),
                ("list", bool, field(default=False)),
                ("resume", Optional[str], field(default=None)),  # noqa: UP045
            ],
            namespace={"__doc__": self.description},
        )

    def parse_new(self, argv: Sequence[str], what: str, subject: str, **parts: tuple[str, Any]) -> Any:
        """The options of a new run: the common ones as `common`, and under its own name each of `parts`, which is a
        title for the help and a dataclass with the defaults. `what` the run does goes into the help."""
        whole = {"common": ("options", self.options()), **parts}
        options_type = dataclasses.make_dataclass(
            "Options",
            [(name, Annotated[type(default), flat(title)]) for name, (title, default) in whole.items()],
            frozen=True,
            kw_only=True,
            namespace={"__doc__": "Options of a training run."},
        )
        return parse(
            options_type,
            argv,
            prog=f"{self.prog} {subject}",
            description=f"{what} {self.description}",
            default=options_type(**{name: default for name, (_, default) in whole.items()}),
        )


def preset_of(presets: Mapping[str, Any], name: str, learner: str, task: str) -> Any:
    """The config called `name`. Raises ConfigError where a learner has none for such a task."""
    if name not in presets:
        raise ConfigError(f"{learner} has no preset {name!r} for {task}; it has {', '.join(presets)}")
    return presets[name]
