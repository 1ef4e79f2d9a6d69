"""What can go wrong for a user: every message is one line with the value given, the values allowed and the way out.

Commands print these as `error: <message>` and exit with code 2 (see `aprendiz.cli.main`); anything else that is raised
is a defect and keeps its traceback.
"""

from __future__ import annotations


class AprendizError(Exception):
    """Base of every error that a user can put right."""


class UnknownNameError(AprendizError):
    """No such name in a registry."""


class PluginError(AprendizError):
    """A third party's registration clashes with another one, or does not import."""


class ConfigError(AprendizError):
    """A hyperparameter or an option has a value that it cannot have."""


class EnvError(AprendizError):
    """An environment is missing or not supported."""


class DataError(AprendizError):
    """A data set cannot be found, read or downloaded, or holds nothing that could be learned from."""


class RunError(AprendizError):
    """A run's folder cannot be found, read or used for this."""


class CheckpointError(AprendizError):
    """A checkpoint is missing, truncated, changed, or written by a newer aprendiz."""


class StorageError(AprendizError):
    """The disk is full, or refuses to be written to."""


class DivergedError(AprendizError):
    """A metric or a weight is NaN or infinite while learning: nothing that was learned since can be used."""
