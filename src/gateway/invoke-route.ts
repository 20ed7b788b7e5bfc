import { randomUUID } from 'node:crypto';
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import type { Clock } from '../common/clock.ts';
import { sleep } from '../common/deadline.ts';
import { messageOf, unreachable } from '../common/errors.ts';
import type { HostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import { Caller } from './caller.ts';
import { type FunctionReference, parseFunctionIdentifier } from './function-name.ts';
import type { FunctionCall, InvokeResult, Invoker } from './invoker.ts';
import { checkedPayload } from './json-payload.ts';
import { LambdaError, lambdaErrorAnswer, throttled } from './lambda-error.ts';
import { readRequestBody } from './request-body.ts';

/** Largest client context, in bytes of base64. */
const MAX_CLIENT_CONTEXT = 3_583;
/** Largest payload of an Event, in bytes. */
const MAX_EVENT_BYTES = 1024 * 1024;
/** Bytes of a log tail: what Lambda gives. */
const MAX_LOG_TAIL = 4_096;
/** Calls, and bytes of their payloads, that may be under way or waiting at a time. */
const MAX_CALLS = 8_192;
const MAX_CALL_BYTES = 512 * 1024 * 1024;
/** Milliseconds that a connection may be idle: more than load balancers keep theirs, so that they are the ones to close. */
const KEEP_ALIVE_MS = 75_000;
/** Milliseconds that a request may take to arrive. */
const REQUEST_TIMEOUT_MS = 120_000;

/** What is told of each call, once it is over. */
export interface CallReport {
  /** `ok`, `function_error`, `timed_out`, `unknown`, `accepted`, `dry_run`, or the name of an error. */
  readonly result: string;
  readonly durationMs: number;
  /** What the call found: `running`, `paused` or `absent`; empty when it ran nowhere. */
  readonly start: string;
}

export interface LambdaApiOptions {
  readonly invoker: Pick<Invoker, 'find' | 'invoke'>;
  /** Takes over a call of type Event. */
  readonly accept: (call: FunctionCall) => void;
  /** Why nothing can be said about any function yet; undefined when that is not so. */
  readonly notReady: () => LambdaError | undefined;
  /** Whether clients are to be sent elsewhere: answers then end their connection. */
  readonly isDraining: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onCall?: (report: CallReport) => void;
}

/** What a gateway has on its hands. */
interface Load {
  calls: number;
  bytes: number;
}

type InvocationType = 'RequestResponse' | 'Event' | 'DryRun';

interface InvokeRoute {
  readonly Params: { readonly name: string };
  readonly Querystring: { readonly Qualifier?: string };
}

type InvokeRouteRequest = FastifyRequest<InvokeRoute>;

/** The HTTP server of the Lambda API. */
export interface LambdaApi {
  /** Takes the port and returns the real one. Errors are those of the system. */
  listen(address: HostPort): Promise<number>;
  /** Takes no more connections, waits for the end of every request, and closes the connections that are left. */
  close(): Promise<void>;
}

/** Milliseconds between two looks at whether all requests have ended. */
const CLOSE_POLL_MS = 20;

declare module 'fastify' {
  interface FastifyRequest {
    /** Who waits for the answer. */
    caller: Caller;
  }
}

/** The Lambda API: `POST /2015-03-31/functions/{name}/invocations`, and its errors for everything else. */
export function createLambdaApi(options: LambdaApiOptions): LambdaApi {
  let active = 0;
  const load: Load = { calls: 0, bytes: 0 };
  const api = Fastify({
    logger: false,
    genReqId: () => randomUUID(),
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    routerOptions: { maxParamLength: 1_024, ignoreTrailingSlash: true },
    frameworkErrors: (error, request, reply) => {
      sendError(
        reply,
        new LambdaError('InvalidParameterValueException', messageOf(error), { cause: error }),
        request.id,
      );
    },
  });
  // Clients send any type or none, and the body is what they say it is: JSON.
  api.removeAllContentTypeParsers();
  api.addContentTypeParser('*', (request, _stream, done) => readRequestBody(request.raw, done));
  api.addHook('onSend', (_request, reply, _payload, done) => {
    if (options.isDraining()) {
      reply.header('connection', 'close');
    }
    done();
  });
  api.decorateRequest('caller');
  api.addHook('onRequest', (request, reply, done) => {
    active += 1;
    const caller = new Caller();
    request.caller = caller;
    reply.raw.once('close', () => {
      active -= 1;
      caller.hangUp();
    });
    // A type that makes no sense would be refused before it comes to a parser.
    delete request.raw.headers['content-type'];
    done();
  });
  api.setErrorHandler((error, request, reply) => {
    sendError(reply, toLambdaError(error, options.logger, request.id), request.id);
  });
  api.setNotFoundHandler((request, reply) => {
    sendError(
      reply,
      new LambdaError(
        'UnknownOperationException',
        `${request.method} ${request.url.split('?')[0]} is no operation of this service: it has POST /2015-03-31/functions/{FunctionName}/invocations`,
      ),
      request.id,
    );
  });
  api.post<InvokeRoute>('/2015-03-31/functions/:name/invocations', (request, reply) =>
    serveInvoke(request, reply, options, load),
  );
  return {
    async listen({ host, port }) {
      await api.listen({ port, host: host === '' ? '::' : host });
      const bound = api.server.address();
      return typeof bound === 'object' && bound !== null ? bound.port : port;
    },
    async close() {
      const closed = api.close();
      while (active > 0) {
        await sleep(options.clock, CLOSE_POLL_MS);
      }
      // Those that never had a request do not count as idle.
      api.server.closeAllConnections();
      await closed;
    },
  };
}

async function serveInvoke(
  request: InvokeRouteRequest,
  reply: FastifyReply,
  options: LambdaApiOptions,
  load: Load,
): Promise<FastifyReply> {
  const startedAt = performance.now();
  let result = 'ok';
  let start = '';
  try {
    const { invoker } = options;
    const type = invocationType(request);
    const reference = parseFunctionIdentifier(request.params.name, request.query.Qualifier);
    const tailLog = isTailWanted(request);
    const notReady = options.notReady();
    if (notReady !== undefined) {
      throw notReady;
    }
    invoker.find(reference);
    const call = functionCall(request, reference, type, tailLog);
    switch (type) {
      case 'DryRun':
        result = 'dry_run';
        return reply.code(204).header('x-amzn-requestid', request.id).send();
      case 'Event':
        options.accept(call);
        result = 'accepted';
        return reply.code(202).header('x-amzn-requestid', request.id).send();
      case 'RequestResponse': {
        const answer = await invokeWithin(load, call, () => invoker.invoke(call, request.caller));
        result = resultName(answer);
        start = answer.timings?.start ?? '';
        return sendResult(request, reply, call, answer, options.isDraining());
      }
      default:
        return unreachable(type);
    }
  } catch (error) {
    const known = toLambdaError(error, options.logger, request.id);
    result = known.errorName;
    return sendError(reply, known, request.id);
  } finally {
    options.onCall?.({ result, durationMs: performance.now() - startedAt, start });
  }
}

/** Runs a call if there is still room for it in this process. */
async function invokeWithin(
  load: Load,
  call: FunctionCall,
  invoke: () => Promise<InvokeResult>,
): Promise<InvokeResult> {
  const bytes = call.payload.length;
  if (load.calls >= MAX_CALLS || load.bytes + bytes > MAX_CALL_BYTES) {
    throw throttled('Rate Exceeded. The gateway has too many calls under way.', 'CallerRateLimitExceeded');
  }
  load.calls += 1;
  load.bytes += bytes;
  try {
    return await invoke();
  } finally {
    load.calls -= 1;
    load.bytes -= bytes;
  }
}

function functionCall(
  request: InvokeRouteRequest,
  reference: FunctionReference,
  type: InvocationType,
  tailLog: boolean,
): FunctionCall {
  const payload = checkedPayload(request.body as Buffer | undefined);
  if (type === 'Event' && payload.length > MAX_EVENT_BYTES) {
    throw new LambdaError(
      'RequestTooLargeException',
      `${payload.length} byte payload is too large for the Event invocation type (limit ${MAX_EVENT_BYTES} bytes)`,
    );
  }
  return {
    reference,
    requestId: request.id,
    payload,
    // Lambda gives it to synchronous calls only.
    clientContext: type === 'RequestResponse' ? clientContext(request) : '',
    tailLog,
    traceId: headerOf(request, 'x-amzn-trace-id'),
  };
}

/** Written past the framework, whose hooks and serialisers have nothing to do here: this is the path of every call. */
function sendResult(
  request: InvokeRouteRequest,
  reply: FastifyReply,
  call: FunctionCall,
  answer: InvokeResult,
  isDraining: boolean,
): FastifyReply {
  const headers = [
    'content-type',
    'application/json',
    'content-length',
    String(answer.body.length),
    'x-amzn-requestid',
    request.id,
    'x-amz-executed-version',
    '$LATEST',
  ];
  if (answer.functionError) {
    headers.push('x-amz-function-error', 'Unhandled');
  }
  if (answer.outcome === 'unknown') {
    headers.push('x-esb-outcome', 'unknown');
  }
  if (call.tailLog) {
    const tail = answer.logTail?.subarray(-MAX_LOG_TAIL).toString('base64') ?? '';
    headers.push('x-amz-log-result', tail);
  }
  if (call.traceId !== '') {
    headers.push('x-amzn-trace-id', call.traceId);
  }
  const { timings } = answer;
  if (timings !== undefined) {
    headers.push(
      'server-timing',
      `queue;dur=${timings.queued / 1000}, wake;dur=${timings.wake / 1000}, run;dur=${timings.run / 1000}, start;desc="${timings.start}"`,
    );
  }
  if (isDraining) {
    headers.push('connection', 'close');
  }
  reply.hijack();
  reply.raw.writeHead(200, headers);
  reply.raw.end(answer.body);
  return reply;
}

function sendError(reply: FastifyReply, error: LambdaError, requestId: string): FastifyReply {
  const answer = lambdaErrorAnswer(error, requestId);
  return reply.code(answer.status).headers(answer.headers).send(answer.body);
}

function resultName(answer: InvokeResult): string {
  switch (answer.outcome) {
    case 'answered':
      return answer.functionError ? 'function_error' : 'ok';
    case 'timed-out':
      return 'timed_out';
    case 'unknown':
      return 'unknown';
    default:
      return unreachable(answer.outcome);
  }
}

function invocationType(request: InvokeRouteRequest): InvocationType {
  const value = headerOf(request, 'x-amz-invocation-type');
  switch (value) {
    case '':
    case 'RequestResponse':
      return 'RequestResponse';
    case 'Event':
    case 'DryRun':
      return value;
    default:
      throw enumError('invocationType', value, 'Event, RequestResponse, DryRun');
  }
}

function isTailWanted(request: InvokeRouteRequest): boolean {
  const value = headerOf(request, 'x-amz-log-type');
  if (value !== '' && value !== 'None' && value !== 'Tail') {
    throw enumError('logType', value, 'None, Tail');
  }
  return value === 'Tail';
}

function clientContext(request: InvokeRouteRequest): string {
  const value = headerOf(request, 'x-amz-client-context');
  if (value === '') {
    return '';
  }
  if (value.length > MAX_CLIENT_CONTEXT) {
    throw new LambdaError(
      'InvalidParameterValueException',
      `Client context must be no more than ${MAX_CLIENT_CONTEXT} bytes when base64-encoded`,
    );
  }
  let context: unknown;
  try {
    context = JSON.parse(Buffer.from(value, 'base64').toString('utf8'));
  } catch {
    context = undefined;
  }
  if (typeof context !== 'object' || context === null) {
    throw new LambdaError(
      'InvalidRequestContentException',
      'Client context must be a valid Base64-encoded JSON object.',
    );
  }
  return value;
}

function headerOf(request: InvokeRouteRequest, name: string): string {
  const value = request.headers[name];
  return typeof value === 'string' ? value : (value?.[0] ?? '');
}

function enumError(member: string, value: string, allowed: string): LambdaError {
  return new LambdaError(
    'InvalidParameterValueException',
    `Value '${value}' at '${member}' failed to satisfy constraint: Member must satisfy enum value set: [${allowed}]`,
  );
}

/** What a caller is told of anything that was thrown. Faults of ours are logged. */
function toLambdaError(error: unknown, logger: Logger, requestId: string): LambdaError {
  if (error instanceof LambdaError) {
    return error;
  }
  if (error instanceof Error && 'statusCode' in error && Number(error.statusCode) < 500) {
    return new LambdaError('InvalidRequestContentException', error.message, { cause: error });
  }
  logger.error({ err: error, requestId }, 'call failed for a fault of the gateway');
  return new LambdaError('ServiceException', 'The service encountered an internal error.', { cause: error });
}
