import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type CallerOptions, type LambdaCaller, type Outcome, onceHeard } from './lambda-caller.ts';
import type { PythonClients } from './python-clients.ts';

type Members = Readonly<Record<string, unknown>>;

interface Metadata {
  readonly HTTPStatusCode?: number;
  readonly RequestId?: string;
  readonly HTTPHeaders?: Readonly<Record<string, string>>;
}

interface Raised {
  readonly class: string;
  readonly modeled: boolean;
  readonly text: string;
  readonly response: {
    readonly Error?: { readonly Code?: string; readonly Message?: string };
    readonly ResponseMetadata?: Metadata;
    readonly Type?: string;
    readonly Reason?: string;
    readonly retryAfterSeconds?: string;
  };
}

interface Told {
  readonly id: number;
  readonly returned?: unknown;
  readonly raised?: Raised;
}

/** An operation of the service model, with the least that it has to be asked. */
export interface ModeledOperation {
  readonly name: string;
  readonly method: string;
  /** Blobs in it are `{ base64 }`. */
  readonly arguments: Members;
}

/**
 * boto3. Beside what it raises by itself, an answer that is not as its service model has it, in members, types,
 * enumerations and patterns, is refused with `ModelFault`.
 */
export interface Boto3Caller extends LambdaCaller {
  /** Every operation, asked about one function. */
  operations(functionName: string): Promise<readonly ModeledOperation[]>;
  /** The part of the service model of which the gateway's table of operations is made, as JSON. */
  extract(): Promise<string>;
}

/** boto3, calling a gateway; one Python process takes all calls. */
export function startBoto3(clients: PythonClients, endpoint: string): Boto3Caller {
  const python = spawn(clients.python, [join(import.meta.dirname, 'python-clients', 'calls.py')], {
    env: pythonEnvironment(clients),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const waiting = new Map<number, PromiseWithResolvers<Told>>();
  const ended = Promise.withResolvers<void>();
  const fail = (error: Error): void => {
    for (const each of waiting.values()) {
      each.reject(error);
    }
    waiting.clear();
    ended.resolve();
  };
  python.on('error', fail);
  python.on('close', () => fail(new Error('the Python process ended')));
  python.stdin.on('error', () => undefined);
  createInterface(python.stdout).on('line', (line) => {
    const told = JSON.parse(line) as Told;
    waiting.get(told.id)?.resolve(told);
    waiting.delete(told.id);
  });
  let last = 0;
  const ask = async (question: Members, options: CallerOptions): Promise<Told> => {
    last += 1;
    const answer = Promise.withResolvers<Told>();
    waiting.set(last, answer);
    const { headers, maxAttempts, credentials, unsigned = false, digest = false } = options;
    const line = {
      id: last,
      endpoint: options.endpoint ?? endpoint,
      ...credentials,
      unsigned,
      digest,
      headers: headers ?? {},
      ...(maxAttempts === undefined ? {} : { maxAttempts }),
      ...question,
    };
    python.stdin.write(`${JSON.stringify(line)}\n`);
    return await answer.promise;
  };
  const call = async (operation: string, input: Members, options: CallerOptions): Promise<Outcome> => {
    const told = await ask({ method: snakeCase(operation), arguments: encoded(input) }, options);
    if (told.raised === undefined) {
      const { ResponseMetadata, ...output } = told.returned as { readonly ResponseMetadata: Metadata };
      return {
        kind: 'answered',
        output: decoded(output),
        httpStatus: ResponseMetadata.HTTPStatusCode ?? 0,
        requestId: ResponseMetadata.RequestId,
        headers: ResponseMetadata.HTTPHeaders ?? {},
      };
    }
    const { response, text, modeled } = told.raised;
    return {
      kind: 'refused',
      error: told.raised.class,
      modeled,
      code: response.Error?.Code ?? told.raised.class,
      httpStatus: response.ResponseMetadata?.HTTPStatusCode,
      requestId: response.ResponseMetadata?.RequestId,
      message: response.Error?.Message ?? text,
      type: response.Type,
      reason: response.Reason,
      retryAfterSeconds: response.retryAfterSeconds,
      headers: response.ResponseMetadata?.HTTPHeaders ?? {},
    };
  };
  return {
    name: 'boto3',
    // The operations are read from there.
    has: () => true,
    call: (operation, input, options = {}) => onceHeard(() => call(operation, input, options)),
    async pages(operation, input, options = {}) {
      const told = await ask({ paginator: snakeCase(operation), arguments: encoded(input) }, options);
      if (told.raised !== undefined) {
        throw new Error(`boto3 raised ${told.raised.class}: ${told.raised.text}`);
      }
      return (told.returned as readonly Members[]).map((page) =>
        Object.fromEntries(Object.entries(page).filter(([name]) => name !== 'ResponseMetadata')),
      );
    },
    async wait(waiter, input, options = {}) {
      const told = await ask({ waiter: snakeCase(waiter), arguments: encoded(input) }, options);
      if (told.raised !== undefined) {
        throw new Error(`boto3 raised ${told.raised.class}: ${told.raised.text}`);
      }
    },
    async operations(functionName) {
      const told = await ask({ operationsFor: functionName }, {});
      return told.returned as readonly ModeledOperation[];
    },
    async extract() {
      return (await ask({ extract: true }, {})).returned as string;
    },
    async close() {
      python.stdin.end();
      await ended.promise;
    },
  };
}

/** The environment of a Python that has the clients' packages and nothing of its user's settings. */
export function pythonEnvironment(clients: PythonClients): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    PYTHONPATH: clients.packages,
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
}

function snakeCase(operation: string): string {
  return operation.replaceAll(/(?<!^)([A-Z])/g, '_$1').toLowerCase();
}

function encoded(input: Members): Members {
  return Object.fromEntries(
    Object.entries(input).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? { base64: Buffer.from(value).toString('base64') } : value,
    ]),
  );
}

function decoded(output: Members): Members {
  return Object.fromEntries(
    Object.entries(output).map(([name, value]) => [
      name,
      isBytes(value)
        ? textOf(value.base64)
        : name === 'EventStream' && Array.isArray(value)
          ? (value as readonly Members[]).map((event) => decodedEvent(event))
          : value,
    ]),
  );
}

function decodedEvent(event: Members): Members {
  return Object.fromEntries(Object.entries(event).map(([name, members]) => [name, decoded(members as Members)]));
}

/** Whether it is how bytes are written here. */
export function isBytes(value: unknown): value is { readonly base64: string } {
  return typeof value === 'object' && value !== null && 'base64' in value;
}

function textOf(base64: string): string {
  return Buffer.from(base64, 'base64').toString();
}
