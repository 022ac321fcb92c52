"""Benchmarks: `python -m tests.benchmarks [redis] [routes] [python] [http]`, or `make bench`.

Each figure stands beside a yardstick of the same run (an empty script, an empty view, a bare app),
and is the median of short runs taken in turns: machines differ and are busy with other things, so
only the ratios mean something. Not collected by pytest.
"""
