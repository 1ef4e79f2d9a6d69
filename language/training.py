"""What `python -m language.train` does once its words are understood: create a run or open one, and train."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from aprendiz import session, text
from aprendiz.config import to_json
from aprendiz.curves import save_curves
from aprendiz.device import choose_device
from aprendiz.errors import ConfigError, RunError
from aprendiz.loop import Cadence, LoopState, Source, TrainResult
from aprendiz.run import Run
from aprendiz.tracking import resolve_mode
from language import LANGUAGE
from language.core import LanguageModel, Purpose, derived_seed, torch_generator
from language.samples import Samples
from language.saved import keep_with, new_model, text_of

if TYPE_CHECKING:
    import torch

    from aprendiz.text.core import LabelledTexts, TextData
    from language.train import Order, ResumeOptions

PROG = "python -m language.train"
UNIT = session.Unit("tokens", "tokens", "--tokens", "tokens")
PARTS = ("train", "validation", "test")
SAMPLE_TOKENS = {"char": 240, "byte": 240, "word": 60}
"""Length of the texts that are written on the way."""


def create(order: Order, *, command: list[str]) -> int:
    """Makes a run and trains it. Returns the exit code."""
    options, data, spec = order.options, order.data, order.data.spec
    resolve_mode(options.wandb)
    model_class = LANGUAGE.get(order.model)
    device = _device(options.device, model_class)
    threads = session.set_threads(None, device, small=False)
    train_tokens = len(data.train.ids)
    asked = options.tokens or (max(round(options.epochs * train_tokens), 1) if options.epochs else None)
    asked = within_one_pass(model_class, order.model, asked, train_tokens)
    guess = asked or model_class.default_tokens(order.hyperparameters, spec, train_tokens)
    precision, rate = measure(model_class, order, guess, device)
    planned = session.planned_units(rate, None if model_class.one_pass else options.minutes, asked, guess)
    hyperparameters = model_class.resolve(order.hyperparameters, spec, train_tokens=train_tokens, budget_tokens=planned)
    cadence = cadence_for(planned, options)
    config: dict[str, Any] = {
        "text": {
            "name": text.canonical(order.text),
            "options": {**order.text_options, **data.options},
            "spec": to_json(spec),
            "fingerprint": data.fingerprint,
            "sizes": {part: len(getattr(data, part).ids) for part in PARTS},
        },
        "model": {"name": order.model, "preset": options.preset, "hyperparameters": to_json(hyperparameters)},
        "budget": {
            "tokens": asked if options.minutes is not None else planned,
            "epochs": options.epochs,
            "minutes": options.minutes,
            "planned_tokens": planned,
        },
        "cadence": dataclasses.asdict(cadence),
        "device": str(device),
        "precision": precision,
        "torch_threads": threads,
        "wandb": options.wandb,
        "samples": SAMPLE_TOKENS[spec.level] if options.samples is None else options.samples,
    }
    model = model_class(hyperparameters, spec, data.vocabulary, seed=options.seed, device=device, precision=precision)
    source = make_source(model, data, options.seed)
    run = Run.create(
        kind="language",
        task=spec.name,
        learner=order.model,
        seed=options.seed,
        config=config,
        command=command,
        device=str(device),
    )
    with run.lock():
        keep_with(run, data, config["text"]["name"])
        _announce(run, config, rate)
        return _train(run, model, data, source, LoopState(), wandb=options.wandb, resumed=False)


def resume(options: ResumeOptions) -> int:
    """Continues a run exactly where its checkpoint stands. Returns the exit code."""
    run = Run.open(options.resume, kind="language")
    with run.lock():
        return _resume(run, options)


def _resume(run: Run, options: ResumeOptions) -> int:
    config = run.config
    session.check_budget(options, "tokens", "learning_rate_factor")
    resolve_mode(options.wandb or config.get("wandb"))
    expected = ("text", "model", "budget", "cadence", "device", "precision", "torch_threads", "wandb", "samples")
    session.require_entries(run, expected)
    model_class = LANGUAGE.get(config["model"]["name"])
    train_tokens, total = config["text"]["sizes"]["train"], options.tokens
    if options.epochs is not None:
        total = max(round(options.epochs * train_tokens), 1)
    if total is not None or options.minutes is not None:
        total = within_one_pass(model_class, config["model"]["name"], total, train_tokens)
    if model_class.one_pass and max(run.steps(), default=0) >= train_tokens and options.checkpoint == "last":
        raise RunError(
            f"{run.name} has learned from all {train_tokens:,} tokens of its text: there is nothing more to do"
        )
    which = session.change_model_run(run, UNIT, total, options)
    data = text_of(run)
    device = config["device"]
    if options.device is not None:
        device = str(_device(options.device, model_class))
    session.set_threads(config["torch_threads"], choose_device(device), small=False)  # before there are networks
    model = new_model(run, device)
    if options.device is not None:
        config |= {"device": device, "precision": getattr(model, "precision", "fp32")}
    source = make_source(model, data, run.seed)
    state, _ = session.go_on(run, model, source, which, UNIT)
    return _train(run, model, data, source, state, wandb=options.wandb or config["wandb"], resumed=True)


def make_source(model: LanguageModel, data: TextData | LabelledTexts, seed: int) -> Source:
    """Where a run's batches come from."""
    return model.make_source(data, seed=derived_seed(seed, Purpose.DATA))


def within_one_pass(model_class: type[LanguageModel], name: str, tokens: int | None, train_tokens: int) -> int | None:
    """The budget of a model; all of the text, at most, for one that learns all it can in one pass. Raises
    ConfigError."""
    if not model_class.one_pass:
        return tokens
    if tokens is not None and tokens > train_tokens:
        raise ConfigError(
            f"{name} learns from every token once, and the text has {train_tokens:,} of them: give --tokens "
            f"{train_tokens} at most, or nothing"
        )
    return tokens or train_tokens


def cadence_for(planned_tokens: int, options: Any) -> Cadence:
    """How often what is done: a few hundred log lines a run, each of at least one update."""
    return Cadence(
        log_every_units=max(planned_tokens // 300, 1),
        evaluate_every_units=max(planned_tokens // options.validations, 1) if options.validations else None,
        checkpoint_every_minutes=options.checkpoint_minutes,
        step_name="tokens",
    )


def measure(
    model_class: type[LanguageModel], order: Order, budget_tokens: int, device: torch.device
) -> tuple[str, float]:
    """The precision to learn in, and tokens a second (0 where nobody needs to know).

    Where there is a choice of precision, or a clock to plan for, the real thing is run for a moment with each.
    """
    options, data = order.options, order.data
    candidates = session.precisions_to_try(options.precision, model_class.precisions, order.model, small=False)
    if model_class.one_pass or (len(candidates) == 1 and options.minutes is None):
        return candidates[0], 0.0
    trial = model_class.resolve(
        order.hyperparameters, data.spec, train_tokens=len(data.train.ids), budget_tokens=budget_tokens
    )

    def make(precision: str) -> tuple[LanguageModel, Source]:
        model = model_class(trial, data.spec, data.vocabulary, seed=options.seed, device=device, precision=precision)
        return model, make_source(model, data, options.seed)

    return session.fastest_of(candidates, make, options.minutes)


def _device(name: str, model_class: type[LanguageModel]) -> torch.device:
    return session.device_for(name, model_class.devices, model_class.__name__, small=False)


def _train(
    run: Run,
    model: LanguageModel,
    data: TextData | LabelledTexts,
    source: Source,
    state: LoopState,
    *,
    wandb: str | None,
    resumed: bool,
) -> int:
    run.track(wandb, step_metric="tokens", resumed=resumed)
    samples = Samples(run, model, run.config["samples"])
    started = time.perf_counter() - state.elapsed_seconds

    def validate(tokens: int) -> dict[str, float]:
        metrics = dict(model.validate(data, torch_generator(run.seed, Purpose.VALIDATION)))
        if samples.due(time.perf_counter() - started):
            samples.write(tokens, score=metrics["score"])
        return metrics

    return session.train_run(
        run,
        model,
        source,
        state,
        UNIT,
        evaluate=validate if len(data.validation.ids) > 0 else None,
        finish=lambda result: _finish(run, model, result, samples),
        close=lambda: session.close_source(source),
        advice=lambda: session.lower_learning_rates(run, PROG),
    )


def _finish(run: Run, model: LanguageModel, result: TrainResult, samples: Samples) -> None:
    state = result.state
    session.print_pace(run, state, UNIT)
    if state.best_units is not None:
        print(f"best checkpoint: token {state.best_units:,}, score {state.best_score:.4g} on the validation part")
    if result.reason in ("finished", "clock"):
        _last_samples(run, samples, state.units)
    if run.tracker is not None:
        run.tracker.summary(session.summary_of(state, UNIT))
    if result.reason not in ("finished", "clock"):
        print(f"stopped by {result.reason}; go on with: {PROG} --resume {run.name}")
        return
    if "predict" in model.abilities:
        print(f"write with it: python -m language.sample {run.name}")
    if "vectors" in model.abilities:
        print(f"look at words: python -m language.neighbors {run.name} WORD")
    if "classify" in model.abilities:
        print(f"ask it:        python -m language.classify {run.name} TEXT")
    print(f"evaluate it:   python -m language.evaluate {run.name}")


def _last_samples(run: Run, samples: Samples, tokens: int) -> None:
    """A text of the finished model, where the last validation wrote none, and the curves."""
    if samples.length and not samples.path(tokens).exists():
        samples.write(tokens)
    save_curves(run, "training tokens", tokens)
    print(f"texts and curves: {run.samples}")


def _announce(run: Run, config: dict[str, Any], rate: float) -> None:
    budget, model, saved = config["budget"], config["model"], config["text"]
    of, epochs = saved["spec"], (budget["tokens"] or 0) / max(saved["sizes"]["train"], 1)
    passes = f"{epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}"
    ends = session.either(
        f"{budget['tokens']:,} tokens ({passes})" if budget["tokens"] else "",
        f"{budget['minutes']:g} minutes" if budget["minutes"] else "",
    )
    print(f"{model['name']} ({model['preset']}) on {run.task}, seed {run.seed}, for {ends}")
    kind = {"char": "characters", "byte": "bytes", "word": "words"}[of["level"]]
    parts = ", ".join(f"{size:,} {part}" for part, size in saved["sizes"].items())
    print(f"  {kind}, {of['vocabulary_size']:,} different: {parts}")
    session.print_machine(config, rate, UNIT)
    print(f"  {run.path}", flush=True)
