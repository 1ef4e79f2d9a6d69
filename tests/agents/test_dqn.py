"""DQN: targets by hand, one update against NumPy, schedules and periods, exact saving, precision, presets."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor, nn

from agents.core import Purpose, derived_seed, epsilon_greedy
from agents.dqn import DQN, DQNConfig, QNetwork, td_target
from aprendiz import checkpoint
from aprendiz.backbones import MLP, NatureCNN
from aprendiz.device import CapturedStep
from aprendiz.errors import ConfigError
from aprendiz.optim import adam, linear_schedule, load_optimizer_state
from aprendiz.replay import Batch
from envs.core import EnvSpec

VECTOR = Box(-1.0, 1.0, (4,), np.float32)
IMAGE = Box(0, 255, (4, 44, 44), np.uint8)
ACTIONS = 3


def make_agent(
    space: Any = VECTOR, *, seed: int = 0, device: str = "cpu", precision: str = "fp32", **changes: Any
) -> DQN:
    backbone = "nature-cnn" if space is IMAGE else "mlp"
    config = DQNConfig(**{"backbone": backbone, "exploration_env_steps": 100, "warmup_env_steps": 0, **changes})
    return DQN(config, space, Discrete(ACTIONS), seed=seed, device=device, precision=precision)


def make_batch(space: Any = VECTOR, *, seed: int = 0, size: int = 16, env_steps: int = 0, device: str = "cpu") -> Batch:
    generator = np.random.default_rng(seed)

    def observations() -> Tensor:
        if isinstance(space, Discrete):
            return torch.from_numpy(generator.integers(0, space.n, size)).to(device)
        if space.dtype == np.uint8:
            return torch.from_numpy(generator.integers(0, 256, (size, *space.shape), dtype=np.uint8)).to(device)
        return torch.from_numpy(generator.standard_normal((size, *space.shape), dtype=np.float32)).to(device)

    return Batch(
        observation=observations(),
        action=torch.from_numpy(generator.integers(0, ACTIONS, size)).to(device),
        reward=torch.from_numpy(generator.standard_normal(size, dtype=np.float32) * 2).to(device),
        discount=torch.from_numpy(np.where(generator.random(size) < 0.3, 0.0, 0.9).astype(np.float32)).to(device),
        next_observation=observations(),
        env_steps=env_steps,
    )


def parameters(agent: DQN) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in agent.online.state_dict().items()}


def assert_equal_agents(left: DQN, right: DQN) -> None:
    for network in ("online", "target"):
        ours, theirs = left.modules()[network].state_dict(), right.modules()[network].state_dict()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), f"{network} {name}"


# The target and one update


def test_targets_by_hand() -> None:
    target = td_target(
        reward=torch.tensor([1.0, 1.0, -2.0]),
        discount=torch.tensor([0.9, 0.0, 0.5]),
        next_value=torch.tensor([[1.0, 3.0], [100.0, 7.0], [-4.0, -2.0]]).max(dim=1).values,
    )
    assert target.tolist() == pytest.approx([1 + 0.9 * 3, 1.0, -2 + 0.5 * -2])


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_one_update_equals_numpy(loss: str) -> None:
    epsilon, learning_rate = 1e-2, 1e-3
    agent = make_agent(loss=loss, optimizer_epsilon=epsilon, learning_rate=learning_rate)
    with torch.no_grad():  # so that the two networks can be told apart
        for parameter in agent.target.parameters():
            parameter += 0.05
    before, batch = parameters(agent), make_batch()
    target_network = {name: tensor.numpy() for name, tensor in agent.target.state_dict().items()}
    expected_loss, gradient = gradient_by_hand(before, target_network, batch, loss)
    outcome = agent.update(batch)
    assert float(outcome.metrics["loss"]) == pytest.approx(expected_loss, rel=1e-5)
    for name, after in parameters(agent).items():
        # Adam's first step, after its bias correction
        step = learning_rate * gradient[name] / (np.abs(gradient[name]) + epsilon)
        np.testing.assert_allclose(after, before[name] - step, rtol=1e-4, atol=1e-7, err_msg=name)


def gradient_by_hand(
    online: dict[str, np.ndarray], target: dict[str, np.ndarray], batch: Batch, loss: str
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and its gradient for two hidden layers with rectifiers, in double precision."""
    layers = ["backbone.layers.0", "backbone.layers.2", "head"]

    def forward(network: dict[str, np.ndarray], x: np.ndarray) -> list[np.ndarray]:
        activations = [x.astype(np.float64)]
        for layer in layers:
            x = activations[-1] @ network[f"{layer}.weight"].T.astype(np.float64) + network[f"{layer}.bias"]
            activations.append(x if layer == "head" else np.maximum(x, 0.0))
        return activations

    rows, action = np.arange(len(batch.action)), batch.action.numpy()
    best = forward(target, batch.next_observation.numpy())[-1].max(axis=1)
    y = batch.reward.numpy() + batch.discount.numpy() * best
    activations = forward(online, batch.observation.numpy())
    error = activations[-1][rows, action] - y
    assert (np.abs(error) > 1).any() and (np.abs(error) < 1).any()
    if loss == "mse":
        value, slope = (error**2).mean(), 2 * error / len(error)
    else:
        small = np.abs(error) < 1
        value = np.where(small, 0.5 * error**2, np.abs(error) - 0.5).mean()
        slope = np.where(small, error, np.sign(error)) / len(error)
    backward = np.zeros_like(activations[-1])
    backward[rows, action] = slope
    gradient: dict[str, np.ndarray] = {}
    for index in reversed(range(3)):
        layer = layers[index]
        gradient[f"{layer}.weight"] = backward.T @ activations[index]
        gradient[f"{layer}.bias"] = backward.sum(axis=0)
        backward = (backward @ online[f"{layer}.weight"]) * (activations[index] > 0)
    return float(value), gradient


def test_an_update_learns_nothing_about_the_target_network() -> None:
    agent = make_agent()
    before = copy.deepcopy(agent.target.state_dict())
    for seed in range(5):
        agent.update(make_batch(seed=seed))
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.target.state_dict().items())
    assert all(parameter.grad is None for parameter in agent.target.parameters())


def test_metrics_stay_tensors() -> None:
    metrics = make_agent().update(make_batch()).metrics
    assert set(metrics) == {"loss", "q_mean", "target_mean"}
    assert all(isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad for value in metrics.values())


def test_repeated_updates_reach_their_targets() -> None:
    agent = make_agent(learning_rate=1e-2)
    batch = make_batch()
    batch.discount.zero_()
    for _ in range(300):
        agent.update(batch)
    q_values = agent.online(batch.observation).gather(1, batch.action[:, None]).squeeze(1)
    torch.testing.assert_close(q_values, batch.reward, atol=0.05, rtol=0.05)


# Periods and schedules


def target_changes(agent: DQN, env_steps: list[int]) -> list[int]:
    """At which of these the target network became the online one."""
    changes = []
    for seed, at in enumerate(env_steps):
        before = copy.deepcopy(agent.target.state_dict())
        agent.update(make_batch(seed=seed, env_steps=at))
        after = agent.target.state_dict()
        if any(not torch.equal(before[name], after[name]) for name in before):
            changes.append(at)
            assert all(torch.equal(after[name], tensor) for name, tensor in agent.online.state_dict().items())
    return changes


def test_the_target_follows_in_environment_steps() -> None:
    agent = make_agent(target_period_env_steps=10)
    assert target_changes(agent, list(range(4, 45, 4))) == [12, 20, 32, 40]


def test_multiples_of_the_target_period_that_are_jumped_over_count() -> None:
    agent = make_agent(target_period_env_steps=10)  # seven environments: 14, 21, ... never a multiple but 70
    assert target_changes(agent, list(range(7, 72, 7))) == [14, 21, 35, 42, 56, 63, 70]


def test_several_updates_in_one_step_copy_once() -> None:
    agent = make_agent(target_period_env_steps=10)
    assert target_changes(agent, [8, 8, 16, 16, 16, 24]) == [16, 24]


def test_exploration_falls_with_environment_steps() -> None:
    agent = make_agent(exploration_start=1.0, exploration_end=0.1, exploration_env_steps=1000)
    assert [agent.exploration(at) for at in (0, 500, 1000, 10**9)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_a_schedule_of_no_length_is_at_its_end() -> None:
    assert linear_schedule(1.0, 0.1, 0, 0) == 0.1


@pytest.mark.parametrize(
    ("budget", "warmup", "exploration"), [(10_000_000, 80_000, 1_000_000), (50_000, 1_000, 5_000), (100, 2, 10)]
)
def test_a_small_budget_shrinks_warmup_and_exploration(budget: int, warmup: int, exploration: int) -> None:
    resolved = DQN.resolve(DQNConfig(), budget)
    assert (resolved.warmup_env_steps, resolved.exploration_env_steps) == (warmup, exploration)
    assert DQN.resolve(resolved, 7) == resolved  # once resolved, an extension moves nothing


def test_explicit_numbers_stay_whatever_the_budget() -> None:
    config = DQNConfig(warmup_env_steps=0, exploration_env_steps=123_456)
    assert DQN.resolve(config, 1000) == config


# Acting


def test_one_coin_an_environment() -> None:
    actions = epsilon_greedy(lambda: np.full(10_000, 7), 10_000, 4, 0.3, np.random.default_rng(0))
    assert (actions != 7).mean() == pytest.approx(0.3, abs=0.02)
    assert np.bincount(actions[actions != 7]) == pytest.approx(np.full(4, 750), abs=120)


@pytest.mark.parametrize(("explore", "greedy_share"), [(0.0, 1.0), (1.0, 0.0)])
def test_always_and_never(explore: float, greedy_share: float) -> None:
    actions = epsilon_greedy(lambda: np.full(50, 7), 50, 4, explore, np.random.default_rng(0))
    assert (actions == 7).mean() == greedy_share


def test_what_is_drawn_does_not_depend_on_how_much_is_explored() -> None:
    following = []
    for explore in (0.0, 0.1, 0.5, 1.0):
        generator = np.random.default_rng(0)
        epsilon_greedy(lambda: np.zeros(3, np.int64), 3, 4, explore, generator)
        following.append(generator.random())
    assert len(set(following)) == 1


def test_the_greedy_action_has_the_highest_value() -> None:
    agent = make_agent()
    observations = 20 * make_batch(size=64).observation.numpy()  # far enough apart to want different actions
    q_values = agent.inspect(observations)["q_values"]
    assert q_values.shape == (64, ACTIONS) and q_values.dtype == np.float32
    actions = agent.act(observations, 0.0, np.random.default_rng(0))
    assert actions.dtype == np.int64
    np.testing.assert_array_equal(actions, q_values.argmax(axis=1))
    assert len(set(actions.tolist())) > 1


# Networks


def nature_by_hand(network: NatureCNN, image: Tensor) -> Tensor:
    """Mnih et al. (2015): 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, 512; pixels from 0 to 1."""
    hidden = F.relu(F.conv2d(image, network.conv1.weight, network.conv1.bias, stride=4))
    hidden = F.relu(F.conv2d(hidden, network.conv2.weight, network.conv2.bias, stride=2))
    hidden = F.relu(F.conv2d(hidden, network.conv3.weight, network.conv3.bias, stride=1))
    return F.relu(F.linear(hidden.flatten(1), network.dense.weight, network.dense.bias))


@pytest.mark.parametrize("picture", ["white", "noise"])
def test_pixels_are_divided_by_255_once(picture: str) -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (2, *IMAGE.shape), dtype=torch.uint8)
    if picture == "white":
        image.fill_(255)
    network = NatureCNN(IMAGE)
    torch.testing.assert_close(network(image), nature_by_hand(network, image.float() / 255), rtol=1e-4, atol=1e-5)
    mlp = MLP(IMAGE)
    by_hand = mlp.layers(image.flatten(1).float() / 255)
    torch.testing.assert_close(mlp(image), by_hand, rtol=1e-4, atol=1e-5)


def test_the_first_layer_learns_as_if_pixels_were_scaled() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (2, *IMAGE.shape), dtype=torch.uint8)
    network = NatureCNN(IMAGE)
    ours = torch.autograd.grad(network(image).sum(), network.conv1.weight)[0]
    by_hand = torch.autograd.grad(nature_by_hand(network, image.float() / 255).sum(), network.conv1.weight)[0]
    torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=1e-4)


def test_atari_network_has_the_size_of_the_paper() -> None:
    network = QNetwork("nature-cnn", Box(0, 255, (4, 84, 84), np.uint8), 4)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "backbone.conv1.weight": (32, 4, 8, 8),
        "backbone.conv2.weight": (64, 32, 4, 4),
        "backbone.conv3.weight": (64, 64, 3, 3),
        "backbone.dense.weight": (512, 64 * 7 * 7),
        "head.weight": (4, 512),
    }


def test_vectors_are_not_scaled_and_states_are_one_hot() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(5, 4)
    mlp = MLP(VECTOR)
    torch.testing.assert_close(mlp(vectors), mlp.layers(vectors))
    states = MLP(Discrete(6))
    torch.testing.assert_close(states(torch.tensor([2, 5])), states.layers(torch.eye(6)[[2, 5]]))


@pytest.mark.parametrize(
    ("backbone", "space", "message"),
    [
        (NatureCNN, VECTOR, "--backbone mlp"),
        (NatureCNN, Box(0, 255, (4, 20, 20), np.uint8), "at least 36x36"),
        (NatureCNN, Box(0.0, 1.0, (4, 84, 84), np.float32), "uint8"),
        (MLP, MultiDiscrete([2, 2]), "Box and Discrete"),
    ],
)
def test_a_space_that_a_backbone_cannot_read_is_refused(backbone: Any, space: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backbone(space)


def test_actions_must_be_discrete() -> None:
    with pytest.raises(ConfigError, match="Discrete"):
        DQN(DQNConfig(backbone="mlp"), VECTOR, Box(-1, 1, (2,)), seed=0)


@pytest.mark.parametrize("space", [VECTOR, IMAGE], ids=["vector", "image"])
def test_bfloat16_is_close_to_float32(space: Any) -> None:
    exact, mixed = (make_agent(space, precision=precision) for precision in ("fp32", "bf16"))
    observations = make_batch(space).observation.numpy()
    q_exact, q_mixed = (agent.inspect(observations)["q_values"] for agent in (exact, mixed))
    assert q_mixed.dtype == np.float32 and (q_exact != q_mixed).any()
    np.testing.assert_allclose(q_mixed, q_exact, atol=0.02 * np.abs(q_exact).max() + 1e-3)
    losses = [float(agent.update(make_batch(space)).metrics["loss"]) for agent in (exact, mixed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in mixed.online.parameters())


# Seeds, saving


def test_one_seed_one_agent() -> None:
    assert_equal_agents(make_agent(seed=3), make_agent(seed=3))
    assert not torch.equal(make_agent(seed=3).online.head.weight, make_agent(seed=4).online.head.weight)


def test_the_target_network_starts_as_the_online_one() -> None:
    agent = make_agent()
    assert all(torch.equal(agent.online.state_dict()[name], t) for name, t in agent.target.state_dict().items())


def test_making_an_agent_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_agent(seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_each_purpose_has_its_own_seed() -> None:
    seeds = {derived_seed(seed, purpose) for seed in range(50) for purpose in Purpose}
    assert len(seeds) == 50 * len(Purpose) and all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("space", [VECTOR, IMAGE, Discrete(6)], ids=["vector", "image", "discrete"])
def test_a_saved_agent_goes_on_exactly(tmp_path: Path, space: Any, optimizer: str) -> None:
    agent = make_agent(space, optimizer=optimizer, target_period_env_steps=10)
    for number in range(4):
        agent.update(make_batch(space, seed=number, env_steps=4 * number))
    checkpoint.save(tmp_path / "saved", agent.state_dict())
    resumed = make_agent(space, seed=99, optimizer=optimizer, target_period_env_steps=10)
    resumed.load_state_dict(checkpoint.load(tmp_path / "saved"))
    assert_equal_agents(agent, resumed)
    for number in range(4, 8):
        for one in (agent, resumed):
            one.update(make_batch(space, seed=number, env_steps=4 * number))
        assert_equal_agents(agent, resumed)


def test_a_loaded_state_shares_no_memory() -> None:
    agent, copied, other = make_agent(), make_agent(), make_agent(seed=1)
    for one in (agent, copied):
        one.update(make_batch())
    other.load_state_dict(agent.state_dict())
    other.update(make_batch(seed=7))
    for one in (agent, copied):
        one.update(make_batch(seed=1))
    assert_equal_agents(agent, copied)


def test_moments_are_laid_out_as_their_parameters() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    optimizer = adam([weight], 1e-3, 1e-8, torch.device("cpu"))
    (weight**2).sum().backward()
    optimizer.step()
    saved = {"0": {name: tensor.contiguous() for name, tensor in optimizer.state_dict()["state"][0].items()}}
    load_optimizer_state(optimizer, saved)
    moment = optimizer.state[weight]["exp_avg"]
    assert moment.stride() == weight.stride() and torch.equal(moment, saved["0"]["exp_avg"])


# Hyperparameters


def spec(kind: str, space: Any) -> EnvSpec:
    return EnvSpec(
        name="any",
        observation_kind=kind,
        observation_space=space,
        action_space=Discrete(ACTIONS),
        default_env_steps=1000,
    )


KINDS = {"image": IMAGE, "vector": VECTOR, "discrete": Discrete(6)}


def test_every_kind_of_environment_has_every_preset() -> None:
    names = {kind: list(DQN.presets(spec(kind, space))) for kind, space in KINDS.items()}
    assert names["image"] == names["vector"] == names["discrete"]
    assert names["image"][0] == "default" and {"fast", "paper"} <= set(names["image"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_preset_makes_an_agent_that_learns(kind: str) -> None:
    for config in DQN.presets(spec(kind, KINDS[kind])).values():
        agent = DQN(DQN.resolve(config, 1000), KINDS[kind], Discrete(ACTIONS), seed=0)
        assert np.isfinite(float(agent.update(make_batch(KINDS[kind])).metrics["loss"]))


def test_small_images_get_a_network_that_reads_them() -> None:
    tiny = Box(0, 255, (1, 10, 10), np.uint8)
    for config in DQN.presets(spec("image", tiny)).values():
        DQN(config, tiny, Discrete(ACTIONS), seed=0)


def test_atari_defaults_are_those_of_cleanrl() -> None:
    config = DQN.resolve(DQN.presets(spec("image", IMAGE))["default"], 10_000_000)
    values = dataclasses.asdict(config)
    expected = {
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "optimizer_epsilon": 1e-8,
        "batch_size": 32,
        "replay_capacity": 1_000_000,
        "discount": 0.99,
        "train_period_env_steps": 4,
        "target_period_env_steps": 1_000,
        "warmup_env_steps": 80_000,
        "exploration_start": 1.0,
        "exploration_end": 0.01,
        "exploration_env_steps": 1_000_000,
        "clip_rewards": True,
    }
    assert {name: values[name] for name in expected} == expected


def test_the_optimiser_gets_its_numbers() -> None:
    adam_group = make_agent(learning_rate=3e-4, optimizer_epsilon=1e-5).optimizer.param_groups[0]
    assert (adam_group["lr"], adam_group["eps"], adam_group["betas"]) == (3e-4, 1e-5, (0.9, 0.999))
    paper = DQN.presets(spec("vector", VECTOR))["paper"]
    group = DQN(paper, VECTOR, Discrete(ACTIONS), seed=0).optimizer.param_groups[0]
    assert (group["lr"], group["alpha"], group["eps"], group["centered"]) == (2.5e-4, 0.95, 0.1 / 32, True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_envs": 0},
        {"n_step": 0},
        {"batch_size": -1},
        {"train_period_env_steps": 0},
        {"target_period_env_steps": 0},
        {"warmup_env_steps": -5},
        {"exploration_env_steps": -1},
        {"discount": 1.5},
        {"exploration_end": -0.1},
        {"learning_rate": 0.0},
        {"optimizer_epsilon": float("inf")},
        {"replay_capacity": 16, "batch_size": 32},
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigError) as error:
        DQNConfig(**wrong)
    assert name in str(error.value) and str(value) in str(error.value) and "\n" not in str(error.value)


# CUDA graphs

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("space", [VECTOR, IMAGE], ids=["vector", "image"])
def test_captured_updates_equal_eager_ones(space: Any, precision: str, optimizer: str) -> None:
    captured, eager = (
        make_agent(space, device="cuda", precision=precision, optimizer=optimizer, target_period_env_steps=10)
        for _ in range(2)
    )
    eager._captured = eager._gradient_step  # type: ignore[assignment]
    for number in range(6):
        batch = make_batch(space, seed=number, env_steps=4 * number, device="cuda")
        ours, theirs = captured.update(batch).metrics, eager.update(batch).metrics
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
    for network in ("online", "target"):
        theirs = eager.modules()[network].state_dict()
        for name, tensor in captured.modules()[network].state_dict().items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


@needs_cuda
def test_capturing_costs_no_step() -> None:
    weight = torch.ones(3, device="cuda")

    def step(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        weight.add_(inputs["x"])
        return {"sum": weight.sum()}

    captured = CapturedStep(step, {"x": torch.ones(3, device="cuda")}, lambda: [weight])
    assert weight.tolist() == [1.0, 1.0, 1.0]
    sums = [captured({"x": torch.full((3,), float(x), device="cuda")})["sum"].item() for x in (1, 10)]
    assert sums == [6.0, 36.0]


@needs_cuda
def test_a_saved_agent_goes_on_exactly_on_a_gpu(tmp_path: Path) -> None:
    agent = make_agent(IMAGE, device="cuda")
    for number in range(3):
        agent.update(make_batch(IMAGE, seed=number, device="cuda"))
    checkpoint.save(tmp_path / "saved", agent.state_dict())
    resumed = make_agent(IMAGE, seed=99, device="cuda")
    resumed.load_state_dict(checkpoint.load(tmp_path / "saved"))
    for number in range(3, 6):
        for one in (agent, resumed):
            one.update(make_batch(IMAGE, seed=number, device="cuda"))
    for name, tensor in agent.online.state_dict().items():
        torch.testing.assert_close(tensor, resumed.online.state_dict()[name], rtol=1e-3, atol=1e-5)
