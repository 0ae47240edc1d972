"""Fixtures that several test modules share."""

from kinds import kind, observed

__all__ = ["kind", "observed"]
