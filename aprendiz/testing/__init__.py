"""Conformance checks that anyone who adds something to aprendiz can run on it, inside a test of their own."""

from __future__ import annotations

from aprendiz.testing.agent import check_agent
from aprendiz.testing.dataset import check_dataset
from aprendiz.testing.env import check_env
from aprendiz.testing.language import check_language_model
from aprendiz.testing.model import check_generative_model
from aprendiz.testing.text import check_text

__all__ = ["check_agent", "check_dataset", "check_env", "check_generative_model", "check_language_model", "check_text"]
