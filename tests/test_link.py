"""Nobody waits twice for a Redis that is away, and everybody hears at once that it is back."""

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from fallback import deadline
from fallback.breaker import Breakers, link
from fallback.breaker.link import FIRST_PAUSE_S, LONGEST_PAUSE_S, MISSES, Link
from fallback.domain import Kind, Policy
from fallback.errors import BreakerUnavailable
from tests.scenes import CHAIN, outcome


class Server:
    """Something to ask that answers as told, on a clock of the test's own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked = 0
        self.error: Exception | None = RedisConnectionError("gone")
        self.link = Link(clock=lambda: self.now_s)

    def answer(self) -> str:
        self.asked += 1
        if self.error:
            raise self.error
        return "PONG"

    def ask(self) -> str:
        try:
            return self.link.ask(self.answer)
        except BreakerUnavailable:
            return "away"


@pytest.fixture
def server() -> Server:
    return Server()


def test_after_a_few_misses_nobody_waits_any_more(server: Server) -> None:
    answers = [server.ask() for _ in range(MISSES + 5)]

    assert set(answers) == {"away"}
    assert server.asked == MISSES


def test_one_caller_at_a_time_looks_whether_it_is_back(server: Server) -> None:
    for _ in range(MISSES):
        server.ask()
    server.now_s += FIRST_PAUSE_S
    for _ in range(5):
        server.ask()

    assert server.asked == MISSES + 1


def test_looks_come_less_often_but_never_rarely(server: Server) -> None:
    for _ in range(MISSES):
        server.ask()
    for _ in range(20):
        server.now_s += LONGEST_PAUSE_S
        server.ask()

    assert server.asked == MISSES + 20


def test_it_is_back_with_the_first_answer(server: Server) -> None:
    for _ in range(MISSES):
        server.ask()
    server.error = None
    server.now_s += FIRST_PAUSE_S

    assert [server.ask(), server.ask()] == ["PONG", "PONG"]


def test_a_missing_script_is_an_answer_so_that_the_text_may_follow(server: Server) -> None:
    for _ in range(MISSES):
        server.ask()
    server.now_s += FIRST_PAUSE_S
    server.error = NoScriptError("no matching script")
    with pytest.raises(NoScriptError):
        server.ask()
    server.error = None

    assert server.ask() == "PONG"


def test_a_refusal_is_no_miss(server: Server) -> None:
    server.error = ResponseError("OOM command not allowed")
    for _ in range(MISSES + 5):
        server.ask()

    assert server.asked == MISSES + 5


@pytest.mark.parametrize("code", ["READONLY", "NOREPLICAS", "MASTERDOWN"])
def test_a1_each_word_of_a_server_that_is_not_the_master_drops_its_connections(
    server: Server, code: str
) -> None:
    """Redis 6.2 has it in the text alone, when a script is refused."""
    dropped: list[str] = []
    server.link = Link(clock=lambda: server.now_s, forget=lambda: dropped.append(code))
    server.error = ResponseError(f"Error running script: @user_script:211: -{code} no")
    server.ask()

    assert dropped == [code]


def test_a1_no_other_refusal_drops_the_connections(server: Server) -> None:
    dropped: list[str] = []
    server.link = Link(clock=lambda: server.now_s, forget=lambda: dropped.append("all"))
    for error in (ResponseError("WRONGTYPE Operation"), OutOfMemoryError("command not allowed")):
        server.error = error
        server.ask()

    assert dropped == []


def test_s22_a_full_redis_is_told_as_such(server: Server) -> None:
    server.error = ResponseError("Error running script: @user_script: -OOM command not allowed")
    with pytest.raises(BreakerUnavailable, match="Redis refused the write: it is out of memory"):
        server.link.ask(server.answer)


def test_a2_too_little_time_left_says_nothing_of_redis(server: Server) -> None:
    """A call that waited elsewhere for most of its time is no proof that Redis is slow."""
    with deadline.within(link.ANSWER_S / 3):
        answers = [server.ask() for _ in range(MISSES + 1)]

    assert set(answers) == {"away"}
    assert (server.asked, server.link.is_down) == (0, False)


def test_a_demoted_master_is_left_and_looked_up_anew(redis_client: redis.Redis) -> None:
    breakers = Breakers(connect=lambda: redis_client, namespace="d")
    breakers.configure(Kind.STT, 1, dict.fromkeys(CHAIN, Policy()))
    pool = redis_client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    redis_client.replicaof("127.0.0.1", 1)  # a replica of nobody: it refuses to write
    try:
        with pytest.raises(BreakerUnavailable, match="Redis refused the write"):
            breakers.record(Kind.STT, [(outcome("one", "soniox", "init_failure"), CHAIN)])
        is_connected = connection.is_connected
    finally:
        redis_client.replicaof("NO", "ONE")

    assert not is_connected
