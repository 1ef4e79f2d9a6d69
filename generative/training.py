"""What `python -m generative.train` does once its words are understood: create a run or open one, and train."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from aprendiz import data, session
from aprendiz.config import from_json, to_json
from aprendiz.curves import save_curves
from aprendiz.data.augment import Augment
from aprendiz.device import choose_device
from aprendiz.loop import Cadence, LoopState, Source, TrainResult
from aprendiz.run import Run
from aprendiz.tracking import resolve_mode
from generative import GENERATIVE
from generative.core import GenerativeModel, Purpose, derived_seed, torch_generator
from generative.grid import write
from generative.pictures import Pictures
from generative.saved import dataset_of, new_model, scaling_to_json

if TYPE_CHECKING:
    import torch

    from aprendiz.data.core import Dataset, ImageSpec
    from generative.train import Order, ResumeOptions

PROG = "python -m generative.train"
UNIT = session.Unit("images", "images", "--images", "images")
SMALL_PIXELS = 256
"""Images of at most so many numbers are learned on one thread of a CPU, in fp32: there is nothing to share out."""


def create(order: Order, *, command: list[str]) -> int:
    """Makes a run and trains it. Returns the exit code."""
    options, dataset, spec = order.options, order.dataset, order.dataset.spec
    resolve_mode(options.wandb)
    model_class = GENERATIVE.get(order.model)
    device = _device(options.device, model_class, spec)
    threads = session.set_threads(None, device, small=_small(spec))
    train_images = len(dataset.train)
    default_epochs = model_class.default_epochs(order.hyperparameters, spec)
    asked = options.images or (options.epochs * train_images if options.epochs else None)
    guess = asked or default_epochs * train_images
    precision, rate = measure(model_class, order, guess, device)
    planned = session.planned_units(rate, options.minutes, asked, guess)
    hyperparameters = model_class.resolve(order.hyperparameters, spec, train_images=train_images, budget_images=planned)
    cadence = cadence_for(planned, getattr(hyperparameters, "batch_size", 100), options)
    config = {
        "data": {
            "name": data.canonical(options.data),
            "options": order.data_options,
            "augment": to_json(order.augment),
            "spec": to_json(spec),
            "scaling": scaling_to_json(dataset.scaling),
            "fingerprint": dataset.fingerprint,
            "sizes": {part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        },
        "model": {"name": order.model, "preset": options.preset, "hyperparameters": to_json(hyperparameters)},
        "budget": {
            "images": asked if options.minutes is not None else planned,
            "epochs": options.epochs or (None if options.images or options.minutes else default_epochs),
            "minutes": options.minutes,
            "planned_images": planned,
        },
        "cadence": dataclasses.asdict(cadence),
        "device": str(device),
        "precision": precision,
        "torch_threads": threads,
        "wandb": options.wandb,
        "pictures": options.pictures,
    }
    model = model_class(hyperparameters, spec, seed=options.seed, device=device, precision=precision)
    source = make_source(model, dataset, options.seed, order.augment)
    run = Run.create(
        kind="generative",
        task=spec.name,
        learner=order.model,
        seed=options.seed,
        config=config,
        command=command,
        device=str(device),
    )
    _announce(run, config, rate)
    with run.lock():
        return _train(run, model, dataset, source, LoopState(), wandb=options.wandb, resumed=False)


def resume(options: ResumeOptions) -> int:
    """Continues a run exactly where its checkpoint stands. Returns the exit code."""
    run = Run.open(options.resume, kind="generative")
    with run.lock():
        return _resume(run, options)


def _resume(run: Run, options: ResumeOptions) -> int:
    config = run.config
    session.check_budget(options, "images", "learning_rate_factor")
    resolve_mode(options.wandb or config.get("wandb"))
    expected = ("data", "model", "budget", "cadence", "device", "precision", "torch_threads", "wandb", "pictures")
    session.require_entries(run, expected)
    total = options.images
    if options.epochs is not None:
        total = options.epochs * config["data"]["sizes"]["train"]
    which = session.change_model_run(run, UNIT, total, options)
    dataset = dataset_of(run)
    device = config["device"]
    if options.device is not None:
        device = str(_device(options.device, GENERATIVE.get(config["model"]["name"]), dataset.spec))
    # Before there are networks, as in a new run.
    session.set_threads(config["torch_threads"], choose_device(device), small=_small(dataset.spec))
    model = new_model(run, device)
    if options.device is not None:
        config |= {"device": device, "precision": getattr(model, "precision", "fp32")}
    source = make_source(model, dataset, run.seed, from_json(Augment, config["data"]["augment"]))
    state, _ = session.go_on(run, model, source, which, UNIT)
    wandb = options.wandb or config["wandb"]
    return _train(run, model, dataset, source, state, wandb=wandb, resumed=True)


def make_source(model: GenerativeModel, dataset: Dataset, seed: int, augment: Augment) -> Source:
    """Where a run's batches come from."""
    return model.make_source(
        dataset, seed=derived_seed(seed, Purpose.DATA), augment=augment if augment.active else None
    )


def cadence_for(planned_images: int, batch_size: int, options: Any) -> Cadence:
    """How often what is done. Short runs log every few updates, long ones rarely enough to cost nothing."""
    return Cadence(
        log_every_units=max(planned_images // 500, min(20 * batch_size, planned_images // 20), 1),
        evaluate_every_units=max(planned_images // options.validations, 1) if options.validations else None,
        checkpoint_every_minutes=options.checkpoint_minutes,
        step_name="images",
    )


def measure(
    model_class: type[GenerativeModel], order: Order, budget_images: int, device: torch.device
) -> tuple[str, float]:
    """The precision to learn in, and images a second (0 where nobody needs to know).

    Where there is a choice of precision, or a clock to plan for, the real thing is run for a moment with each.
    """
    options, dataset = order.options, order.dataset
    candidates = session.precisions_to_try(
        options.precision, model_class.precisions, order.model, small=_small(dataset.spec)
    )
    if len(candidates) == 1 and options.minutes is None:
        return candidates[0], 0.0
    trial = model_class.resolve(
        order.hyperparameters, dataset.spec, train_images=len(dataset.train), budget_images=budget_images
    )

    def make(precision: str) -> tuple[GenerativeModel, Source]:
        model = model_class(trial, dataset.spec, seed=options.seed, device=device, precision=precision)
        return model, make_source(model, dataset, options.seed, order.augment)

    return session.fastest_of(candidates, make, options.minutes)


def _device(name: str, model_class: type[GenerativeModel], spec: ImageSpec) -> torch.device:
    return session.device_for(name, model_class.devices, model_class.__name__, small=_small(spec))


def _small(spec: ImageSpec) -> bool:
    return spec.pixels <= SMALL_PIXELS


def _train(
    run: Run,
    model: GenerativeModel,
    dataset: Dataset,
    source: Source,
    state: LoopState,
    *,
    wandb: str | None,
    resumed: bool,
) -> int:
    run.track(wandb, step_metric="images", resumed=resumed)
    pictures = Pictures(run, model, dataset, run.config["pictures"])
    judge = _judge(model, dataset)
    started = time.perf_counter() - state.elapsed_seconds

    def validate(images: int) -> dict[str, float]:
        generator = torch_generator(run.seed, Purpose.VALIDATION)
        metrics = dict(model.validate(dataset.validation, generator, judge))
        if pictures.due(time.perf_counter() - started):
            pictures.draw(images)
        return metrics

    return session.train_run(
        run,
        model,
        source,
        state,
        UNIT,
        evaluate=validate if len(dataset.validation) > 0 else None,
        finish=lambda result: _finish(run, model, result, pictures),
        close=lambda: session.close_source(source),
        advice=lambda: session.lower_learning_rates(run, PROG),
    )


def _judge(model: GenerativeModel, dataset: Dataset) -> Any:
    """What looks at samples while a model learns; None where the model or the data do without."""
    if not model.wants_judge or not dataset.spec.classes:
        return None
    from generative.metrics import judge_for

    return judge_for(dataset)


def _finish(run: Run, model: GenerativeModel, result: TrainResult, pictures: Pictures) -> None:
    state = result.state
    session.print_pace(run, state, UNIT)
    if state.best_units is not None:
        print(f"best checkpoint: image {state.best_units:,}, score {state.best_score:.4g} on the validation images")
    if result.reason in ("finished", "clock"):
        _last_pictures(run, pictures, state.units)
    if run.tracker is not None:
        run.tracker.summary(session.summary_of(state, UNIT))
    if result.reason not in ("finished", "clock"):
        print(f"stopped by {result.reason}; go on with: {PROG} --resume {run.name}")
        return
    print(f"draw from it:    python -m generative.sample {run.name} --out grid.png")
    print(f"evaluate it:     python -m generative.evaluate {run.name}")
    if "filters" in model.abilities:
        print(f"see its filters: python -m generative.filters {run.name} --out filters.png")


def _last_pictures(run: Run, pictures: Pictures, images: int) -> None:
    """Samples of the finished model, where the last validation drew none, and the curves."""
    if pictures.count == 0:
        return
    if not list(run.samples.glob(f"*-{images:012d}.png")):
        pictures.draw(images)
    save_curves(run, "training images", images, write)
    print(f"pictures: {run.samples}")


def _announce(run: Run, config: dict[str, Any], rate: float) -> None:
    budget, model, sizes, spec = config["budget"], config["model"], config["data"]["sizes"], config["data"]["spec"]
    ends = session.either(
        f"{budget['epochs']:,} epochs ({budget['images']:,} images)" if budget["epochs"] else "",
        f"{budget['images']:,} images" if budget["images"] and not budget["epochs"] else "",
        f"{budget['minutes']:g} minutes" if budget["minutes"] else "",
    )
    print(f"{model['name']} ({model['preset']}) on {run.task}, seed {run.seed}, for {ends}")
    parts = ", ".join(f"{size:,} {part}" for part, size in sizes.items())
    print(f"  images of {spec['height']}x{spec['width']}, {'colour' if spec['channels'] == 3 else 'grey'}: {parts}")
    session.print_machine(config, rate, UNIT)
    print(f"  {run.path}", flush=True)
