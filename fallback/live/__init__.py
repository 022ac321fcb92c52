"""WHAT PEOPLE AND AGENTS SEE LIVE: the feed `/ws/v1/status`, and the dashboard that it keeps true.

One thread per process reads the shared state; each message is encoded once and handed to every
client. A push is a hint, the snapshot is the truth: whoever missed something gets the next one.

    reader     the thread: the event stream and the status -> what is new
    frames     what is new -> the feed's messages
    hub        who listens in this process, and how each is written to without waiting for any
    door       who may listen: an API key, or a member of staff from our own pages
    places     how many may, with one key, one person, and all together
    consumer   one client's socket (Channels)

    page       the dashboard's first paint, and the orders given from it
    words      how it says things
    timeline   transitions into spans of states
"""
