"""Profiles for what was never measured."""
