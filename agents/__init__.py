"""Agents by name: `AGENTS.get("dqn")`. One algorithm a file; `python -m agents.train --list` shows them all."""

from __future__ import annotations

from aprendiz.registry import Entry, Registry

__all__ = ["AGENTS"]

AGENTS = Registry(
    "agents",
    {
        "dqn": Entry(
            "agents.dqn:DQN",
            "deep Q-network: experience replay, target network, Huber loss",
            "Mnih et al. 2015, Nature 518:529",
        ),
        "double-dqn": Entry(
            "agents.double_dqn:DoubleDQN",
            "DQN with the next action chosen by one network and judged by the other",
            "van Hasselt et al. 2016, AAAI",
        ),
        "dueling-dqn": Entry(
            "agents.dueling_dqn:DuelingDQN",
            "DQN with separate streams for the state's value and the actions' advantages",
            "Wang et al. 2016, ICML",
        ),
        "prioritized-dqn": Entry(
            "agents.prioritized_dqn:PrioritizedDQN",
            "DQN that replays what it was most wrong about",
            "Schaul et al. 2016, ICLR",
        ),
        "n-step-dqn": Entry(
            "agents.n_step_dqn:NStepDQN", "DQN with returns over several steps", "Sutton 1988; Hessel et al. 2018"
        ),
        "noisy-dqn": Entry(
            "agents.noisy_dqn:NoisyDQN",
            "DQN that explores by noise in its layers, whose size it learns",
            "Fortunato et al. 2018, ICLR",
        ),
        "c51": Entry(
            "agents.c51:C51",
            "a categorical distribution of the return over 51 atoms",
            "Bellemare et al. 2017, ICML",
        ),
        "qr-dqn": Entry(
            "agents.qr_dqn:QRDQN", "quantiles of the return by quantile regression", "Dabney et al. 2018, AAAI"
        ),
        "iqn": Entry(
            "agents.iqn:IQN", "implicit quantile network: any quantile, drawn anew", "Dabney et al. 2018b, ICML"
        ),
        "munchausen-dqn": Entry(
            "agents.munchausen_dqn:MunchausenDQN",
            "DQN rewarded for the logarithm of its own policy, with a soft target",
            "Vieillard et al. 2020, NeurIPS",
        ),
        "rainbow": Entry(
            "agents.rainbow:Rainbow",
            "double, dueling, prioritised, 3-step, noisy and categorical together",
            "Hessel et al. 2018, AAAI",
        ),
        "btr": Entry(
            "agents.btr:BTR",
            "Beyond the Rainbow: implicit quantiles, Munchausen, a wide residual network",
            "Clark et al. 2024, arXiv:2411.03820",
        ),
        "drqn": Entry(
            "agents.drqn:DRQN",
            "DQN with a recurrent layer: one frame at a time, what was seen is remembered",
            "Hausknecht and Stone 2015, AAAI Fall Symposium",
        ),
        "pqn": Entry(
            "agents.pqn:PQN",
            "Q(lambda) in many games at once: no replay, no target network, layer normalisation",
            "Gallici et al. 2024, arXiv:2407.04811",
        ),
        "double-q-learning": Entry(
            "agents.double_q_learning:DoubleQLearning",
            "tabular Q-learning with two tables: one chooses, the other judges",
            "van Hasselt 2010, NIPS",
        ),
        "expected-sarsa": Entry(
            "agents.expected_sarsa:ExpectedSarsa",
            "tabular Sarsa with the mean over next actions",
            "van Seijen et al. 2009, ADPRL",
        ),
        "q-lambda": Entry(
            "agents.q_lambda:QLambda",
            "tabular Q-learning with eligibility traces, cut where it explores",
            "Watkins 1989, PhD thesis, Cambridge",
        ),
        "q-learning": Entry(
            "agents.q_learning:QLearning",
            "tabular Q-learning, step size decaying with visits",
            "Watkins and Dayan 1992, Machine Learning 8:279",
        ),
        "sarsa": Entry(
            "agents.sarsa:Sarsa",
            "tabular, on-policy: the value of what is really done",
            "Rummery and Niranjan 1994, CUED/F-INFENG/TR 166",
        ),
        "sb3-a2c": Entry(
            "agents.sb3_a2c:SB3A2C", "A2C of Stable-Baselines3", "Mnih et al. 2016; Raffin et al. 2021, JMLR 22:268"
        ),
        "sb3-dqn": Entry(
            "agents.sb3_dqn:SB3DQN", "DQN of Stable-Baselines3", "Mnih et al. 2015; Raffin et al. 2021, JMLR 22:268"
        ),
        "sb3-ppo": Entry(
            "agents.sb3_ppo:SB3PPO", "PPO of Stable-Baselines3", "Schulman et al. 2017; Raffin et al. 2021, JMLR 22:268"
        ),
        "sb3-qrdqn": Entry(
            "agents.sb3_qrdqn:SB3QRDQN",
            "QR-DQN of sb3-contrib (an extra)",
            "Dabney et al. 2018; Raffin et al. 2021, JMLR 22:268",
        ),
        "sb3-sac": Entry(
            "agents.sb3_sac:SB3SAC",
            "SAC of Stable-Baselines3, for continuous actions",
            "Haarnoja et al. 2018; Raffin et al. 2021, JMLR 22:268",
        ),
    },
)
"""A name stands for a subclass of `agents.core.Agent`."""
