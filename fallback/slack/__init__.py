"""SLACK LISTENS HERE: `/stt-status` and the buttons, over HTTP and over Socket Mode.

    listening    the Bolt app, and the HTTP endpoint `/slack/events`
    door         who comes in: signed, of our workspace, answered at Slack, and once
    commands     the table of what `/stt-status` understands
    orders       the orders among them: who may, for how long, and one effect for two at once
    buttons      the buttons under an incident's message

Signatures and their age are checked at the door; who may give orders is decided for every order.
"""
