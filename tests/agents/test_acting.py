"""Acting in a scripted environment: the order of events, what is stored, when learning is due, and exact resumption."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import envs
from agents.acting import ActingSource
from agents.core import Agent, Purpose, derived_seed
from agents.dqn import DQN, DQNConfig
from aprendiz.errors import ConfigError
from aprendiz.loop import Budget, Cadence, LoopState, Outcome, Work, load_run, train
from aprendiz.replay import Batch, Replay
from aprendiz.run import Run
from envs.core import Env, EnvSpec, Step

OVER, TIME_LIMIT, LIFE_LOST = "over", "time limit", "life lost"
FIRE = 5


@dataclass
class Event:
    """What a scripted step does in a lane; nothing but a reward of 0 where the script has no entry."""

    reward: float = 0.0
    what: str = ""


class ScriptedEnv(Env):
    """Observations are (lane, game, step in the game): each is unique. `script[lane]` maps the number of a step,
    counting from 1 over all games, to what happens in it. After a lost life FIRE is forced."""

    def __init__(
        self, num_envs: int, script: dict[int, dict[int, Event]] | None = None, restorable: bool = True
    ) -> None:
        self.num_envs = num_envs
        self.script = script or {}
        self.spec = EnvSpec(
            name="scripted",
            observation_kind="vector",
            observation_space=Box(-1, 1e6, (3,), np.float32),
            action_space=Discrete(6),
            default_env_steps=100,
            restorable=restorable,
        )
        self.events: list[Any] = []
        self.played: list[tuple[list[float], int, float, list[float]]] = []
        """Everything that happened: observation, action, reward, true next observation."""
        self.seed: int | None = None
        self._forced = np.full(num_envs, -1)
        self._in_flight: np.ndarray | None = None
        self.time = 0
        self.game, self.length = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.score = np.zeros(num_envs)

    def observe(self) -> np.ndarray:
        return np.stack([np.arange(self.num_envs), self.game, self.length], axis=1).astype(np.float32)

    def reset(self, seed: int | Sequence[int]) -> np.ndarray:
        self.seed = int(seed)  # type: ignore[arg-type]
        return self.observe()

    @property
    def forced_action(self) -> np.ndarray:
        return self._forced.copy()

    def send(self, actions: np.ndarray) -> None:
        assert self._in_flight is None
        self.events.append("send")
        self._in_flight = actions.copy()

    def recv(self) -> Step:
        assert self._in_flight is not None
        self.events.append("recv")
        before, actions = self.observe(), self._in_flight
        self._in_flight = None
        self.time += 1
        happening = [self.script.get(lane, {}).get(self.time, Event()) for lane in range(self.num_envs)]
        reward = np.array([event.reward for event in happening], np.float32)
        terminated = np.array([event.what == OVER for event in happening])
        truncated = np.array([event.what == TIME_LIMIT for event in happening])
        life_lost = np.array([event.what == LIFE_LOST for event in happening])
        self.score += reward
        self.length += 1
        final = self.observe()
        score, length = self.score.copy(), self.length.copy()
        for lane in range(self.num_envs):
            self.played.append((before[lane].tolist(), int(actions[lane]), float(reward[lane]), final[lane].tolist()))
        ended = terminated | truncated
        self.game[ended] += 1
        self.length[ended], self.score[ended] = 0, 0.0
        self._forced = np.where(life_lost, FIRE, -1)
        observation = self.observe()
        return Step(observation, reward, terminated, truncated, final, life_lost, self._forced.copy(), score, length)

    def state_dict(self) -> dict[str, Any]:
        return {"game": self.game.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> np.ndarray:
        self.game, self.length = np.array(state["game"]) + 100, np.zeros(self.num_envs, int)
        self._forced[:] = -1
        return self.observe()


class ScriptedAgent(Agent):
    """Acts by turns: 0, 1, 2, 3, 4, 0, ...; notes what it is asked."""

    def __init__(self, env: ScriptedEnv) -> None:
        self.env = env
        self.turn = 0
        self.explored: list[float] = []
        self.observed: list[np.ndarray] = []

    def exploration(self, env_steps: int) -> float:
        return 1.0 / (1 + env_steps)

    def act(self, observations: np.ndarray, explore: float, generator: np.random.Generator) -> np.ndarray:
        self.explored.append(explore)
        self.observed.append(observations.copy())
        self.turn += 1
        return np.full(len(observations), (self.turn - 1) % 5)

    def update(self, batch: Batch) -> Outcome:
        self.env.events.append(("update", batch.env_steps, len(batch.action)))
        return Outcome({})


def make_source(
    env: ScriptedEnv, *, warmup: int = 0, period: int = 4, capacity: int = 1000, **changes: Any
) -> ActingSource:
    replay = Replay(capacity, env.num_envs, (3,), np.float32, discount=0.9)
    settings = {"seed": 0, "batch_size": 2, "warmup_env_steps": warmup, "train_period_env_steps": period, **changes}
    return ActingSource(ScriptedAgent(env), env, replay, **settings)


def go(source: ActingSource, env_steps: int) -> list[Work]:
    """As the loop does it: until so many environment steps have passed."""
    done: list[Work] = []
    while sum(work.units for work in done) < env_steps:
        work = source.next()
        if work.batch is not None:
            source.feedback(work.batch, source.agent.update(work.batch))
        done.append(work)
    return done


def stored(source: ActingSource) -> dict[tuple[float, ...], tuple[int, float, float, list[float]]]:
    """By observation: action, reward, discount, next observation of everything in the memory."""
    batch = source.replay.sample(3000, np.random.default_rng(0))
    return {
        tuple(batch.observation[row].tolist()): (
            int(batch.action[row]),
            round(float(batch.reward[row]), 6),
            round(float(batch.discount[row]), 6),
            batch.next_observation[row].tolist(),
        )
        for row in range(3000)
    }


# The order of events


def test_updates_run_while_the_games_are_stepping() -> None:
    env = ScriptedEnv(num_envs=2)
    go(make_source(env, warmup=4, period=2), 10)
    assert env.events == [
        *("send", "recv") * 3,
        *("send", ("update", 6, 2), "recv"),
        *("send", ("update", 8, 2), "recv"),
    ]


def test_a_batch_comes_from_what_was_stored_before_its_step() -> None:
    env = ScriptedEnv(num_envs=1)
    source = make_source(env, warmup=1, period=1, batch_size=200)
    newest = [int(work.batch.observation[:, 2].max()) for work in go(source, 20) if work.batch is not None]
    assert newest == list(range(1, 19))  # while step t is under way, transitions 0 to t - 1 are there


def test_safe_points_are_those_at_which_nothing_is_under_way() -> None:
    env = ScriptedEnv(num_envs=2)
    source = make_source(env, period=1)
    for _ in range(50):
        work = source.next()
        assert work.safe_point == (env._in_flight is None) == (work.batch is None) == (work.units > 0)


def test_nothing_is_saved_while_actions_are_under_way() -> None:
    source = make_source(ScriptedEnv(num_envs=2), period=1)
    go(source, 6)
    source.next()
    with pytest.raises(AssertionError):
        source.state_dict()


@pytest.mark.parametrize(("num_envs", "period"), [(1, 1), (1, 4), (2, 4), (8, 4), (3, 4), (5, 7), (16, 4), (32, 32)])
def test_one_update_for_every_period_whatever_the_number_of_environments(num_envs: int, period: int) -> None:
    env = ScriptedEnv(num_envs)
    warmup = 4 * num_envs
    works = go(make_source(env, warmup=warmup, period=period), 60 * num_envs)
    updates = sum(work.batch is not None for work in works)
    # The last step is received after its updates, so that its own are not due yet.
    assert updates == 59 * num_envs // period - warmup // period
    assert sum(work.units for work in works) == 60 * num_envs


def test_no_update_before_the_warm_up_and_none_made_up_for_after_it() -> None:
    env = ScriptedEnv(num_envs=2)
    go(make_source(env, warmup=50, period=2), 60)
    at = [event[1] for event in env.events if event[0] == "update"]
    assert at == [52, 54, 56, 58]


def test_batches_know_the_clock_and_exploration_follows_it() -> None:
    env = ScriptedEnv(num_envs=4)
    source = make_source(env)
    go(source, 16)
    assert isinstance(source.agent, ScriptedAgent)
    assert source.agent.explored == [1.0, 1 / 5, 1 / 9, 1 / 13]


def test_the_environment_is_seeded_from_the_runs_seed() -> None:
    env = ScriptedEnv(num_envs=1)
    make_source(env, seed=17)
    assert env.seed == derived_seed(17, Purpose.ENVIRONMENT)


# What is stored

SCRIPT = {
    0: {2: Event(5.0), 4: Event(-3.0, OVER), 7: Event(1.0, TIME_LIMIT), 8: Event(2.0, OVER)},
    1: {3: Event(0.5, LIFE_LOST), 5: Event(0.25), 6: Event(4.0, OVER)},
}


def test_what_is_stored_is_what_was_played_and_nothing_else() -> None:
    env = ScriptedEnv(2, SCRIPT)
    source = make_source(env)
    go(source, 40)
    content = stored(source)
    assert len(content) == len(env.played) == 40
    for observation, action, reward, next_observation in env.played:
        assert content[tuple(observation)][:2] == (action, reward)
        assert content[tuple(observation)][3] == next_observation


def test_what_is_remembered_of_a_real_game_is_what_was_acted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    env = envs.make("breakout", 2)
    spec = env.spec
    config = DQNConfig(num_envs=2, replay_capacity=2_000, warmup_env_steps=10_000)
    agent = DQN(DQN.resolve(config, 10_000), spec.observation_space, spec.action_space, seed=0)
    monkeypatch.setattr(agent, "act_in_training", lambda seen, env_steps, generator: generator.integers(0, 4, 2))
    source = agent.make_source(env, seed=0)
    played: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    position = [0, 0]
    recv = env.recv

    def recorded() -> Step:
        before, step = source.observation.copy(), recv()
        for lane in range(2):
            played[lane, position[lane]] = before[lane], step.final_observation[lane].copy()
            position[lane] += 1 + int(step.ended[lane])  # the last observation of a game has a place of its own
        return step

    monkeypatch.setattr(env, "recv", recorded)
    go(source, 600)
    batch = source.replay.sample(1_500, np.random.default_rng(0))
    assert batch.indices is not None and source.recent.metrics()["rollout/games"] >= 2
    for row, (lane, at) in enumerate(batch.indices.tolist()):
        assert np.array_equal(batch.observation[row].numpy(), played[lane, at][0])
        assert np.array_equal(batch.next_observation[row].numpy(), played[lane, at][1])
    env.close()


def test_more_actions_than_can_be_remembered_are_refused() -> None:
    env = ScriptedEnv(1)
    env.spec = dataclasses.replace(env.spec, action_space=Discrete(40_000))
    with pytest.raises(ConfigError, match="scripted has 40,000 actions; at most 32,768 can"):
        make_source(env)


def test_a_time_limit_bootstraps_from_the_true_last_observation_and_the_end_of_a_game_does_not() -> None:
    source = make_source(ScriptedEnv(2, SCRIPT))
    go(source, 40)
    content = stored(source)
    assert content[0, 0, 3][2:] == (0.0, [0, 0, 4])  # over
    assert content[0, 1, 2][2:] == (0.9, [0, 1, 3])  # time limit: not (0, 2, 0), where the next game began
    assert content[0, 2, 0][2:] == (0.0, [0, 2, 1])  # over in its first step


def test_the_agent_acts_on_the_first_observation_of_the_next_game() -> None:
    source = make_source(ScriptedEnv(1, {0: {2: Event(what=OVER)}}))
    go(source, 4)
    assert isinstance(source.agent, ScriptedAgent)
    assert [seen[0].tolist() for seen in source.agent.observed] == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize(("ends_value", "discount"), [(True, 0.0), (False, 0.9)])
def test_after_a_lost_life_the_game_and_its_score_go_on(ends_value: bool, discount: float) -> None:
    source = make_source(ScriptedEnv(2, SCRIPT), life_loss_ends_value=ends_value)
    go(source, 12)
    assert stored(source)[1, 0, 2][2:] == (discount, [1, 0, 3])
    assert stored(source)[1, 0, 3][2:] == (0.9, [1, 0, 4])
    metrics = source.metrics()
    assert metrics["rollout/games"] == 2
    assert metrics["rollout/score_mean"] == np.mean([5.0 - 3.0, 0.5 + 0.25 + 4.0])
    assert metrics["rollout/length_mean"] == np.mean([4, 6])


def test_a_forced_action_is_sent_and_stored() -> None:
    env = ScriptedEnv(2, SCRIPT)
    source = make_source(env)
    go(source, 12)
    # the life is lost in the third step; in the fourth the agent's turn is 3
    assert stored(source)[1, 0, 3][0] == FIRE and stored(source)[0, 0, 3][0] == 3
    assert [action for observation, action, *_ in env.played if observation == [1, 0, 3]] == [FIRE]


def test_rewards_are_clipped_where_they_are_learned_from_and_not_in_scores() -> None:
    source = make_source(ScriptedEnv(2, SCRIPT), clip_rewards=True)
    go(source, 12)
    rewards = {observation: transition[1] for observation, transition in stored(source).items()}
    assert [rewards[0, 0, step] for step in range(4)] == [0.0, 1.0, 0.0, -1.0]
    assert rewards[1, 0, 2] == 0.5  # a small one is not made larger
    assert source.metrics()["rollout/score_mean"] == np.mean([2.0, 4.75])


def test_rewards_are_scaled_where_they_are_learned_from_and_not_in_scores() -> None:
    plain, scaled = make_source(ScriptedEnv(2, SCRIPT)), make_source(ScriptedEnv(2, SCRIPT), reward_scale=0.5)
    for source in (plain, scaled):
        go(source, 12)
    rewards = [{key: transition[1] for key, transition in stored(source).items()} for source in (plain, scaled)]
    assert rewards[1] == {key: 0.5 * reward for key, reward in rewards[0].items()} and any(rewards[0].values())
    assert scaled.metrics()["rollout/score_mean"] == plain.metrics()["rollout/score_mean"] == np.mean([2.0, 4.75])


def test_the_score_is_the_mean_of_the_last_hundred_games() -> None:
    script = {0: {step: Event(float(step), OVER) for step in range(1, 151)}}
    source = make_source(ScriptedEnv(1, script))
    assert "rollout/score_mean" not in source.metrics()
    go(source, 150)
    assert source.metrics()["rollout/score_mean"] == np.mean(range(51, 151))


# Saving and going on


def save_and_load(source: ActingSource, other: ActingSource, folder: Path, bulk: bool = True) -> None:
    if bulk:
        other.load_bulk(folder, source.save_bulk(folder))
    other.load_state_dict(source.state_dict())


def test_without_its_memory_a_run_warms_up_again(tmp_path: Path) -> None:
    source = make_source(ScriptedEnv(2), warmup=20, period=2)
    go(source, 100)
    env = ScriptedEnv(2)
    resumed = make_source(env, warmup=20, period=2)
    save_and_load(source, resumed, tmp_path, bulk=False)
    go(resumed, 30)
    assert [event[1] for event in env.events if event[0] == "update"] == [122, 124, 126, 128]


def test_games_that_cannot_be_restored_end_where_they_were(tmp_path: Path) -> None:
    source = make_source(ScriptedEnv(2, SCRIPT, restorable=False))
    go(source, 18)
    env = ScriptedEnv(2, restorable=False)
    resumed = make_source(env)
    save_and_load(source, resumed, tmp_path)
    go(resumed, 10)
    content = stored(resumed)
    assert len(content) == 28
    assert content[0, 3, 0][2:] == (0.9, [0, 3, 1])  # the last step before the save leads to what was seen last
    assert content[0, 103, 0][3] == [0, 103, 1]


def test_counters_and_scores_come_back(tmp_path: Path) -> None:
    source, resumed = make_source(ScriptedEnv(2, SCRIPT)), make_source(ScriptedEnv(2))
    go(source, 20)
    save_and_load(source, resumed, tmp_path)
    assert resumed.metrics() == source.metrics() and resumed.env_steps == 20


class Recorder:
    """Trains DQN on CartPole and notes every action and batch."""

    def __init__(self, seed: int = 0, **changes: Any) -> None:
        self.env = envs.make("cartpole", 3)
        settings = {"warmup_env_steps": 60, "exploration_env_steps": 400, "n_step": 3, "target_period_env_steps": 50}
        settings |= {"num_envs": 3, "batch_size": 8, "replay_capacity": 250, "backbone": "mlp", "clip_rewards": False}
        config = DQNConfig(**{**settings, **changes})
        self.agent = DQN(config, self.env.spec.observation_space, self.env.spec.action_space, seed=seed)
        self.source = self.agent.make_source(self.env, seed=seed)
        self.state = LoopState()
        self.actions: list[list[int]] = []
        self.batches: list[Batch] = []
        send, update = self.env.send, self.agent.update

        def recorded_send(actions: np.ndarray) -> None:
            self.actions.append(actions.tolist())
            send(actions)

        def recorded_update(batch: Batch) -> Outcome:
            self.batches.append(batch)
            return update(batch)

        self.env.send = recorded_send  # type: ignore[method-assign]
        self.agent.update = recorded_update  # type: ignore[method-assign]

    def train(self, run: Run, env_steps: int, **changes: Any) -> None:
        settings = {"log_every_units": 50, "checkpoint_every_minutes": 1e6, **changes}
        budget, cadence = Budget(units=env_steps), Cadence(**settings)
        train(self.agent, self.source, run, budget, cadence=cadence, state=self.state, progress=False)


def make_run(root: Path) -> Run:
    return Run.create(
        kind="agents", task="cartpole", learner="dqn", seed=0, config={}, command=["test"], device="cpu", root=root
    )


def assert_same_training(left: Recorder, right: Recorder) -> None:
    assert left.actions == right.actions
    assert len(left.batches) == len(right.batches) > 0
    for ours, theirs in zip(left.batches, right.batches, strict=True):
        for name in ("observation", "action", "reward", "discount", "next_observation"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    for network in ("online", "target"):
        theirs_state = right.agent.modules()[network].state_dict()
        for name, tensor in left.agent.modules()[network].state_dict().items():
            assert torch.equal(tensor, theirs_state[name]), f"{network} {name}"


@pytest.mark.parametrize("first_part", [30, 300, 750])  # in the warm-up; learning; with a memory filled twice over
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path, first_part: int) -> None:
    whole, first, resumed = Recorder(), Recorder(), Recorder(seed=99)
    whole.train(make_run(tmp_path), 1050)
    run = make_run(tmp_path)
    first.train(run, first_part)
    assert load_run(run, resumed.agent, resumed.source, resumed.state)
    resumed.train(run, 1050)
    resumed.actions = first.actions + resumed.actions
    resumed.batches = first.batches + resumed.batches
    assert_same_training(whole, resumed)
    assert whole.source.metrics() == resumed.source.metrics()


def test_checkpoints_on_the_way_change_nothing(tmp_path: Path) -> None:
    quiet, busy = Recorder(), Recorder()
    quiet.train(make_run(tmp_path), 150)
    busy.train(make_run(tmp_path), 150, checkpoint_every_minutes=0.0)
    assert_same_training(quiet, busy)


def test_other_seeds_act_differently(tmp_path: Path) -> None:
    one, other = Recorder(seed=0), Recorder(seed=1)
    for recorder in (one, other):
        recorder.train(make_run(tmp_path), 150)
    assert one.actions != other.actions
