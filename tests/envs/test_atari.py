"""The protocol of the published DQN scores, and each way in which an implementation quietly leaves it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import envs
from aprendiz.errors import ConfigError, EnvError
from aprendiz.registry import Description
from aprendiz.testing import check_env
from envs.atari_scores import SCORES
from envs.core import Step


def play(env: Any, steps: int, seed: int = 0, *, action: int | None = None) -> list[Step]:
    """Random play, or one action for ever, but for what the protocol forces."""
    generator = np.random.default_rng(seed)
    result = []
    for _ in range(steps):
        wanted = generator.integers(0, env.spec.num_actions, env.num_envs) if action is None else action
        forced = env.forced_action
        result.append(env.step(np.where(forced >= 0, forced, wanted)))
    return result


@pytest.fixture(scope="module")
def breakout_games() -> list[Step]:
    """Random play over several whole games of five lives."""
    env = envs.make("breakout", 2)
    env.reset(1)
    return play(env, 500)


def test_conforms() -> None:
    check_env(lambda num_envs: envs.make("breakout", num_envs, time_limit_steps=40), steps=100, num_envs=2)


def test_a_game_of_breakout_loses_four_lives_and_ends_with_the_fifth(breakout_games: list[Step]) -> None:
    for lane in range(2):
        ends = [number for number, step in enumerate(breakout_games) if step.terminated[lane]]
        assert len(ends) >= 2
        start = 0
        for end in ends:
            lost = [number for number in range(start, end + 1) if breakout_games[number].life_lost[lane]]
            assert len(lost) == 4
            # Length and score are those of the whole game, over all its lives.
            assert breakout_games[end].length[lane] == end + 1 - start
            assert breakout_games[end].score[lane] == sum(one.reward[lane] for one in breakout_games[start : end + 1])
            start = end + 1


def test_a_lost_life_does_not_start_a_new_game(breakout_games: list[Step]) -> None:
    lost = 0
    for before, step in pairwise(breakout_games):
        for lane in np.flatnonzero(step.life_lost & ~before.ended):
            lost += 1
            assert not step.terminated[lane]
            assert np.array_equal(
                step.observation[lane, :3], before.observation[lane, 1:]
            )  # no zeros: the stack goes on
    assert lost >= 8


def test_fire_is_forced_after_a_lost_life_and_nowhere_else(breakout_games: list[Step]) -> None:
    for step in breakout_games:
        assert np.array_equal(step.forced_action, np.where(step.life_lost, 1, -1))  # FIRE is action 1 of breakout


def test_a_new_game_with_fewer_lives_than_the_old_one_had_is_no_lost_life() -> None:
    env: Any = envs.make("breakout", 1, time_limit_steps=1)
    env.reset(0)
    env._lives = np.array([9], np.int32)  # as after bonus lives
    step = env.step(np.array([0]))
    assert step.truncated[0] and not step.life_lost[0] and step.forced_action[0] == -1


def test_an_agent_that_never_fires_still_reaches_the_end() -> None:
    env = envs.make("breakout", 1)
    env.reset(0)
    assert any(step.terminated[0] for step in play(env, 400, action=0))


def test_games_without_lives_or_without_fire_force_nothing() -> None:
    pong, pacman = envs.make("pong", 1), envs.make("ms-pacman", 1)
    pong.reset(0)
    pacman.reset(0)
    assert not any(step.life_lost[0] for step in play(pong, 200))
    steps = play(pacman, 500)
    assert any(step.life_lost[0] for step in steps)
    assert all(step.forced_action[0] == -1 for step in steps)
    assert pong.spec.protocol["fire_after_lost_life"] and not pacman.spec.protocol["fire_after_lost_life"]


def test_the_step_that_ends_a_game_shows_its_last_screen_and_the_next_game_s_first(breakout_games: list[Step]) -> None:
    seen = 0
    for before, step, after in zip(breakout_games, breakout_games[1:], breakout_games[2:], strict=False):
        for lane in np.flatnonzero(step.ended):
            seen += 1
            assert np.array_equal(step.final_observation[lane, :3], before.observation[lane, 1:])
            assert step.observation[lane, :3].max() == 0 and step.observation[lane, 3].max() > 0
            # No dummy transition: the next step already plays the new game.
            assert after.observation[lane, :2].max() == 0 and after.observation[lane, 3].max() > 0
            assert np.array_equal(after.observation[lane, 2], step.observation[lane, 3])
    assert seen >= 4


def test_stacks_are_padded_with_zeros_and_shift_by_one_frame() -> None:
    env = envs.make("pong", 2)
    observation = env.reset(0)
    assert observation.shape == (2, 4, 84, 84) and observation.dtype == np.uint8
    assert observation[:, :3].max() == 0 and observation[:, 3].max() > 0
    for number, step in enumerate(play(env, 5)):
        assert np.array_equal(step.observation[:, :3], observation[:, 1:])
        zeros = (step.observation[0].reshape(4, -1).max(1) == 0).sum()
        assert zeros == max(0, 2 - number)
        observation = step.observation


def test_an_observation_is_the_maximum_of_two_screens_shrunk_to_84x84() -> None:
    import ale_py

    env: Any = envs.make("space-invaders", 1)
    env.reset([9])
    console = ale_py.ALEInterface()
    console.setLoggerMode(ale_py.LoggerMode.Error)
    console.setInt("random_seed", 9)
    console.setFloat("repeat_action_probability", 0.0)
    console.loadROM(ale_py.roms.get_rom_path("space_invaders"))  # type: ignore[arg-type]
    console.reset_game()
    console.act(ale_py.Action.FIRE)
    while console.getEpisodeFrameNumber() < env._info["episode_frame_number"][0]:
        console.act(ale_py.Action.NOOP)

    def area(source: int) -> np.ndarray:
        """[84, source] share of each source pixel in each of 84."""
        edges = np.arange(85) * source / 84
        left, right = edges[:-1, None], edges[1:, None]
        pixel = np.arange(source)
        return np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None) * 84 / source

    flickered = 0
    for step in play(env, 60, action=3):
        screens = []
        for _ in range(4):
            console.act(console.getMinimalActionSet()[3])
            screens.append(console.getScreenGrayscale())
        expected = area(210) @ np.maximum(screens[2], screens[3]) @ area(160).T
        assert np.abs(expected - step.observation[0, 3]).max() <= 1.0
        flickered += int((screens[2] > screens[3]).any())
    assert flickered > 0


def test_rewards_and_scores_are_not_clipped() -> None:
    env = envs.make("space-invaders", 2)
    env.reset(0)
    steps = play(env, 500)
    rewards = np.array([step.reward for step in steps])
    assert rewards.max() >= 5.0 and rewards.dtype == np.float32
    lane = int(np.array([step.ended for step in steps]).any(0).argmax())
    end = next(number for number, step in enumerate(steps) if step.ended[lane])
    assert steps[end].score[lane] == rewards[: end + 1, lane].sum()


def test_the_time_limit_truncates_and_does_not_terminate() -> None:
    env = envs.make("pong", 2, time_limit_steps=20)
    env.reset(0)
    steps = play(env, 40)
    for number, step in enumerate(steps, start=1):
        assert not step.terminated.any()
        assert step.truncated.all() == (number % 20 == 0)
    assert steps[19].length.tolist() == [20, 20]
    # An ended lane shows the old game in final_observation and the new one in observation.
    assert np.array_equal(steps[19].final_observation[:, :3], steps[18].observation[:, 1:])
    assert steps[19].observation[:, :3].max() == 0


def test_sticky_actions_change_the_game_and_the_protocol_says_so() -> None:
    games = []
    for sticky in (0.0, 0.25):
        env = envs.make("breakout", 1, sticky=sticky)
        assert env.spec.protocol["sticky_actions"] == sticky
        env.reset(0)
        games.append(np.array([step.observation for step in play(env, 60)]))
    assert not np.array_equal(games[0], games[1])


def test_the_protocol_is_the_classic_one() -> None:
    protocol = envs.make("breakout", 1).spec.protocol
    assert protocol["frames_per_step"] == 4 and protocol["no_op_frames_max"] == 30
    assert protocol["sticky_actions"] == 0.0 and protocol["time_limit_steps"] == 27_000
    assert protocol["fire_on_reset"] and protocol["fire_after_lost_life"]


def test_a_game_starts_after_as_many_idle_frames_as_the_protocol_says() -> None:
    env: Any = envs.make("freeway", 1, time_limit_steps=1)  # a new game with every step
    env.reset(0)
    frames = []
    for _ in range(200):
        env.step(np.array([0]))
        frames.append(int(env._info["episode_frame_number"][0]))
    assert (min(frames), max(frames)) == (0, env.spec.protocol["no_op_frames_max"])


def test_the_colour_picture_is_in_lockstep_with_what_the_agent_sees() -> None:
    image = pytest.importorskip("PIL.Image")
    env: Any = envs.make("breakout", 2, render=True, sticky=0.25)
    env.reset(3)
    ends = 0
    for number in range(500):
        step = play(env, 1, seed=number)[0]
        reward, terminated, truncated = env._colour_result
        assert np.array_equal(reward, step.reward)
        assert np.array_equal(terminated, step.terminated) and np.array_equal(truncated, step.truncated)
        for name in ("lives", "frame_number", "episode_frame_number"):
            assert np.array_equal(env._info[name], env._colour_info[name])
        ends += int(step.ended.sum())
        if number % 25 == 0 or step.ended.any():
            for lane in range(2):
                picture = env.render(lane)
                assert picture.shape == (210, 160, 3)
                small = np.asarray(image.fromarray(picture).convert("L").resize((84, 84), image.Resampling.BOX))
                assert np.abs(small.astype(int) - step.observation[lane, 3]).mean() < 2.0
    assert ends >= 2


def test_a_picture_has_the_console_s_own_size_and_needs_render() -> None:
    env = envs.make("pacman", 1, render=True)
    env.reset(0)
    assert env.render().shape == (250, 160, 3)
    with pytest.raises(EnvError, match="render=True"):
        envs.make("pong", 1).render()


def test_lanes_play_different_games_and_a_lane_follows_its_own_seed() -> None:
    env = envs.make("breakout", 3)
    env.reset([5, 6, 5])
    observation = play(env, 30, action=2)[-1].observation
    assert np.array_equal(observation[0], observation[2]) and not np.array_equal(observation[0], observation[1])
    env.reset(5)
    observation = play(env, 30, action=2)[-1].observation
    assert not np.array_equal(observation[0], observation[2])


def test_a_saved_state_starts_new_games_the_same_ones_each_time() -> None:
    env, other = envs.make("breakout", 2), envs.make("breakout", 2)
    env.reset(0)
    games = [play(env, 40, action=2)[-1].observation]
    state = env.state_dict()
    for one in (env, other):
        assert one.load_state_dict(state)[:, :3].max() == 0
        games.append(play(one, 40, action=2)[-1].observation)
    env.load_state_dict(state)
    env.load_state_dict(env.state_dict())  # a second restore starts games of its own
    games.append(play(env, 40, action=2)[-1].observation)
    assert np.array_equal(games[1], games[2])
    for left, right in ((0, 1), (1, 3), (0, 3)):
        assert not np.array_equal(games[left], games[right])
    with pytest.raises(EnvError, match="num_envs=2"):
        envs.make("breakout", 1).load_state_dict(state)


def test_an_action_that_does_not_exist_is_refused_and_does_not_hang() -> None:
    env = envs.make("pong", 2)
    env.reset(0)
    for actions in ([0, 6], [0, -1], [0]):
        with pytest.raises(EnvError, match="0 to 5"):
            env.step(np.array(actions))
    env.step(np.array([0, 5]))


def test_sending_and_receiving_take_turns() -> None:
    env = envs.make("pong", 1)
    with pytest.raises(RuntimeError, match="reset"):
        env.send(np.array([0]))
    env.reset(0)
    with pytest.raises(RuntimeError, match="send"):
        env.recv()
    env.send(np.array([0]))
    with pytest.raises(RuntimeError, match="recv"):
        env.send(np.array([0]))
    env.close()  # with a step in flight


@pytest.mark.parametrize("option", [{"sticky": 1.0}, {"sticky": -0.1}, {"num_threads": -1}, {"time_limit_steps": 0}])
def test_option_values_that_cannot_be_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        envs.make("pong", 1, **option)


CARTRIDGES = [one for one in envs.ENVS.describe_all() if one.target == "envs.atari:atari"]
SOME = [one for number, one in enumerate(CARTRIDGES) if number % 10 == 0]


@pytest.mark.parametrize("cartridges", [SOME, pytest.param(CARTRIDGES, marks=pytest.mark.slow)], ids=["some", "all"])
def test_cartridges_play(cartridges: list[Description]) -> None:
    for one in cartridges:
        if "two players" in one.summary:
            continue
        env = envs.make(one.name, 1)
        first = env.reset(0)
        step = env.step(np.array([env.spec.num_actions - 1]))
        assert np.array_equal(step.observation[0, 2], first[0, 3])
        env.close()


def test_a_cartridge_for_two_players_says_so() -> None:
    said = {one.name for one in CARTRIDGES if "two players" in one.summary}
    assert said == {"combat", "joust", "maze-craze", "warlords"}
    for name in said:
        with pytest.raises(EnvError, match="two players"):
            envs.make(name, 1)


def test_the_published_scores_are_those_of_the_57_games() -> None:
    assert len(SCORES) == 57 and set(SCORES) <= set(envs.ENVS.names())
    assert SCORES["breakout"] == (1.7, 30.5) and SCORES["pong"] == (-20.7, 14.6)
    assert SCORES["montezuma-revenge"] == (0.0, 4753.3)
    spec = envs.make("breakout", 1).spec
    assert (spec.random_score, spec.human_score) == (1.7, 30.5) and "Agent57" in spec.score_source
    assert envs.make("air-raid", 1).spec.random_score is None
