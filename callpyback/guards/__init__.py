"""Observers that steer: they refuse a call or answer it before its body runs."""
