"""What hostile peers send, against a real server in a process of its own: close codes, errors, memory, others' delay.

Each test names the advisory or the rule that asks for it. `victim.py` is the server, `siege.py` what is done to it and
how it is watched, `conftest.py` the fixture that starts it and looks whether it got over it.
"""
