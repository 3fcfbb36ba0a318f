"""Benchmarks: `python -m tools.bench NAME`, from the top of the checkout. One file each."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The top of the checkout."""
