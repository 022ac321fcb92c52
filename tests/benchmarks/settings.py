"""The project's own settings, with one more path to measure against and no throttle in the way."""

from controlplane.settings import *  # noqa: F403 - the environment is the benchmark's own

ROOT_URLCONF = "tests.benchmarks.urls"
API_THROTTLE = {"caller": (1e9, 1e9), "stranger": (1e9, 1e9)}  # asked all the same, each time
