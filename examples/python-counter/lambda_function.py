"""A function that shows what a worker remembers.

Each call counts one up in a module global: as long as the worker lives, frozen or not, the count goes on. The event
may ask for more, so that every behaviour of a worker can be provoked by a call:

    {"sleep": 1.5}       sleep that many seconds
    {"raise": "text"}    raise a ValueError with that text
    {"exit": 3}          end the runtime process with that code
    {"allocate": 64}     allocate and touch that many MiB
    {"print": "text"}    write a line to standard output
    {"write": 16}        write that many MiB to /tmp
    {"size": 1000}       answer with that many characters of padding
    {"echo": ...}        give this value back
    {"return": ...}      answer with this value and nothing else
    {"times": true}      tell when the call began and ended, by the monotonic clock of the machine, in seconds
"""

import os
import sys
import threading
import time
import uuid

BOOT_ID = uuid.uuid4().hex
STARTED = time.time()

_guard = threading.Lock()
_counter = 0
_running = 0
_overlaps = 0


def lambda_handler(event, context):
    return handler(event, context)


def handler(event, context):
    global _counter, _running, _overlaps
    began = time.monotonic()
    with _guard:
        _counter += 1
        _running += 1
        if _running > 1:
            _overlaps += 1
        counter = _counter
    try:
        answer = _answer(event if isinstance(event, dict) else {"echo": event}, context, counter)
        if isinstance(event, dict) and "times" in event:
            answer["times"] = [began, time.monotonic()]
        return answer
    finally:
        with _guard:
            _running -= 1


def _answer(event, context, counter):
    if "print" in event:
        print(event["print"], flush=True)
    if "sleep" in event:
        time.sleep(float(event["sleep"]))
    if "raise" in event:
        raise ValueError(event["raise"])
    if "exit" in event:
        sys.stdout.flush()
        os._exit(int(event["exit"]))
    if "allocate" in event:
        block = bytearray(int(event["allocate"]) << 20)
        for offset in range(0, len(block), 4096):
            block[offset] = 1
    if "write" in event:
        with open("/tmp/written", "wb") as file:
            for _ in range(int(event["write"])):
                file.write(bytes(1 << 20))
    if "return" in event:
        return event["return"]
    answer = {
        "message": "hello from " + context.function_name,
        "counter": counter,
        "overlaps": _overlaps,
        "bootId": BOOT_ID,
        "uptime": round(time.time() - STARTED, 3),
        "requestId": context.aws_request_id,
        "remainingMs": context.get_remaining_time_in_millis(),
    }
    if context.client_context is not None:
        answer["clientContext"] = context.client_context.custom
    if "echo" in event:
        answer["echo"] = event["echo"]
    if "size" in event:
        answer["padding"] = "x" * int(event["size"])
    return answer
