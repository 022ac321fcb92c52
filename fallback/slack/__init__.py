"""SLACK LISTENS HERE: `/stt-status` and the buttons, over HTTP and over Socket Mode.

    listening    the Bolt app, and the HTTP endpoint `/slack/events`
    commands     the table of what `/stt-status` understands
    orders       the orders among them: who may, for how long, and one effect for two at once
    buttons      the buttons under an incident's message

Bolt checks signatures and their age; who may give orders is decided here, for every order.
"""
