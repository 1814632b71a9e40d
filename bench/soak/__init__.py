"""Kills jobs and workers at random, a thousand times, and checks that every promise is kept."""
