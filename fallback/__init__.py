"""The control plane: which speech provider a call should use, and what the fleet learns of it.

The map, in the order data flows; `tests/test_architecture.py` holds the directions.

    agent ──▶ api ──▶ services ─┬─▶ catalog    who exists, in what order, with what settings
                                ├─▶ decision   which steps are usable; mode, order and why
                                └─▶ breaker ──▶ lua/   ONE call: every verdict, and the lease
    lua ══event stream══▶ stream ──▶ pump ──▶ history ──▶ database

The core, which knows no framework
    domain/      the nouns: states, outcomes, policies, breakers, decisions
    errors       one class per reaction
    machine/     WHAT A BREAKER MEANS, in plain Python, time passed in
    decision     WHERE A DECISION IS MADE: the steps before, the mode, order and why after
    messages/    WHERE AN ALERT IS RENDERED: every sentence Slack shows; values in, blocks out

The doors to Redis and the database
    lua/         WHERE A BREAKER TRIPS: state.lua's transition() alone writes a state
    breaker/     the only caller of the scripts: keys, arguments, replies; whose answers count
    deadline     how long whoever asks still waits; aside the work they leave when it is over
    stream       the event stream, read side
    fitness/     are Redis and the database as the product needs them
    models/      what operators set, and what history keeps
    catalog      the configuration as plain values, cached in each process
    configuration/  the whole of it as one document: built, compared, applied, merged
    keys         API keys: made, and told whose a request's is
    roles        who may do what: the four groups; sessions when one ends
    cautions     what to say before a change is kept: rules across rows

Verbs and reads
    services/    every verb an agent or an operator has; what happens while Redis is away
    orders       the five orders, as people give them
    standin      what a process decides with meanwhile
    standing     operators' orders that outlive Redis's data
    changes/     what a change of the configuration sets off; who, when, why; undone
    sign_in/     how people get in: guesses slowed down, a second factor
    proposals    the second person: changes that wait until somebody else agrees
    preview      what a policy that is not saved yet would do now
    shadow/      a second policy beside the live one, and what it would have done
    rehearsals/  what it would have done, worked out by child processes of the pumps
    stats/       calls, failures and latencies per minute
    past/        the recorded past: what the breakers were told, for rehearsals
    status       everything as it is now, one value for all readers
    backtest/    REHEARSAL: the recorded past through the machine, under proposed thresholds
    flushing     how a process writes what it gathered
    spells       what a worker waits for: whose fault an error is, and each spell said once;
                 holding keeps what it has in hand its own
    metrics      what is counted; exporter: what is read when Prometheus asks

After a transition
    history/     events into rows and incidents, exactly once, in any order
    alerts/      which events deserve an alert, to whom; delivered once, through an outbox
    pump/        WHERE EVENTS GO: the HANDLERS tuple
    live/        WHAT PEOPLE AND AGENTS SEE LIVE: the feed, and the dashboard it keeps true

The surfaces: parse, call one verb, render
    api/         REST; slack/ /stt-status and the buttons
    admin/       the Django admin; templatetags what its pages show
    drill        an outage drilled through the REST API
    health       /livez and /readyz
    checks       wrong settings and configurations, said at start
    times        how every surface writes a time; pacing how often a thing may be done; texts what
                 strangers write, made harmless
    urls         every path on one screen; apps the wiring; management/commands the commands
"""
