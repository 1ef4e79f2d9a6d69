"""Weights & Biases behind one `log` call. It never prompts and never stops training; see `Tracker`."""

from __future__ import annotations

import configparser
import html
import netrc
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aprendiz.errors import ConfigError

MODES = ("online", "offline", "disabled")
OWN_HOSTS = ("api.forge.coreweave.com", "forge.coreweave.com", "api.wandb.ai")
"""W&B's own server: of which name `wandb login` stores a key depends on its version."""
FLUSH_SECONDS = 1.0
INIT_SECONDS = 15.0
FINISH_SECONDS = 30.0
_FAMILIES = ("train", "rollout", "eval", "speed", "sample")


def resolve_mode(mode: str | None = None) -> str:
    """`mode`, else `WANDB_MODE`, else "online" where a key for the server is configured, else "offline".

    "online" without a key becomes "offline", as W&B would ask for one. Raises ConfigError for anything but `MODES`.
    """
    wanted, source = mode, "--wandb"
    if wanted is None and os.environ.get("WANDB_MODE"):
        wanted, source = os.environ["WANDB_MODE"], "WANDB_MODE"
        wanted = {"dryrun": "offline"}.get(wanted, wanted)
    if wanted is not None and wanted not in MODES:
        raise ConfigError(f"{source} is {wanted!r}; choose from {', '.join(MODES)}")
    if wanted in ("offline", "disabled"):
        return wanted
    if key_is_configured():
        return "online"
    if wanted == "online":
        _say("no W&B key is configured, so this run is logged offline; `wandb login` stores one")
    return "offline"


def key_is_configured() -> bool:
    """Whether W&B would log in without asking: by its environment variables, its settings file or a netrc entry."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    folder = os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(Path(folder) / "settings")
    except (configparser.Error, OSError, ValueError):
        settings.clear()
    if settings.get("default", "api_key", fallback=""):
        return True
    configured = os.environ.get("WANDB_BASE_URL") or settings.get("default", "base_url", fallback="") or ""
    host = urlsplit(configured).netloc or OWN_HOSTS[0]
    names = OWN_HOSTS if host in OWN_HOSTS else (host,)
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for file in files:
        try:
            known = netrc.netrc(str(file)).hosts
            if any(known.get(name, ("", "", ""))[2] for name in names):
                return True
        except (netrc.NetrcParseError, OSError, ValueError):
            continue
    return False


class Tracker:
    """One W&B run, from its start to `finish`.

    `mode` is resolved by `resolve_mode`; where the server does not answer within INIT_SECONDS the run is logged
    offline, and a line says so. The page of a run that is online is printed once. Every other failure is told once and
    ends tracking, never training. The files lie in `<run_folder>/wandb`. A resumed run goes on under the same `run_id`.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        mode: str | None = None,
        project: str = "aprendiz",
        run_id: str,
        name: str,
        config: Mapping[str, Any],
        step_metric: str = "env_steps",
        resumed: bool = False,
    ) -> None:
        self.mode = resolve_mode(mode)
        self.step_metric = step_metric
        self._folder = run_folder
        self._run: Any = None
        self._wandb: Any = None
        self._url: str | None = None
        self._pending: dict[str, Any] = {}
        self._pending_step = 0
        self._last_step = 0
        self._next_flush = 0.0
        if self.mode == "disabled":
            return
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else W&B's own reports hold up the exit offline
        try:
            import wandb  # 0.5 s: only runs that are tracked pay

            self._wandb = wandb
            self._connect()
            given = {"project": project, "id": run_id, "name": name, "config": dict(config)}
            self._run = self._start(given, resumed)
            self._define_metrics()
            if self.mode == "online":
                self._url = self._run.url
                print(f"W&B: {self._url}", file=sys.stderr)
        except Exception as error:
            self._give_up("start", error)

    @property
    def active(self) -> bool:
        """Whether what is logged still reaches W&B or its files."""
        return self._run is not None

    @property
    def url(self) -> str | None:
        """The run's page, where it is online; also after `finish`."""
        return self._url

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take metrics at `step`; the newest value of each is sent about once a second, together with `step_metric`."""
        if self._run is None:
            return
        self._pending.update(metrics)
        self._pending_step = step
        if time.monotonic() >= self._next_flush:
            self.flush()

    def flush(self) -> None:
        """Send what `log` has collected."""
        if self._pending:
            row = {self.step_metric: self._pending_step, **self._pending}
            self._pending = {}
            self._send("log", lambda: row, self._pending_step)
        self._next_flush = time.monotonic() + FLUSH_SECONDS

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set values that stand for the whole run, such as the final score."""
        self.flush()
        self._guarded("log a summary", lambda: self._run.summary.update(dict(values)))

    def video(self, key: str, path: Path, step: int) -> None:
        """Add an mp4 file, which is copied."""
        self._media(key, lambda: self._wandb.Video(str(path), format="mp4"), step)

    def image(self, key: str, image: Any, step: int, caption: str | None = None) -> None:
        """Add a picture: the path of a file, or an array uint8 [H, W, 3]."""
        picture = str(image) if isinstance(image, Path) else image
        self._media(key, lambda: self._wandb.Image(picture, caption=caption), step)

    def text(self, key: str, text: str, step: int) -> None:
        """Add a text, shown as it is written."""
        self._media(key, lambda: self._wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False), step)

    def finish(self, exit_code: int = 0) -> None:
        """Send the rest and end the W&B run, in FINISH_SECONDS at most; say how to upload what was not.

        W&B shows the run as finished where `exit_code` is 0, and as failed elsewhere.
        """
        self.flush()
        run, self._run = self._run, None
        if run is None:
            return
        failures: list[BaseException] = []

        def end() -> None:
            try:
                run.finish(exit_code=exit_code)
            except BaseException as error:
                failures.append(error)

        # W&B bounds its own wait by the same time; the thread is for when it hangs elsewhere.
        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        thread.join(FINISH_SECONDS + 10.0)
        late = thread.is_alive() or bool(failures) or bool(getattr(run, "_finish_timed_out", False))
        if self.mode == "offline":
            _say(f"logged offline; upload with: {self._sync_command()}")
        elif late:
            _say(f"the upload is not complete; complete it with: {self._sync_command()}")

    def _connect(self) -> None:
        """Start W&B's service process, or join that of the program which started this one, where it still runs."""
        try:
            self._wandb.setup(self._wandb.Settings(silent=True))
        except Exception:
            if os.environ.pop("WANDB_SERVICE", None) is None:
                raise
            self._wandb.setup(self._wandb.Settings(silent=True))

    def _start(self, given: dict[str, Any], resumed: bool) -> Any:
        if self.mode == "online":
            try:
                return self._init(given, mode="online", resume="allow")
            except Exception as error:
                _say(f"W&B cannot be reached, so this run is logged offline: {_one_line(error)}")
                self.mode = "offline"
                self._wandb.teardown()  # until then W&B holds the id for the run that did not start
        return self._init(given, mode="offline", **({"resume": "allow"} if resumed else {}))

    def _init(self, given: dict[str, Any], **more: Any) -> Any:
        settings = self._wandb.Settings(
            silent=True, console="off", init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS, disable_git=True
        )
        return self._wandb.init(dir=str(self._folder), reinit="create_new", settings=settings, **given, **more)

    def _define_metrics(self) -> None:
        self._run.define_metric(self.step_metric)
        for family in _FAMILIES:
            self._run.define_metric(f"{family}/*", step_metric=self.step_metric)

    def _media(self, key: str, make: Callable[[], Any], step: int) -> None:
        self.flush()
        self._send(f"log {key}", lambda: {self.step_metric: step, key: make()}, step)

    def _send(self, what: str, make_row: Callable[[], dict[str, Any]], step: int) -> None:
        # W&B drops what lies before its own last step. So a resumed run does not repeat what it had logged already; for
        # a video of an older checkpoint the x axis alone tells its step.
        self._last_step = max(step, self._last_step)
        self._guarded(what, lambda: self._run.log(make_row(), step=self._last_step))

    def _guarded(self, what: str, call: Callable[[], Any]) -> None:
        if self._run is None:
            return
        try:
            call()
        except Exception as error:
            self._give_up(what, error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._run = None
        _say(f"W&B failed to {what}, tracking ends here and training goes on: {_one_line(error)}")
        _say(f"every metric is in {self._folder / 'metrics.jsonl'}")

    def _sync_command(self) -> str:
        pattern = "offline-run-*" if self.mode == "offline" else "run-*"
        return f"wandb sync {self._folder / 'wandb' / pattern}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:200]}..." if len(text) > 200 else text or type(error).__name__


def _say(text: str) -> None:
    print(f"wandb: {text}", file=sys.stderr)
