"""Voltfold: an event-sourced processor for electric-vehicle charging sessions."""

from __future__ import annotations

__version__ = "0.1.0"
