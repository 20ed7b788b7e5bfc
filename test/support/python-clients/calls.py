"""Calls boto3 as it is told to, one JSON document a line:

    {"id": 1, "endpoint": "http://...", "method": "invoke", "arguments": {"FunctionName": "hello"}}
    {"id": 2, "endpoint": "http://...", "paginator": "list_functions", "arguments": {}}
    {"id": 3, "endpoint": "http://...", "waiter": "function_active_v2", "arguments": {"FunctionName": "hello"}}

and answers, in whatever order calls end, with what boto3 returned or raised:

    {"id": 1, "returned": {...}}
    {"id": 2, "raised": {"class": "ResourceNotFoundException", "modeled": true, "text": "...", "response": {...}}}

    {"id": 4, "endpoint": "http://...", "operationsFor": "hello"}

gives every operation of the service model, with the least that it has to be asked about that function. An answer that is
not as the service model has it raises a ModelFault, which boto3 itself would not.

Bytes are {"base64": "..."} in both directions. "accessKeyId", "secretAccessKey", "sessionToken", "unsigned" and
"maxAttempts" are of the client; "headers" are added to the request before it is signed. With "digest", a stream of
events is told by the length and the SHA-256 of its payloads, and by its end.
"""

import base64
import datetime
import hashlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

import service_model

_guard = threading.Lock()
_clients = {}


def client_of(call):
    key = (
        call["endpoint"],
        call.get("accessKeyId", "test"),
        call.get("secretAccessKey", "test"),
        call.get("sessionToken"),
        call.get("unsigned", False),
        call.get("maxAttempts", 1),
    )
    with _guard:
        if key not in _clients:
            endpoint, access_key_id, secret_access_key, session_token, unsigned, max_attempts = key
            client = boto3.client(
                "lambda",
                endpoint_url=endpoint,
                region_name="us-east-1",
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                aws_session_token=session_token,
                config=Config(
                    signature_version=UNSIGNED if unsigned else "v4",
                    retries={"mode": "standard", "total_max_attempts": max_attempts},
                ),
            )
            client.meta.events.register("before-call.lambda", add_headers)
            client.meta.events.register("before-parse.lambda", keep_answer)
            _clients[key] = client
        return _clients[key]


class ModelFault(Exception):
    """An answer that is not as the service model has it."""


_call = threading.local()


def add_headers(params, **_):
    params["headers"].update(_call.headers)


def keep_answer(operation_model, response_dict, **_):
    _call.answer = (operation_model, response_dict["status_code"], response_dict["body"])


def check(faults):
    if faults:
        raise ModelFault("; ".join(faults))


def encode(value):
    if isinstance(value, StreamingBody):
        value = value.read()
    if isinstance(value, EventStream):
        value = list(value)
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: encode(each) for key, each in value.items()}
    if isinstance(value, list):
        return [encode(each) for each in value]
    return value


def digested(stream):
    """A stream that may be too long for one line."""
    size, whole, end = 0, hashlib.sha256(), None
    for event in stream:
        payload = event.get("PayloadChunk", {}).get("Payload", b"")
        size += len(payload)
        whole.update(payload)
        end = event.get("InvokeComplete", end)
    return {"size": size, "sha256": whole.hexdigest(), "end": end}


def decode(value):
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {key: decode(each) for key, each in value.items()}
    if isinstance(value, list):
        return [decode(each) for each in value]
    return value


def perform(call):
    client = client_of(call)
    _call.headers = call.get("headers", {})
    if "operationsFor" in call:
        return service_model.operations_of(client.meta.service_model, call["operationsFor"])
    if "extract" in call:
        return service_model.extract_of(client.meta.service_model)
    arguments = decode(call.get("arguments", {}))
    try:
        if "paginator" in call:
            return list(client.get_paginator(call["paginator"]).paginate(**arguments))
        if "waiter" in call:
            often = {"Delay": 1, "MaxAttempts": 60}
            return client.get_waiter(call["waiter"]).wait(WaiterConfig=often, **arguments)
        returned = getattr(client, call["method"])(**arguments)
    except ClientError as error:
        model, status, body = _call.answer
        check(service_model.faults_of_error(model, error.response["Error"]["Code"], status, body))
        raise
    model, status, body = _call.answer
    if isinstance(body, bytes):
        check(service_model.faults_of_output(model, status, body))
    if call.get("digest", False):
        returned["EventStream"] = digested(returned["EventStream"])
    return returned


def answer(call):
    try:
        told = {"returned": encode(perform(call))}
    except ClientError as error:
        told = {
            "raised": {
                "class": type(error).__name__,
                # Errors that the service model of the operation does not have are plain ClientErrors.
                "modeled": type(error) is not ClientError,
                "text": str(error),
                "response": encode(error.response),
            }
        }
    except Exception as error:
        told = {
            "raised": {"class": type(error).__name__, "modeled": False, "text": str(error), "response": {}}
        }
    line = json.dumps({"id": call["id"], **told})
    with _guard:
        print(line, flush=True)


def main():
    with ThreadPoolExecutor(max_workers=32) as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))


main()
