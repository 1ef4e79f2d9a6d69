"""Conformance checks that anyone who adds something to aprendiz can run on it, inside a test of their own."""

from __future__ import annotations

from aprendiz.testing.agent import check_agent
from aprendiz.testing.dataset import check_dataset
from aprendiz.testing.env import check_env
from aprendiz.testing.model import check_generative_model

__all__ = ["check_agent", "check_dataset", "check_env", "check_generative_model"]
