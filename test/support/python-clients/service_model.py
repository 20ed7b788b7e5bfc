"""Holds what a gateway answered against the service model that botocore has."""

import json
import re


def faults_of_output(operation_model, status, body):
    """What is wrong with the body of an answer that is a success; nothing where the body is not JSON by the model."""
    shape = operation_model.output_shape
    if shape is None or "payload" in shape.serialization or operation_model.has_event_stream_output:
        return []
    expected = operation_model.http.get("responseCode", 200)
    # An output that tells the status may have any that is a success.
    tells = any(member.serialization.get("location") == "statusCode" for member in shape.members.values())
    faults = [] if status == expected or (tells and 200 <= status < 300) else [f"the status is {status} and not {expected}"]
    if not body.strip():
        return faults
    return faults + faults_of(shape, json.loads(body), operation_model.name)


def faults_of_error(operation_model, code, status, body):
    """The same of an error that the operation is modeled to raise."""
    for shape in operation_model.error_shapes:
        if shape.name == code:
            break
    else:
        return []
    error = shape.metadata.get("error", {})
    expected = error.get("httpStatusCode", 500)
    # 503 is told apart from 500: such a call may be tried elsewhere.
    faults = [] if status in (expected, 503) else [f"the status of {code} is {status} and not {expected}"]
    told = json.loads(body)
    if told.pop("__type", None) != code:
        faults.append(f"__type is not {code}")
    expected_type = "User" if error.get("senderFault") else "Service"
    if told.get("Type") != expected_type:
        faults.append(f"Type of {code} is {told.get('Type')} and not {expected_type}")
    for name in ("message", "Message"):
        if name in shape.members and not told.get(name):
            faults.append(f"{code} has no {name}")
    return faults + faults_of(shape, told, code)


def faults_of(shape, value, path):
    return list(_faults_of(shape, value, path))


def _faults_of(shape, value, path):
    kind = shape.type_name
    if kind == "structure":
        yield from _structure_faults(shape, value, path)
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{path} is no list"
            return
        for index, each in enumerate(value):
            yield from _faults_of(shape.member, each, f"{path}[{index}]")
    elif kind == "map":
        if not isinstance(value, dict):
            yield f"{path} is no map"
            return
        for key, each in value.items():
            yield from _faults_of(shape.key, key, f"{path}, a key of it")
            yield from _faults_of(shape.value, each, f"{path}.{key}")
    elif kind == "string":
        yield from _string_faults(shape, value, path)
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield f"{path} is no boolean"
    else:
        number = (int,) if kind in ("integer", "long") else (int, float)
        if isinstance(value, bool) or not isinstance(value, number):
            yield f"{path} is no {kind}"


def _structure_faults(shape, value, path):
    if not isinstance(value, dict):
        yield f"{path} is no structure"
        return
    names = {
        member.serialization.get("name", name): member
        for name, member in shape.members.items()
        if member.serialization.get("location") is None
    }
    for name in shape.required_members:
        if shape.members[name].serialization.get("location") is None and name not in value:
            yield f"{path} lacks {name}"
    for name, each in value.items():
        if name not in names:
            yield f"{path} has {name}, which the model does not have"
        elif each is not None:
            yield from _faults_of(names[name], each, f"{path}.{name}")


def _string_faults(shape, value, path):
    if not isinstance(value, str):
        yield f"{path} is no string"
        return
    if shape.enum and value not in shape.enum:
        yield f"{path} is '{value}', which is none of {', '.join(shape.enum)}"
    pattern = shape.metadata.get("pattern")
    # Nothing, where there is nothing of the kind, is nothing that breaks a client.
    if pattern is not None and value and not _matches(pattern, value):
        yield f"{path} is '{value}', which does not match {pattern}"


def _matches(pattern, value):
    # The patterns are Java's. Of what Python does not have, these are in use.
    for name, characters in (("L", "a-zA-Z"), ("Z", " "), ("N", "0-9")):
        pattern = pattern.replace(f"\\p{{{name}}}", characters)
    return re.fullmatch(pattern, value) is not None


def operations_of(service_model, function_name):
    """Every operation, with the least that it has to be asked, about one function."""
    return [
        {
            "name": name,
            "method": model.http["method"],
            "arguments": {} if model.input_shape is None else _least(model.input_shape, function_name),
        }
        for name in service_model.operation_names
        for model in [service_model.operation_model(name)]
    ]


def _least(shape, function_name, name=""):
    kind = shape.type_name
    if kind == "structure":
        if shape.is_tagged_union:
            first = next(iter(shape.members))
            return {first: _least(shape.members[first], function_name, first)}
        return {
            member: _least(shape.members[member], function_name, member) for member in shape.required_members
        }
    if kind == "list":
        return [_least(shape.member, function_name)] * shape.metadata.get("min", 1)
    if kind == "map":
        return {"key": _least(shape.value, function_name)}
    if kind == "blob":
        return {"base64": "e30="}
    if kind == "boolean":
        return True
    if kind == "string":
        if name == "FunctionName":
            return function_name
        if name in ("Resource", "ResourceArn"):
            return f"arn:aws:lambda:us-east-1:012345678912:function:{function_name}"
        return shape.enum[0] if shape.enum else "x" * max(1, shape.metadata.get("min", 1))
    return max(1, shape.metadata.get("min", 1))


def extract_of(service_model):
    """What the gateway's table of operations is made of: an operation or a shape of their inputs a line."""
    operations, shapes = {}, {}
    for name in sorted(service_model.operation_names):
        model = service_model.operation_model(name)
        members = {} if model.input_shape is None else model.input_shape.members
        body = {each: shape for each, shape in members.items() if shape.serialization.get("location") is None}
        operations[name] = {**model.http, "members": list(body)}
        for shape in members.values():
            _collect(shape, shapes)
    parts = {"operations": operations, "shapes": dict(sorted(shapes.items()))}
    return "{\n" + ",\n".join(f'"{name}": {_rows(part)}' for name, part in parts.items()) + "\n}\n"


def _rows(part):
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in part.items()) + "\n}"


def _collect(shape, shapes):
    if shape.name in shapes:
        return
    rules = {key: shape.metadata[key] for key in ("min", "max", "enum", "pattern") if key in shape.metadata}
    members = getattr(shape, "members", {})
    shapes[shape.name] = {**rules, "members": list(members)} if members else rules
    parts = [getattr(shape, part) for part in ("member", "key", "value") if hasattr(shape, part)]
    for each in [*members.values(), *parts]:
        _collect(each, shapes)
