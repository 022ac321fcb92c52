"""The settings under test: the project's own, in an environment that holds nothing of the machine.

Every run has its own VAR_DIR, and so its own Redis server and SQLite file; conftest.py starts the
one and removes them all. Optional legs: TEST_DATABASE_URL and TEST_REDIS_URL.
"""

import os
import tempfile

from controlplane.env import VARIABLES

TEST_DATABASE_URL = os.environ.get("TEST_DATABASE_URL", "")
TEST_REDIS_URL = os.environ.get("TEST_REDIS_URL", "")

for variable in VARIABLES:
    os.environ.pop(variable, None)
    os.environ.pop(f"{variable}_FILE", None)

os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="stt-test-")
os.environ["SECRET_KEY"] = "a-key-for-tests-only-that-is-long-enough-to-please-the-checks"
os.environ["PUBLIC_URL"] = "http://testserver"
os.environ["LOG_LEVEL"] = "warning"
os.environ["FALLBACK_NAMESPACE"] = "test"
if TEST_DATABASE_URL:
    os.environ["DATABASE_URL"] = TEST_DATABASE_URL
if TEST_REDIS_URL:
    os.environ["REDIS_URL"] = TEST_REDIS_URL

from controlplane.settings import *  # noqa: E402, F403 - read once the environment is as above
from controlplane.settings import CACHES, DATABASES, VAR_DIR  # noqa: E402

if not TEST_DATABASE_URL:
    # A file, not memory: threads and child processes must see the same database.
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}

# A busy test machine stalls longer than a decision may wait; tests of slowness set their own.
CACHES["breaker"]["OPTIONS"]["CONNECTION_POOL_KWARGS"]["socket_timeout"] = 2.0

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
