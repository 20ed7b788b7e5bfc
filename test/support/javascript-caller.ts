import { createHash } from 'node:crypto';
import * as sdk from '@aws-sdk/client-lambda';
import { isBytes } from './boto3-caller.ts';
import { type CallerOptions, type LambdaCaller, type Outcome, onceHeard, type StreamDigest } from './lambda-caller.ts';

type Input = Readonly<Record<string, unknown>>;
type AnyCommand = Parameters<sdk.LambdaClient['send']>[0];
type Wait = (
  config: {
    readonly client: sdk.LambdaClient;
    readonly maxWaitTime: number;
    readonly minDelay: number;
    readonly maxDelay: number;
  },
  input: Input,
) => Promise<unknown>;
type Paginate = (
  config: { readonly client: sdk.LambdaClient },
  input: Input,
) => AsyncIterable<Readonly<Record<string, unknown>>>;

interface RaisedError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
  readonly Type?: string;
  readonly Reason?: string;
  readonly retryAfterSeconds?: string;
}

/** Seconds that a waiter may take. */
const MAX_WAIT_SECONDS = 60;

/** Commands, paginators, waiters and classes of errors, by name. */
const exported: Readonly<Record<string, unknown>> = { ...sdk };

/** The AWS SDK for JavaScript, calling a gateway. */
export function createJavaScriptCaller(endpoint: string): LambdaCaller {
  const clients = new Map<string, sdk.LambdaClient>();
  const clientOf = (options: CallerOptions): sdk.LambdaClient => {
    const config = {
      endpoint: options.endpoint ?? endpoint,
      region: 'us-east-1',
      credentials: options.credentials ?? { accessKeyId: 'test', secretAccessKey: 'test' },
      maxAttempts: options.maxAttempts ?? 1,
    };
    const key = JSON.stringify([config, options.unsigned]);
    const client =
      clients.get(key) ??
      new sdk.LambdaClient(
        options.unsigned === true ? { ...config, signer: { sign: async (request) => request } } : config,
      );
    clients.set(key, client);
    return client;
  };
  const call = async (operation: string, input: Input, options: CallerOptions): Promise<Outcome> => {
    const Command = exported[`${operation}Command`] as new (input: Input) => AnyCommand;
    const command = new Command(withBytes(input));
    let headers: Record<string, string> = {};
    command.middlewareStack.add(
      (next) => async (args) => {
        Object.assign((args.request as { headers: Record<string, string> }).headers, options.headers);
        return await next(args);
      },
      { step: 'build', name: 'moreHeaders' },
    );
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        ({ headers } = result.response as { headers: Record<string, string> });
        return result;
      },
      { step: 'deserialize', name: 'seenHeaders', priority: 'low' },
    );
    try {
      const { $metadata, ...output } = await clientOf(options).send(command);
      return {
        kind: 'answered',
        output: readable(
          'EventStream' in output
            ? { ...output, EventStream: await (options.digest === true ? digestOf(output) : eventsOf(output)) }
            : output,
        ),
        httpStatus: $metadata.httpStatusCode ?? 0,
        requestId: $metadata.requestId,
        headers,
      };
    } catch (error) {
      return outcomeOf(error as RaisedError, headers);
    }
  };
  return {
    name: 'the SDK for JavaScript',
    has: (operation) => `${operation}Command` in exported,
    call: (operation, input, options = {}) => onceHeard(() => call(operation, input, options)),
    async pages(operation, input, options = {}) {
      const paginate = exported[`paginate${operation}`] as Paginate;
      const pages: Readonly<Record<string, unknown>>[] = [];
      for await (const { $metadata: _, ...page } of paginate({ client: clientOf(options) }, input)) {
        pages.push(page);
      }
      return pages;
    },
    async wait(waiter, input, options = {}) {
      const wait = exported[`waitUntil${waiter}`] as Wait;
      await wait({ client: clientOf(options), maxWaitTime: MAX_WAIT_SECONDS, minDelay: 1, maxDelay: 1 }, input);
    },
    async close() {
      for (const client of clients.values()) {
        client.destroy();
      }
    },
  };
}

function outcomeOf(error: RaisedError, headers: Readonly<Record<string, string>>): Outcome {
  const Modeled = exported[error.name];
  return {
    kind: 'refused',
    error: error.name,
    modeled: typeof Modeled === 'function' && error instanceof Modeled,
    code: error.name,
    httpStatus: error.$metadata?.httpStatusCode,
    requestId: error.$metadata?.requestId,
    message: error.message,
    type: error.Type,
    reason: error.Reason,
    retryAfterSeconds: error.retryAfterSeconds,
    headers,
  };
}

function withBytes(input: Input): Input {
  return Object.fromEntries(
    Object.entries(input).map(([name, value]) => [name, isBytes(value) ? Buffer.from(value.base64, 'base64') : value]),
  );
}

async function digestOf(output: Readonly<Record<string, unknown>>): Promise<StreamDigest> {
  const whole = createHash('sha256');
  let size = 0;
  let end: StreamDigest['end'];
  for await (const event of output.EventStream as AsyncIterable<Readonly<Record<string, Input>>>) {
    const payload = (event.PayloadChunk?.Payload ?? new Uint8Array()) as Uint8Array;
    size += payload.length;
    whole.update(payload);
    end = event.InvokeComplete === undefined ? end : (readable(event.InvokeComplete) as StreamDigest['end']);
  }
  return { size, sha256: whole.digest('hex'), end };
}

async function eventsOf(output: Readonly<Record<string, unknown>>): Promise<readonly unknown[]> {
  const events: unknown[] = [];
  for await (const event of output.EventStream as AsyncIterable<Readonly<Record<string, Input>>>) {
    events.push(Object.fromEntries(Object.entries(event).map(([name, members]) => [name, readable(members)])));
  }
  return events;
}

function readable(output: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(output)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, value instanceof Uint8Array ? Buffer.from(value).toString() : value]),
  );
}
