"""What `python -m language.train` does once its words are understood: create a run or open one, and train."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aprendiz import session, text
from aprendiz.config import to_json
from aprendiz.curves import save_curves
from aprendiz.device import choose_device
from aprendiz.errors import ConfigError, RunError
from aprendiz.loop import Budget, Cadence, LoopState, Source, TrainResult, train
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

UNIT = session.Unit("tokens", "tokens", "--tokens")
PARTS = ("train", "validation", "test")
SAMPLE_TOKENS = {"char": 240, "byte": 240, "word": 60}
"""Length of the texts that are written on the way."""
PROG = "python -m language.train"


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
    session.check_positive(options, "epochs", "tokens", "minutes", "learning_rate_factor")
    if options.epochs is not None and options.tokens is not None:
        raise ConfigError("give --epochs or --tokens, not both")
    resolve_mode(options.wandb or config.get("wandb"))
    expected = ("text", "model", "budget", "cadence", "device", "precision", "torch_threads", "wandb", "samples")
    session.require_entries(run, expected)
    model_class = LANGUAGE.get(config["model"]["name"])
    train_tokens, total = config["text"]["sizes"]["train"], options.tokens
    if options.epochs is not None:
        total = max(round(options.epochs * train_tokens), 1)
    if total is not None or options.minutes is not None:
        total = within_one_pass(model_class, config["model"]["name"], total, train_tokens)
        config["budget"]["epochs"] = options.epochs
    if model_class.one_pass and max(run.steps(), default=0) >= train_tokens and options.checkpoint == "last":
        raise RunError(
            f"{run.name} has learned from all {train_tokens:,} tokens of its text: there is nothing more to do"
        )
    session.extend_budget(config["budget"], UNIT, total, options.minutes)
    which = session.checkpoint_choice(options.checkpoint) or "last"
    session.check_unfinished(run, which, UNIT, new_total=total is not None)
    if options.learning_rate_factor is not None:
        config["model"]["hyperparameters"] |= slower(config["model"]["hyperparameters"], options.learning_rate_factor)
    data = text_of(run)
    if options.device is not None:
        config["device"] = str(_device(options.device, model_class))
    model = new_model(run, options.device or config["device"])
    if options.device is not None:
        config["precision"] = getattr(model, "precision", "fp32")
    session.set_threads(config["torch_threads"], choose_device(config["device"]), small=False)
    state = LoopState()
    source = make_source(model, data, run.seed)
    session.load_checkpoint(run, model, source, state, Cadence(**config["cadence"]), which)
    run.save_config()
    print(f"resuming {run.path} at {state.units:,} tokens")
    run.set_status("running", step=state.units)
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


def slower(hyperparameters: Mapping[str, Any], factor: float) -> dict[str, float]:
    """Every learning rate times `factor`. Raises ConfigError where there is none."""
    rates = {name: rate * factor for name, rate in _learning_rates(hyperparameters).items()}
    if not rates:
        raise ConfigError("this model has no learning rate that --learning-rate-factor could change")
    return rates


def _learning_rates(hyperparameters: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: rate
        for name, rate in hyperparameters.items()
        if name.endswith("learning_rate") and not name.startswith("final") and isinstance(rate, (int, float))
    }


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
    rates = {}
    for precision in candidates:
        model = model_class(trial, data.spec, data.vocabulary, seed=options.seed, device=device, precision=precision)
        source = make_source(model, data, options.seed)
        rates[precision] = session.rate_of(model, source)
        _close(source)
    return session.fastest(rates)


def _device(name: str, model_class: type[LanguageModel]) -> torch.device:
    return session.device_for(name, model_class.devices, model_class.__name__, small=False)


def _close(source: Source) -> None:
    """Ends what a source left running in the background."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


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
    config = run.config
    run.track(wandb, step_metric="tokens", resumed=resumed)
    samples = Samples(run, model, config["samples"])
    started = time.perf_counter() - state.elapsed_seconds

    def validate(tokens: int) -> dict[str, float]:
        metrics = dict(model.validate(data, torch_generator(run.seed, Purpose.VALIDATION)))
        if samples.due(time.perf_counter() - started):
            samples.write(tokens, score=metrics["score"])
        return metrics

    cadence = Cadence(**config["cadence"])
    whole = len(data.validation.ids) > 0 and cadence.evaluate_every_units is not None

    def work() -> TrainResult:
        result = train(
            model,
            source,
            run,
            Budget(units=config["budget"]["tokens"], minutes=config["budget"]["minutes"]),
            validate if whole else None,
            cadence=cadence,
            state=state,
        )
        _finish(run, model, result, samples)
        return result

    def advice() -> str:
        rates = _learning_rates(config["model"]["hyperparameters"]).items()
        words = f" ({', '.join(f'{name} is {rate:g}' for name, rate in rates)})" if rates else ""
        if not run.steps():
            return words
        return f"{words} in a new run, or go on with {PROG} --resume {run.name} --learning-rate-factor 0.1"

    return session.run_to_end(run, state, work, lambda: _close(source), advice)


def _finish(run: Run, model: LanguageModel, result: TrainResult, samples: Samples) -> None:
    state = result.state
    rate = state.units / max(state.elapsed_seconds, 1e-9)
    print(f"{state.units:,} tokens in {state.elapsed_seconds:,.0f} s ({rate:,.0f}/s): {run.path}")
    summary: dict[str, Any] = {"tokens": state.units, "updates": state.updates, "seconds": state.elapsed_seconds}
    if state.best_units is not None:
        print(f"best checkpoint: token {state.best_units:,}, score {state.best_score:.4g} on the validation part")
        summary |= {"best_score": state.best_score, "best_tokens": state.best_units}
    if result.reason in ("finished", "clock"):
        _last_samples(run, samples, state.units)
    if run.tracker is not None:
        run.tracker.summary(summary)
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
    ends = " or ".join(
        words
        for words in (
            f"{budget['tokens']:,} tokens ({epochs:.3g} {'epoch' if epochs == 1 else 'epochs'})"
            if budget["tokens"]
            else "",
            f"{budget['minutes']:g} minutes" if budget["minutes"] else "",
        )
        if words
    )
    print(f"{model['name']} ({model['preset']}) on {run.task}, seed {run.seed}, for {ends}")
    kind = {"char": "characters", "byte": "bytes", "word": "words"}[of["level"]]
    parts = ", ".join(f"{size:,} {part}" for part, size in saved["sizes"].items())
    print(f"  {kind}, {of['vocabulary_size']:,} different: {parts}")
    speed = f"; about {rate:,.0f} tokens a second here" if rate else ""
    print(f"  {config['device']}, {config['precision']}{speed}")
    print(f"  {run.path}", flush=True)
