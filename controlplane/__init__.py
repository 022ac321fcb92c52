"""The project around the app: where settings, processes and the embedded Redis come from.

env.py             the environment: every variable, its default, and what is a wrong value
private.py         files and directories that no other user can reach
refusals.py        the page for a form whose origin is not known
complaints.py      one sentence for an error that is not the program's
settings.py        deployment facts for Django; run-time tuning lives in the database instead
redis_options.py   one REDIS_URL into the options of every client: single, Sentinel, Cluster
redis_cluster.py   the connection factory that django-redis lacks for a Cluster
logs.py            what a log line looks like, and where it goes
asgi.py urls.py    the doors: HTTP and WebSocket
handler.py         how a request becomes a response: what it may take, and in which threads
connections.py descriptors.py  which connections are closed: late, unread, or no room for them
bodies.py pools.py how much of a body is taken; how many requests are at work, and how many wait
request_id.py request_log.py  the id of a request, and its one line in the log
answers.py problem.py  what every answer carries; the one shape of an error
embedded_redis.py  a real Redis server in VAR_DIR, for when no REDIS_URL is set
supervisor.py      child processes that die with their parent, and start again if they fall or hang
pulse.py           whether a process that runs still answers
bootstrap.py       a database ready to serve: migrations, starter configuration, first admin
"""
