"""WHERE AGENTS AND OPERATORS TALK TO US: REST under /api/v1/, by resource.

Every view does three things: parse, call one verb of `services` (or one read), render. What a
view accepts and answers is nested in it, so that a schema sits beside the code that honours it.

    decisions       POST decisions              which provider for this call
    outcomes        POST outcomes               what agents saw
    status          GET status                  everything as it is now
    providers       providers/{slug}            one breaker; override and reset
    history         calls, incidents, transitions
    stats           GET stats                   calls, failures and latencies over time

    base            ApiView: the order of things for every request
    parsing         a body -> checked values, or what is wrong and what would be right
    fields          the fields of bodies and queries, and the errors they tell
    texts           the texts of strangers made harmless
    problems        every error under /api/ as application/problem+json (RFC 9457)
    authentication  API keys and staff sessions -> Caller, and the roles they hold
    throttling      token buckets in this process, one per caller
    idempotency     Idempotency-Key on what operators order
    schema          what OpenAPI cannot see by itself
    examples        the contract's examples, for the schema
"""
