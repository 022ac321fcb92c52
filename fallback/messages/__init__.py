"""WHERE AN ALERT IS RENDERED: every sentence Slack shows. Values in, blocks out, nothing else.

    events      what can be alerted, and by which template each event of the stream is told
    values      the named values that a template may use, taken from an event
    template    how a template is checked and filled
    defaults    the template that each event has until an operator writes another
    mentions    who may be mentioned, as typed values
    blocks      Slack's Block Kit, as far as it is used here
    alerts      the message of an incident, the replies in its thread
    answers     what `/stt-status` answers

Nothing that comes from outside is ever put where Slack parses text: it stands in the elements of
rich text, which are shown as they are, or is escaped in the fallback that notifications show.
"""
