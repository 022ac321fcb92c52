"""Log lines: one JSON object each where machines read them, and plain tracebacks for people."""

import io
import json
import logging
import logging.config

import pytest
import structlog

from controlplane.logs import logging_config


@pytest.fixture
def lines(request):
    """Log in the format named by the parameter; return where the lines go."""
    config = logging_config(request.param, "info")
    stream = io.StringIO()
    config["handlers"]["stderr"]["stream"] = stream
    config["root"]["handlers"] = []
    config["loggers"] = {"under_test": {"handlers": ["stderr"], "propagate": False}}
    logging.config.dictConfig({**config, "incremental": False})
    return stream


def fail_with_a_local() -> None:
    """Raise, with a local variable that no log should show."""
    secret_local = "hunter2"
    raise RuntimeError(f"of {len(secret_local)} letters")


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_a_json_line_is_one_object_with_its_facts(lines):
    logging.getLogger("under_test").setLevel("INFO")
    structlog.get_logger("under_test").info("child_fell", exit_code=-9)

    line = json.loads(lines.getvalue())
    assert (line["event"], line["exit_code"], line["level"]) == ("child_fell", -9, "info")
    assert {"timestamp", "logger"} <= line.keys()


@pytest.mark.parametrize("lines", ["json", "console"], indirect=True)
def test_a_traceback_shows_no_local_variables(lines):
    try:
        fail_with_a_local()
    except RuntimeError:
        logging.getLogger("under_test").exception("it failed")

    assert "RuntimeError: of 7 letters" in lines.getvalue()
    assert "hunter2" not in lines.getvalue().replace('secret_local = "hunter2"', "")
