// A small client of the Lambda Runtime API: asks for an event, calls the handler, posts its answer, and again.
// What `aws-lambda-ric` does, without its native code. The handler is named as `file.function`; the file is one of ES modules
// (.mjs), of CommonJS (.cjs), or what package.json makes of a .js.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { pathToFileURL } from 'node:url';

const [host, port] = (process.env.AWS_LAMBDA_RUNTIME_API ?? '').split(':');
// Set where a worker takes several calls at once.
const calls = Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY ?? 1);
const agent = new Agent({ keepAlive: true, maxSockets: calls });

function call(method, path, body, headers = {}) {
  const { promise, resolve, reject } = Promise.withResolvers();
  const outgoing = request({ host, port, agent, method, path: `/2018-06-01/runtime/${path}`, headers }, (incoming) => {
    const chunks = [];
    incoming.on('data', (chunk) => chunks.push(chunk));
    incoming.on('error', reject);
    incoming.on('end', () => resolve({ headers: incoming.headers, body: Buffer.concat(chunks) }));
  });
  outgoing.on('error', reject);
  outgoing.end(body);
  return promise;
}

function describe(error) {
  const known = error instanceof Error;
  return JSON.stringify({
    errorType: known ? error.name : typeof error,
    errorMessage: known ? error.message : String(error),
    trace: known ? (error.stack ?? '').split('\n') : [],
  });
}

/** An error under the name that AWS's client has for it. */
function named(name, message) {
  return Object.assign(new Error(message), { name: `Runtime.${name}` });
}

async function load(file) {
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    const isMissing = error?.code === 'ERR_MODULE_NOT_FOUND' || error?.code === 'MODULE_NOT_FOUND';
    if (error instanceof SyntaxError) {
      throw syntaxError(error, file);
    }
    if (isMissing) {
      error.name = 'Runtime.ImportModuleError';
    }
    throw error;
  }
}

/** The error with the line, which Node.js itself tells only when nothing catches it. */
function syntaxError({ message }, file) {
  const { stderr } = spawnSync(process.execPath, ['--check', file], { encoding: 'utf8', timeout: 5_000 });
  const place = /^(?:file:\/\/)?(\/.*:\d+)$/m.exec(stderr ?? '')?.[1];
  // A file that this one imports may have the error.
  const error = named('UserCodeSyntaxError', place === undefined ? message : `${message} (${place})`);
  error.stack = place === undefined ? error.stack : `${error.name}: ${error.message}\n${stderr}`;
  return error;
}

async function loadHandler() {
  const name = process.argv[2] ?? process.env._HANDLER ?? '';
  const dot = name.lastIndexOf('.');
  const path = `${process.env.LAMBDA_TASK_ROOT ?? process.cwd()}/${name.slice(0, dot)}`;
  const exported = name.slice(dot + 1);
  const file = ['.js', '.mjs', '.cjs'].map((end) => path + end).find((each) => existsSync(each));
  if (dot <= 0 || file === undefined) {
    throw named(
      'ImportModuleError',
      `the handler "${name}" needs a file ${path}.js, .mjs or .cjs: is spec.handler file.function?`,
    );
  }
  const module = await load(file);
  // What CommonJS exports is not always seen by name.
  const found = module[exported] ?? module.default?.[exported];
  if (typeof found !== 'function') {
    throw named('HandlerNotFound', `${file} exports no function ${exported}`);
  }
  return found.length > 2 ? withCallback(found) : found;
}

/** A handler of the older kind, which is given a function to answer by. */
function withCallback(found) {
  return (event, context) => {
    const { promise, resolve, reject } = Promise.withResolvers();
    const returned = found(event, context, (error, answer) => (error ? reject(error) : resolve(answer)));
    returned?.then?.(resolve, reject);
    return promise;
  };
}

function contextOf(headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const clientContext = headers['lambda-runtime-client-context'];
  return {
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    ...(clientContext ? { clientContext: JSON.parse(clientContext) } : {}),
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

let handler;
try {
  handler = await loadHandler();
} catch (error) {
  console.error(error);
  const described = describe(error);
  await call('POST', 'init/error', described, {
    'Lambda-Runtime-Function-Error-Type': JSON.parse(described).errorType,
  });
  process.exit(1);
}

async function serve() {
  for (;;) {
    const event = await call('GET', 'invocation/next');
    const id = event.headers['lambda-runtime-aws-request-id'];
    try {
      const answer = await handler(JSON.parse(event.body.toString()), contextOf(event.headers));
      await call('POST', `invocation/${id}/response`, JSON.stringify(answer) ?? 'null');
    } catch (error) {
      console.error(error);
      await call('POST', `invocation/${id}/error`, describe(error), {
        'Lambda-Runtime-Function-Error-Type': 'Unhandled',
      });
    }
  }
}

await Promise.all(Array.from({ length: calls }, serve));
