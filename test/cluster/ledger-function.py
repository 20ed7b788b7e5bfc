"""Tells a ledger when each call begins in it and when it ends, and answers with what it was given.

    {"echo": "call 7"}              the name of the call
    {"echo": "call 7", "sleep": 3}  and how many seconds it takes
"""

import os
import socket
import time

HOST, PORT = os.environ["LEDGER"].rsplit(":", 1)


def tell(what, call):
    with socket.create_connection((HOST, int(PORT)), timeout=10) as ledger:
        ledger.sendall(f"{what} {call}\n".encode())
        ledger.shutdown(socket.SHUT_WR)
        # The ledger has it once it ends the connection.
        ledger.recv(1)


def handler(event, context):
    tell("began", event["echo"])
    time.sleep(float(event.get("sleep", 0.1)))
    tell("ended", event["echo"])
    return {"echo": event["echo"]}
