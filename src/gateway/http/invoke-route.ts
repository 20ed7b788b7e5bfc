import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { unreachable } from '../../common/errors.ts';
import { completeXRay } from '../../common/tracing/trace-context.ts';
import type { InvokeTimings } from '../../protocol/generated/agent.ts';
import type { Principal } from '../access/principal.ts';
import type { FunctionCall, InvokeResult } from '../agents/function-call.ts';
import type { Invoker } from '../dispatch/invoker.ts';
import { type FunctionReference, parseFunctionIdentifier } from '../lambda/function-name.ts';
import { lambdaOperations, lambdaShapes, type OperationName } from '../lambda/generated/operations.ts';
import { checkInPieces, checkPayload, MAX_EVENT_BYTES, MAX_PAYLOAD_BYTES, payloadOf } from '../lambda/json-payload.ts';
import { choiceError, LambdaError } from '../lambda/lambda-error.ts';
import { type CallObservation, startKind } from '../telemetry/observed-call.ts';
import {
  headerOf,
  observing,
  type RouteOptions,
  resultName,
  sendError,
  takeObservation,
  toLambdaError,
} from './answer.ts';
import { EventStreamAnswer } from './streamed-answer.ts';

/** Largest client context, in bytes of base64. */
const MAX_CLIENT_CONTEXT = 3_583;
/** Bytes of a log tail, as in Lambda. */
const MAX_LOG_TAIL = 4_096;

export interface InvokeRouteOptions extends RouteOptions {
  readonly invoker: Pick<Invoker, 'enter' | 'find' | 'invoke'>;
  /**
   * Takes over a call of type Event. Settles only when the event is kept.
   *
   * @throws {LambdaError} when it is not
   */
  readonly accept: (call: FunctionCall, principal: Principal) => Promise<void>;
  /** Whether clients are to be sent elsewhere: answers then end their connection. */
  readonly isDraining: () => boolean;
  /** Whether answers have headers with the worker's state and the times of the call. */
  readonly timingHeaders: boolean;
}

/** Choices for the end of the log, read once: each call may ask for that. */
const LOG_TYPES: readonly string[] = lambdaShapes.LogType.enum;

type InvocationType = (typeof lambdaShapes.InvocationType.enum)[number];

/** An operation that runs a function. */
export interface InvokeOperation {
  readonly name: OperationName;
  /** RequestResponse where the request names none. */
  readonly types: readonly InvocationType[];
  /** Whether the answer is a stream of events. */
  readonly streams: boolean;
}

/** InvokeAsync is the predecessor of an Invoke of type Event, which old programs call. */
export const invokeOperations: readonly InvokeOperation[] = [
  { name: 'Invoke', types: lambdaShapes.InvocationType.enum, streams: false },
  { name: 'InvokeAsync', types: ['Event'], streams: false },
  { name: 'InvokeWithResponseStream', types: lambdaShapes.ResponseStreamingInvocationType.enum, streams: true },
];

interface InvokeRoute {
  readonly Params: { readonly name: string };
  readonly Querystring: { readonly Qualifier?: string };
}

type InvokeRouteRequest = FastifyRequest<InvokeRoute>;

/** The operations that run a function. */
export function addInvokeRoutes(api: FastifyInstance, options: InvokeRouteOptions): void {
  const { entrance, observer } = options;
  for (const operation of invokeOperations) {
    const { method, path } = lambdaOperations[operation.name];
    api.route<InvokeRoute>({
      method,
      url: path,
      config: { operation: operation.name, maxBodyBytes: MAX_PAYLOAD_BYTES },
      onRequest: [
        observing(observer, operation.name),
        entrance.hook((request) => {
          const { reference, type } = addressOf(request as InvokeRouteRequest, operation);
          request.observation?.addressed(reference.name, type, 0);
          return { action: 'invoke', functionName: reference.name };
        }),
      ],
      handler: (request, reply) => serveInvoke(request, reply, options, operation),
    });
  }
}

async function serveInvoke(
  request: InvokeRouteRequest,
  reply: FastifyReply,
  options: InvokeRouteOptions,
  operation: InvokeOperation,
): Promise<FastifyReply> {
  const startedAt = performance.now();
  const observation = takeObservation(request);
  let refusal: LambdaError | undefined;
  let result = '';
  let answer: InvokeResult | undefined;
  let stream: EventStreamAnswer | undefined;
  try {
    const { entrance, invoker } = options;
    const { caller } = request;
    const body = request.body as Buffer | undefined;
    const identity = entrance.prove(request, observation);
    const { reference, type } = addressOf(request, operation);
    observation.addressed(reference.name, type, body?.length ?? 0);
    const tailLog = isTailWanted(request);
    refuseForeign(request);
    // Before anything is done with the body that takes time.
    refuseLarge(body, type);
    const notReady = options.notReady();
    if (notReady !== undefined) {
      throw notReady;
    }
    invoker.find(reference);
    const call = functionCall(request, reference, type, tailLog, observation);
    switch (type) {
      case 'DryRun':
        await checkInPieces(call.payload);
        result = 'dry_run';
        return sendNothing(reply, 204, call);
      case 'Event':
        checkPayload(call.payload);
        await options.accept(call, identity.principal);
        result = 'accepted';
        return sendNothing(reply, 202, call);
      case 'RequestResponse': {
        const entrance = invoker.enter(call, caller, request.hold.room);
        const entered = entrance instanceof Promise ? await entrance : entrance;
        try {
          observation.admitted(entered.queuedMs);
          const checking = checkInPieces(call.payload);
          if (checking !== undefined) {
            await checking;
          }
          if (operation.streams) {
            const headers = headersOf(call, options);
            stream = new EventStreamAnswer({ reply, hold: request.hold, headers });
          }
          answer = await invoker.invoke(call, caller, entered, stream);
          entered.answered(answer.body.length, request.hold);
        } finally {
          entered.release();
        }
        result = resultName(answer);
        return stream === undefined
          ? sendResult(reply, call, answer, options)
          : stream.finish(answer, outcomeHeaders(answer, options), tailOf(call, answer));
      }
      default:
        return unreachable(type);
    }
  } catch (error) {
    refusal = toLambdaError(error, options.logger, request.id);
    return stream?.hasBegun ? stream.fail(refusal) : sendError(reply, refusal, request.id);
  } finally {
    observation.end({
      result: refusal?.errorName ?? result,
      status: reply.statusCode,
      durationMs: performance.now() - startedAt,
      start: answer?.timings?.start ?? '',
      timings: answer?.timings,
      answerBytes: stream?.bytes ?? answer?.body.length ?? 0,
    });
  }
}

function functionCall(
  request: InvokeRouteRequest,
  reference: FunctionReference,
  type: InvocationType,
  tailLog: boolean,
  observation: CallObservation,
): FunctionCall {
  return {
    reference,
    requestId: request.id,
    payload: payloadOf(request.body as Buffer | undefined),
    // Lambda gives it to synchronous calls only.
    clientContext: type === 'RequestResponse' ? clientContext(request) : '',
    tailLog,
    traceId: completeXRay(observation.traceId, reference.name),
    traceParent: observation.traceParent,
  };
}

/** The function that a request names, and how it wants it called. */
function addressOf(
  request: InvokeRouteRequest,
  { types }: InvokeOperation,
): { readonly reference: FunctionReference; readonly type: InvocationType } {
  // InvokeAsync has one type, and looks at no header for it.
  const type = types.length === 1 ? (types[0] ?? 'Event') : invocationType(request, types);
  return { reference: parseFunctionIdentifier(request.params.name, request.query.Qualifier), type };
}

function refuseLarge(body: Buffer | undefined, type: InvocationType): void {
  if (type === 'Event' && body !== undefined && body.length > MAX_EVENT_BYTES) {
    throw new LambdaError(
      'RequestTooLargeException',
      `${body.length} byte payload is too large for the Event invocation type (limit ${MAX_EVENT_BYTES} bytes)`,
    );
  }
}

function sendNothing(reply: FastifyReply, status: number, call: FunctionCall): FastifyReply {
  if (call.traceId !== '') {
    reply.header('x-amzn-trace-id', call.traceId);
  }
  return reply.code(status).header('x-amzn-requestid', call.requestId).send();
}

/** Written past the framework, whose hooks and serializers have no use here: this is the path of every call. */
function sendResult(
  reply: FastifyReply,
  call: FunctionCall,
  answer: InvokeResult,
  options: InvokeRouteOptions,
): FastifyReply {
  const headers = [
    'content-type',
    answer.contentType || 'application/json',
    'content-length',
    String(answer.body.length),
    ...headersOf(call, options),
    'x-amz-executed-version',
    answer.executedVersion,
    ...outcomeHeaders(answer, options),
  ];
  if (answer.functionError) {
    headers.push('x-amz-function-error', 'Unhandled');
  }
  const tail = tailOf(call, answer);
  if (tail !== undefined) {
    headers.push('x-amz-log-result', tail);
  }
  // Before the hijack: if a header is invalid, the framework can still answer with an error.
  reply.raw.writeHead(200, headers);
  reply.hijack();
  reply.raw.end(answer.body);
  return reply;
}

/** Headers that are known before the answer. */
function headersOf(call: FunctionCall, options: InvokeRouteOptions): readonly string[] {
  const headers = ['x-amzn-requestid', call.requestId];
  if (call.traceId !== '') {
    headers.push('x-amzn-trace-id', call.traceId);
  }
  if (options.isDraining()) {
    headers.push('connection', 'close');
  }
  return headers;
}

function outcomeHeaders({ outcome, timings }: InvokeResult, options: InvokeRouteOptions): readonly string[] {
  const headers = outcome === 'unknown' ? ['x-esb-outcome', 'unknown'] : [];
  if (timings !== undefined && options.timingHeaders) {
    headers.push('x-esb-start', startKind(timings.start), 'server-timing', serverTiming(timings));
  }
  return headers;
}

/** The end of the log in base64, where the caller wants one. */
function tailOf(call: FunctionCall, answer: InvokeResult): string | undefined {
  return call.tailLog ? (answer.logTail?.subarray(-MAX_LOG_TAIL).toString('base64') ?? '') : undefined;
}

function serverTiming({ queued, wake, run, start }: InvokeTimings): string {
  const parts = [`queue;dur=${queued / 1000}`, `wake;dur=${wake / 1000}`, `run;dur=${run / 1000}`];
  return [...parts, ...(start === '' ? [] : [`start;desc="${start}"`])].join(', ');
}

/** How a request wants its function called, of the types that its operation has. */
function invocationType(request: FastifyRequest, types: readonly InvocationType[]): InvocationType {
  const value = headerOf(request, 'x-amz-invocation-type');
  const type = value === '' ? 'RequestResponse' : types.find((each) => each === value);
  if (type === undefined) {
    throw choiceError('invocationType', value, types);
  }
  return type;
}

/** Whether the answer is to have the end of the function's log. */
function isTailWanted(request: FastifyRequest): boolean {
  const value = headerOf(request, 'x-amz-log-type');
  if (value !== '' && !LOG_TYPES.includes(value)) {
    throw choiceError('logType', value, LOG_TYPES);
  }
  return value === 'Tail';
}

/** Refuses headers that would make another call of this in Lambda. */
function refuseForeign(request: FastifyRequest): void {
  if (headerOf(request, 'x-amz-tenant-id') !== '') {
    throw new LambdaError(
      'InvalidParameterValueException',
      'The function does not isolate tenants: call it without TenantId.',
    );
  }
  if (headerOf(request, 'x-amz-durable-execution-name') !== '') {
    throw new LambdaError(
      'InvalidParameterValueException',
      'The function is not a durable function: call it without DurableExecutionName.',
    );
  }
}

/** The client context, as the function gets it; empty for none. */
function clientContext(request: FastifyRequest): string {
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
