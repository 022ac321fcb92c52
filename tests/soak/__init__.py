"""A soak: the production topology under mixed traffic for a quarter of an hour, and the verdict.

`python -m tests.soak` (or `make soak`) starts PostgreSQL, Redis with a replica under three
Sentinels, two web processes, two pumps and a Slack of its own, has agents, pages, feeds and an
operator at work on them, and ends with PASS, or with FAIL and what was broken.
"""
