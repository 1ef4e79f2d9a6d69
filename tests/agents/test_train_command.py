"""`python -m agents.train` from end to end: what it leaves behind, stopping and going on, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import envs
from agents import AGENTS, training
from agents.acting import ActingSource
from agents.saved import new_agent
from agents.table_source import TableSource
from agents.train import run_command
from aprendiz.loop import LoopState, load_run
from aprendiz.run import Run
from tests import training_runs
from tests.training_runs import (
    ROOT,
    change_config,
    full_disk,
    killed_and_resumed,
    lines,
    plain,
    record_tracking,
    refused_by,
    truncate_the_tensors,
)

COMMON = ("--wandb", "disabled", "--no-video", "--device", "cpu")
CARTPOLE = (
    *("cartpole", "--num-envs", "4", "--batch-size", "16", "--train-period-env-steps", "4"),
    *("--replay-capacity", "800", "--exploration-end", "0.04", "--evaluation-games", "2", *COMMON),
)
"""Small enough to be trained many times; the replay memory is filled several times over in 3,000 steps."""
GRIDWORLD = ("gridworld", "--chunk-env-steps", "90", "--evaluation-games", "2", *COMMON)
BREAKOUT = (
    *("breakout", "--precision", "fp32", "--evaluations", "0", "--num-envs", "2", "--batch-size", "4"),
    *("--replay-capacity", "2000", "--warmup-env-steps", "60", "--train-period-env-steps", "16", *COMMON),
)
refused = functools.partial(refused_by, run_command)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APRENDIZ_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def train(*arguments: str) -> Run:
    """Trains to the end; returns the run."""
    assert run_command(list(arguments)) == 0
    return Run.open("latest")


def resume(run: Run, *arguments: str) -> Run:
    assert run_command(["--resume", str(run.path), *COMMON[:3], *arguments]) == 0
    return Run.open(run.path)


def stop_at(env_steps: int, arguments: list[str], number: signal.Signals = signal.SIGTERM) -> Run:
    return training_runs.stop_at(env_steps, run_command, arguments, number, ActingSource, TableSource)


def opened(run: Run) -> tuple[Any, Any, LoopState]:
    """Agent, source and the loop's state as the run's last checkpoint has them."""
    agent, _, make_env = new_agent(run, "cpu")
    source = agent.make_source(make_env(run.config["num_envs"]), seed=run.seed)
    state = LoopState()
    load_run(run, agent, source, state)
    return agent, source, state


def memory(source: Any) -> dict[str, Any]:
    """What a replay memory holds: every slot that has not been overwritten, oldest first."""
    replay, content = source.replay, {}
    for lane, (oldest, head) in enumerate(zip(replay.oldest(), replay.head, strict=True)):
        slots = np.arange(oldest, head) % replay.slots
        columns = {name: getattr(replay, name)[lane, slots] for name in ("action", "reward", "flags", "age")}
        content[lane] = columns | {"frames": replay.frames[lane * replay.slots + slots].numpy(), "oldest": oldest}
    return content


def assert_same_run(left: Run, right: Run) -> None:
    """Number for number: also what a replay memory holds, though its files differ."""
    training_runs.assert_same_run(left, right, but=["bulk"])
    sources = [opened(run)[1] for run in (left, right)]
    if hasattr(sources[0], "replay"):
        np.testing.assert_equal(memory(sources[0]), memory(sources[1]))


# Stopping and going on


@pytest.fixture(scope="module")
def whole_cartpole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(tmp_path_factory.mktemp("whole")))
        return train(*CARTPOLE, "--steps", "3_000")


@pytest.mark.parametrize(
    ("stops", "number"),
    [
        ((20,), signal.SIGINT),  # in the warm-up
        ((448, 1_203), signal.SIGTERM),  # in the step before an evaluation, and between two
        ((2_000, 2_990), signal.SIGTERM),  # with a memory that was overwritten; just before the end
    ],
)
def test_cartpole_interrupted_equals_uninterrupted(
    whole_cartpole: Run, stops: tuple[int, ...], number: signal.Signals
) -> None:
    run = stop_at(stops[0], [*CARTPOLE, "--steps", "3_000"], number)
    assert run.status()["state"] == "stopped" and run.status()["step"] >= stops[0]
    for stop in stops[1:]:
        run = stop_at(stop, ["--resume", str(run.path), *COMMON[:3]], number)
    run = resume(run)
    assert run.status()["state"] == "finished"
    assert_same_run(run, whole_cartpole)


@pytest.mark.parametrize("evaluation", [5, 20])  # one on the way, and the last
def test_an_evaluation_that_a_signal_cuts_off_is_made_up_for(
    whole_cartpole: Run, monkeypatch: pytest.MonkeyPatch, evaluation: int
) -> None:
    play, played = training.play_games, []

    def play_games(*arguments: Any, **options: Any) -> Any:
        played.append(1)
        if len(played) == evaluation:
            os.kill(os.getpid(), signal.SIGINT)
        return play(*arguments, **options)

    monkeypatch.setattr(training, "play_games", play_games)
    assert run_command([*CARTPOLE, "--steps", "3_000"]) == 130
    run = Run.open("latest")
    assert run.status()["state"] == "stopped" and run.load()["loop"]["units"] == 150 * evaluation + (2 * evaluation % 4)
    assert_same_run(resume(run), whole_cartpole)


def test_gridworld_interrupted_equals_uninterrupted() -> None:
    whole = train(*GRIDWORLD, "--steps", "6_000")
    run = stop_at(900, [*GRIDWORLD, "--steps", "6_000"])
    run = stop_at(4_000, ["--resume", str(run.path), *COMMON[:3]])
    assert_same_run(resume(run), whole)


def test_one_seed_gives_one_training_and_another_seed_another() -> None:
    one, two, other = (train(*CARTPOLE, "--steps", "800", "--seed", seed) for seed in ("3", "3", "4"))
    assert_same_run(one, two)
    assert lines(one) != lines(other)


def test_a_finished_run_goes_on_to_a_larger_total_and_nothing_of_it_moves() -> None:
    settings = ("--evaluations", "0", "--warmup-env-steps", "40", "--exploration-env-steps", "700")
    settings = (*settings, "--learning-rate-env-steps", "900")
    whole = train(*CARTPOLE, *settings, "--steps", "2_000")
    run = train(*CARTPOLE, *settings[:2], "--steps", "1_200")
    before = run.config
    run = resume(run, "--steps", "2_000")
    assert run.config["budget"] == {"env_steps": 2_000, "minutes": None, "planned_env_steps": 1_200}
    assert run.config | {"budget": 0} == before | {"budget": 0}
    assert before["agent"]["hyperparameters"]["exploration_env_steps"] == 120  # a tenth of 1,200, also now
    assert before["agent"]["hyperparameters"]["learning_rate_env_steps"] == 1_200
    same = train(*CARTPOLE, *settings, "--steps", "1_200")
    assert_same_run(resume(same, "--steps", "2_000"), whole)


def test_a_larger_total_with_a_learning_rate_of_zero_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        train(*CARTPOLE, "--evaluations", "0", "--steps", "400", "--learning-rate-end", end) for end in ("0", "1e-5")
    ]
    for run, said in zip(runs, (True, False), strict=True):
        capsys.readouterr()
        resume(run, "--steps", "800")
        printed = capsys.readouterr().out
        assert ("the learning rate is 0 from step 400 on" in printed) == said


def test_a_warm_up_as_long_as_the_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for warmup in ("300", "299"):
        train(*CARTPOLE, "--evaluations", "0", "--steps", "300", "--warmup-env-steps", warmup)
        assert ("nothing will be learned" in capsys.readouterr().out) == (warmup == "300")


def test_gridworld_goes_on_to_a_larger_total() -> None:
    settings = ("--evaluations", "0", "--exploration-env-steps", "2_000")
    whole = train(*GRIDWORLD, *settings, "--steps", "3_600")
    run = train(*GRIDWORLD, *settings, "--steps", "1_800")
    assert_same_run(resume(run, "--steps", "3_600"), whole)


def test_a_run_that_has_made_its_steps_says_so_and_keeps_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    run = train(*CARTPOLE, "--steps", "200")
    before = (run.path / "metrics.jsonl").read_bytes()
    assert "has already made 200 of 200 steps; give a larger total" in refused(capsys, "--resume", str(run.path))
    first = str(run.steps()[0])
    refused(capsys, "--resume", str(run.path), "--checkpoint", first, "--steps", first)
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_a_run_that_has_used_its_minutes_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run = train(*GRIDWORLD, "--minutes", "0.002", "--evaluations", "1")
    assert run.status()["state"] == "finished"
    said = refused(capsys, "--resume", str(run.path))
    assert re.search(r"has already trained for [\d.]+ of 0.002 minutes; give a larger total", said)
    steps = run.load()["loop"]["units"] + 1_000
    assert resume(run, "--steps", str(steps)).load()["loop"]["units"] == steps


def test_a_breakout_run_goes_on_exactly_but_for_the_games_in_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stop_at(200, [*BREAKOUT, "--n-step", "3", "--steps", "400"])
    assert "stopped by SIGTERM; go on with: python -m agents.train --resume" in capsys.readouterr().out
    saved = run.load()
    agent, source, state = opened(run)
    np.testing.assert_equal(plain(agent.state_dict()), plain(saved["learner"]))
    now = source.state_dict()
    for games in ("env", "replay"):
        del now[games]
    np.testing.assert_equal(now, {name: value for name, value in saved["source"].items() if name in now})
    assert state.units == 202 and state.updates == saved["loop"]["updates"] > 5
    again = Run.open(shutil.copytree(run.path, tmp_path / "again"))
    assert_broken_off_where_it_was_saved(source, saved["source"]["replay"])

    run = resume(run)
    assert "new ones begin; everything else goes on exactly" in capsys.readouterr().out
    finished = opened(run)[1]
    assert_broken_off_where_it_was_saved(finished, saved["source"]["replay"])
    for lane, content in memory(source).items():  # what was remembered is remembered unchanged
        count = len(content["action"])
        np.testing.assert_equal(
            {name: column[:count] for name, column in memory(finished)[lane].items() if name != "oldest"},
            {name: column for name, column in content.items() if name != "oldest"},
        )
    assert_same_run(resume(again), run)  # the new games are always the same ones


def assert_broken_off_where_it_was_saved(source: Any, saved: dict[str, Any]) -> None:
    """No sample reaches over the point at which the games were broken off: the last transition leads to what was then
    the current frame, in one step, and stacks start with zeros after it."""
    batch = source.replay.sample(6_000, np.random.default_rng(0))
    for lane, head in enumerate(saved["head"]):
        at = {offset: np.flatnonzero((batch.indices == (lane, head + offset)).all(axis=1)) for offset in (-1, 0, 1, 2)}
        assert len(at[-1]) > 0 and len(at[0]) == 0  # in the current observation nothing was done any more
        for row in at[-1]:
            assert batch.discount[row] in (0.0, np.float32(0.99))
            assert torch.equal(batch.next_observation[row, -1], torch.from_numpy(saved["frames"][lane]))
        for offset in (1, 2):
            assert all(not batch.observation[row, : 4 - offset].any() for row in at[offset])
        if source.replay.head[lane] > head + 2:
            assert len(at[1]) > 0


def test_without_its_replay_memory_a_run_fills_it_anew(capsys: pytest.CaptureFixture[str]) -> None:
    settings = (*CARTPOLE, "--steps", "1_000", "--warmup-env-steps", "200", "--no-save-replay")
    whole = train(*settings)
    run = stop_at(600, [*settings])
    assert not (run.path / "replay").exists()
    run = resume(run)
    assert "filled anew before learning goes on" in capsys.readouterr().out
    state = run.load()
    assert state["source"]["learn_from_env_steps"] == 604 + 200
    # Those of a second warm-up are missing, and the one that was due when it stopped.
    assert state["loop"]["updates"] == whole.load()["loop"]["updates"] - 200 // 4 - 1


def test_an_older_checkpoint_can_be_gone_on_from(whole_cartpole: Run, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(whole_cartpole.path, tmp_path / "copy"))
    older = [step for step in run.steps() if step < 3_000]
    assert older
    assert_same_run(resume(run, "--checkpoint", str(older[-1])), whole_cartpole)


def test_kill_9_at_any_moment_leaves_a_run_that_goes_on_exactly() -> None:
    often = ("--checkpoint-minutes", "1e-9", "--steps", "60", "--warmup-env-steps", "16", "--evaluations", "2")
    often += ("--replay-capacity", "40")  # overwritten on the way
    whole, killed = killed_and_resumed("agents.train", (*CARTPOLE, *often), COMMON[:3], range(60, 300, 31))
    for run in killed:
        assert_same_run(run, whole)
        left = {path.name for folder in ("checkpoints", "replay") for path in (run.path / folder).iterdir()}
        assert not [name for name in left if ".old" in name or re.match(r"(step|lane).*\.tmp", name)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_with_a_checkpoint_and_its_own_exit_code(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "agents.train", *CARTPOLE, "--steps", "5_000_000", "--evaluations", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if "env steps |" in line:  # training has begun
                process.send_signal(number)
                break
        rest, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; go on with: python -m agents.train --resume" in rest
    assert errors == f"{number.name}: saving, then stopping; Ctrl-C again stops without saving\n"
    run = Run.open("latest")
    made = run.load()["loop"]["units"]
    assert resume(run, "--steps", str(made + 40)).load()["loop"]["units"] == made + 40


# What it prints


def test_the_progress_line_has_steps_rate_time_left_score_and_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    train(*CARTPOLE, "--steps", "1_000", "--evaluations", "1")
    out = capsys.readouterr().out
    progress = [line for line in out.splitlines() if "env steps |" in line]
    assert re.fullmatch(r"4/1,000 env steps \| 0/s \| 0:\d\d gone, \? left \| epsilon 0\.\d+", progress[0])
    last = r"1,000/1,000 env steps \| [\d,]+/s \| \d:\d\d gone, 0:00 left \| score [\d.]+ \| epsilon 0\.04"
    assert re.fullmatch(last, progress[-1]), progress[-1]
    assert "for 1,000 environment steps" in out
    assert "num_envs 4, warmup_env_steps 20, exploration_env_steps 100, replay_capacity 800" in out
    assert "best checkpoint: step 1,000, mean score" in out and "python -m agents.watch cartpole-dqn-s1-" in out


def test_a_machine_with_little_memory_gets_a_smaller_replay_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "available_memory", lambda device: 100_000_000)
    run = stop_at(4, [*BREAKOUT, "--replay-capacity", "1_000_000", "--steps", "40"])
    assert "1,000,000 transitions need 7.1 GB and 0.1 GB may be taken here: 11,000 are kept" in capsys.readouterr().out
    assert run.config["agent"]["hyperparameters"]["replay_capacity"] == 11_000
    monkeypatch.setattr(training, "available_memory", lambda device: 10**12)
    assert resume(run).config["agent"]["hyperparameters"]["replay_capacity"] == 11_000
    monkeypatch.setattr(training, "available_memory", lambda device: 10_000)
    assert "hold no replay memory for breakout" in refused(capsys, *BREAKOUT)


def test_a_gpu_makes_room_only_for_memories_that_live_there(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cpu": 1_000_000_000, "cuda": 80_000_000_000}
    monkeypatch.setattr(training, "available_memory", lambda device: free[device.type])
    spec = envs.make("breakout", 1).spec
    for name, kept in (("dqn", 1_000_000), ("sb3-dqn", 14_000)):
        agent = AGENTS.get(name)
        config = dataclasses.replace(agent.presets(spec)["default"], replay_capacity=1_000_000)
        fitted = training._fit_memory(agent, config, spec, config.num_envs, torch.device("cuda"))
        assert fitted.replay_capacity == kept


def test_a_run_goes_on_on_another_kind_of_device_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(*CARTPOLE, "--steps", "200", "--evaluations", "0")
    change_config(config=run.config | {"device": "cuda", "precision": "bf16"})(run.path)
    monkeypatch.setattr("aprendiz.saved.choose_device", lambda name: torch.device({"auto": "cuda"}.get(name, name)))
    config = resume(Run.open(run.path), "--steps", "300", "--device", "auto").config
    assert (config["device"], config["precision"]) == ("cpu", "fp32")


def test_a_video_of_the_best_checkpoint_is_made_and_one_that_fails_spoils_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word for word in CARTPOLE if word != "--no-video"] + ["--steps", "40", "--evaluations", "1"]
    run = train(*arguments)
    assert [path.name for path in run.videos.iterdir()] == ["step-000000000040.mp4"]
    monkeypatch.setattr("agents.video.record_video", lambda *_, **__: (_ for _ in ()).throw(OSError("no encoder")))
    train(*arguments)
    assert capsys.readouterr().err == "no video: OSError: no encoder\n"


def test_resuming_continues_the_same_run_of_weights_and_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    made = record_tracking(monkeypatch, "env_steps")
    arguments = [word for word in CARTPOLE if word not in ("--wandb", "disabled")]
    run = stop_at(60, [*arguments, "--steps", "120", "--wandb", "offline"])
    assert run_command(["--resume", run.name, "--no-video"]) == 0
    first, second = made
    assert first.given.run_id == second.given.run_id == run.info["wandb_id"]
    assert (first.given.resumed, second.given.resumed) == (False, True)
    assert first.given.mode == second.given.mode == "offline"
    assert first.given.step_metric == "env_steps" and first.given.config["agent"]["name"] == "dqn"
    assert first.logged[-1] <= 64 < second.logged[0]
    assert first.ended == [64, "finished with 0"] and second.ended == [120, "finished with 0"]


def test_the_network_can_be_chosen() -> None:
    run = train(*CARTPOLE, "--backbone", "aprendiz.backbones:MLP", "--steps", "40", "--evaluations", "0")
    assert run.config["agent"]["hyperparameters"]["backbone"] == "aprendiz.backbones:MLP"
    agent, _, _ = opened(run)
    assert type(agent.online.backbone).__name__ == "MLP"


def test_options_of_an_environment_are_taken_by_their_own_types() -> None:
    run = stop_at(4, [*BREAKOUT, "--sticky", "0.25", "--steps", "40"])
    assert run.config["environment"]["options"]["sticky"] == 0.25
    run = train(*GRIDWORLD, "--map", "S..G", "--slip", "0", "--time-limit-steps", "9", "--steps", "90")
    options = {"map": "S..G", "slip": 0.0, "time_limit_steps": 9}
    assert {name: run.config["environment"]["options"][name] for name in options} == options
    assert run.load()["learner"]["q"].shape == (4, 4)


# What it refuses: one line, exit code 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["breakuot"], "unknown name 'breakuot'.* closest: breakout"),
        (["gym:Nope-v9"], "Gymnasium cannot make Nope-v9"),
        (["joust"], "joust needs two players"),
        ([], "name an environment first"),
        (["--steps", "5"], "name an environment first"),
        (["cartpole", "--stpes", "5"], "unknown option --stpes; closest: --steps"),
        (["cartpole", "--map", "S.G"], "unknown option --map"),
        (["cartpole", "more"], "unexpected argument more"),
        (["cartpole", "--steps"], "--steps needs a value"),
        (["cartpole", "--steps", "-5"], "--steps must be at least 1, got -5"),
        (["cartpole", "--steps", "many"], "--steps takes INT or None, not 'many'"),
        (["cartpole", "--minutes", "-1"], "--minutes must be above 0"),
        (["cartpole", "--minutes", "nan"], "--minutes must be above 0"),
        (["cartpole", "--seed", "-1"], "--seed must be 0 or more"),
        (["cartpole", "--evaluations", "-1"], "--evaluations must be 0 or more"),
        (["cartpole", "--checkpoint-minutes", "0"], "--checkpoint-minutes must be above 0"),
        (["cartpole", "--preset", "fsat"], "has no preset 'fsat' for cartpole; it has default, fast, paper"),
        (["cartpole", "--agent", "dqm"], "unknown name 'dqm'.* closest: dqn"),
        (["cartpole", "--agent", "q-learning"], "q-learning needs discrete observations.* use --agent dqn"),
        (["cartpole", "--backbone", "mpl"], "unknown name 'mpl' among the .* backbones; closest: mlp"),
        (["cartpole", "--backbone", "nature-cnn"], "reads uint8 images.* use --backbone mlp"),
        (["cartpole", "--precision", "fp64"], "--precision cannot be 'fp64'; choose from 'auto', 'fp32', 'bf16'"),
        (["gridworld", "--precision", "bf16"], "q-learning learns in fp32, not in bf16"),
        (["cartpole", "--device", "tpu"], "unknown device 'tpu': use auto, cpu, cuda or mps"),
        (["cartpole", "--wandb", "maybe"], "--wandb cannot be 'maybe'"),
        (["cartpole", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["cartpole", "--discount", "2"], "discount must lie between 0 and 1"),
        (["breakout", "--sticky", "2"], "sticky"),
        (["gridworld", "--map", "ab"], "map 'ab' is neither a readable file nor rows"),
        (["--resume"], "--resume needs a value"),
        (["--resume", "--steps", "5"], "--resume needs a value"),
        (["--resume", "nowhere"], "there is no run 'nowhere'"),
        (["--resume", "latest"], "there is no run at all"),
        (["--resume", "latest", "--stpes", "5"], "unknown option --stpes; closest: --steps"),
    ],
    ids=" ".join,
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(said, refused(capsys, *arguments))
    assert not runs.exists()


def test_bad_input_ends_the_command_with_exit_code_2(runs: Path) -> None:
    command = [sys.executable, "-m", "agents.train", "breakuot", "--steps", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRENDIZ_RUNS", str(tmp_path_factory.mktemp("finished")))
        return train(*CARTPOLE, "--steps", "80", "--evaluations", "2")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def half_write_the_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[: len(text) // 2])


def forget_the_checkpoints(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")


def turn_a_bit(folder: Path) -> None:
    for tensors in folder.rglob("step-000000000080/tensors.safetensors"):
        data = bytearray(tensors.read_bytes())
        data[-100] ^= 1
        tensors.write_bytes(data)


def change_the_state(folder: Path) -> None:
    for state in folder.rglob("state.json"):
        state.write_text(state.read_text().replace('"games": ', '"games": 1'))


def renumber_the_checkpoints(folder: Path) -> None:
    for state in folder.rglob("state.json"):
        state.write_text(state.read_text().replace('"format_version": 1', '"format_version": 99'))


def lose_a_segment(folder: Path) -> None:
    next(iter((folder / "replay").glob("lane*"))).unlink()


def truncate_a_segment(folder: Path) -> None:
    os.truncate(next(iter((folder / "replay").glob("lane*"))), 20)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (empty, "is no run's folder: it is empty"),
        (half_write_the_config, "config.json is half-written"),
        (change_config(format_version=99), "written by a newer aprendiz: format 99"),
        (change_config(kind="language"), "is a run of language"),
        (forget_the_checkpoints, "has no checkpoint yet"),
        (truncate_the_tensors, "damaged: tensors.safetensors .*no other checkpoint of this run is whole"),
        (turn_a_bit, "damaged: tensors.safetensors .*the one at step 40 is whole: --checkpoint 40"),
        (change_the_state, "damaged: state.json was changed"),
        (renumber_the_checkpoints, "written by a newer aprendiz: format 99"),
        (lose_a_segment, "segment .* is missing"),
        (truncate_a_segment, "segment .* is damaged"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.__name__,
)
def test_a_run_that_cannot_be_resumed_says_why_in_one_line(
    finished: Run, damage: Callable[[Path], None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished.path, tmp_path / "run"))
    damage(folder)
    assert re.search(said, refused(capsys, "--resume", str(folder), "--steps", "200", *COMMON[:3]))


@pytest.mark.parametrize("writes", [30, 47, 63])
def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_once_there_is_room(
    writes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full from the given flush on: in a segment of the replay memory, a checkpoint, a small file."""
    often = (*CARTPOLE, "--steps", "120", "--evaluations", "0", "--checkpoint-minutes", "1e-9")
    whole = train(*often)
    with full_disk(writes):
        line = refused(capsys, *often)
    assert "No space left on device; " in line and ("make room" in line or "free some space" in line)
    assert "status.json" not in line
    run = Run.open("latest")
    assert 0 < run.load()["loop"]["units"] < 120
    assert_same_run(resume(run), whole)
