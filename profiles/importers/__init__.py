"""Readers of public profile formats: one module a format, each giving a Profile."""
