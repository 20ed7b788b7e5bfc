/**
 * A runtime in Python that streams every answer.
 *
 * @param headers of each answer
 * @param body lines that send it, by `send(bytes)`, from the `event`. They may add trailers to `end`, which is sent last
 */
export function streamingRuntime(headers: Readonly<Record<string, string>>, body: string): string {
  const named = { 'Lambda-Runtime-Function-Response-Mode': 'streaming', 'Transfer-Encoding': 'chunked', ...headers };
  return `
import base64, hashlib, http.client, json, os, time
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
waiting = http.client.HTTPConnection(api)
while True:
    waiting.request("GET", "/2018-06-01/runtime/invocation/next")
    got = waiting.getresponse()
    event = json.loads(got.read())
    answer = http.client.HTTPConnection(api)
    answer.putrequest("POST", f"/2018-06-01/runtime/invocation/{got.headers['Lambda-Runtime-Aws-Request-Id']}/response")
    for name, value in ${JSON.stringify(named)}.items():
        answer.putheader(name, value)
    answer.endheaders()
    send = lambda part: answer.send(b"%x\\r\\n%s\\r\\n" % (len(part), part))
    end = b"0\\r\\n"
    try:
${body.trimEnd().replaceAll(/^(?=.)/gm, '        ')}
        answer.send(end + b"\\r\\n")
        answer.getresponse().read()
    except OSError:
        pass
    answer.close()
`;
}
