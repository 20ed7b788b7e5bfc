// What `helm test` runs: asks the gateway for the list of functions and, where one is named, calls it.
import { readFile } from 'node:fs/promises';

const { ESB_TEST_SCHEME: scheme, ESB_TEST_FUNCTION: name, ESB_TEST_PAYLOAD: payload } = process.env;
// Kubernetes' own variables of the Service: they need no DNS.
const { ESB_GATEWAY_SERVICE_HOST: host, ESB_GATEWAY_SERVICE_PORT: port } = process.env;
const origin = `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
const end = Date.now() + Number(process.env.ESB_TEST_SECONDS) * 1000;
const token = await readFile('/var/run/secrets/esb/token', 'utf8').catch(() => undefined);
const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };

async function ask(what, path, options = {}) {
  for (;;) {
    let why;
    try {
      const answer = await fetch(origin + path, { ...options, headers, signal: AbortSignal.timeout(30_000) });
      const text = await answer.text();
      if (answer.ok && !answer.headers.has('x-amz-function-error')) {
        console.log(`${what}: ${text.slice(0, 500)}`);
        return;
      }
      why = `${answer.status} ${text.slice(0, 500)}`;
    } catch (error) {
      why = `${error.message} (${error.cause?.code ?? error.name})`;
    }
    if (Date.now() > end) {
      console.error(`${what}: ${why}`);
      process.exit(1);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

await ask('functions', '/2015-03-31/functions/');
if (name) {
  await ask(`call of ${name}`, `/2015-03-31/functions/${name}/invocations`, { method: 'POST', body: payload });
}
