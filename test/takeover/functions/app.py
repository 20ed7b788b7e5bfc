"""A function that notes each call that it runs in the files of its container."""

import os
import time

# With several calls at once each is run by a child of the runtime.
RUNTIME = os.getppid() if "AWS_LAMBDA_MAX_CONCURRENCY" in os.environ else os.getpid()


def handler(event, context):
    with open("/tmp/ran", "a", encoding="ascii") as ran:
        ran.write(f"{event['id']} {RUNTIME}\n")
    time.sleep(event["sleep"])
    return {"id": event["id"], "padding": "x" * event["size"]}
