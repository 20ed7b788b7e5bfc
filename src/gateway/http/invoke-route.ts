import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { unreachable } from '../../common/errors.ts';
import type { InvokeTimings } from '../../protocol/generated/agent.ts';
import type { Principal } from '../access/principal.ts';
import type { Admission } from '../admission/admission.ts';
import type { FunctionCall, InvokeResult } from '../agents/function-call.ts';
import type { Invoker } from '../invoker.ts';
import { type FunctionReference, parseFunctionIdentifier } from '../lambda/function-name.ts';
import { checkPayload, payloadOf } from '../lambda/json-payload.ts';
import { constraintError, LambdaError } from '../lambda/lambda-error.ts';
import { type CallObservation, startKind } from '../telemetry/observed-call.ts';
import { headerOf, observing, type RouteOptions, sendError, takeObservation, toLambdaError } from './answer.ts';

/** Largest client context, in bytes of base64. */
const MAX_CLIENT_CONTEXT = 3_583;
/** Largest payload of an Event, in bytes. */
const MAX_EVENT_BYTES = 1024 * 1024;
/** Bytes of a log tail, as in Lambda. */
const MAX_LOG_TAIL = 4_096;

export interface InvokeRouteOptions extends RouteOptions {
  readonly invoker: Pick<Invoker, 'find' | 'invoke'>;
  readonly admission: Admission;
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

type InvocationType = 'RequestResponse' | 'Event' | 'DryRun';

interface InvokeRoute {
  readonly Params: { readonly name: string };
  readonly Querystring: { readonly Qualifier?: string };
}

type InvokeRouteRequest = FastifyRequest<InvokeRoute>;

/** Invoke, and its predecessor InvokeAsync, which old programs call: an Invoke of type Event. */
export function addInvokeRoute(api: FastifyInstance, options: InvokeRouteOptions): void {
  const { entrance, observer } = options;
  const add = (operation: string, url: string, asyncOnly: boolean): void => {
    api.route<InvokeRoute>({
      method: 'POST',
      url,
      config: { operation },
      onRequest: [
        observing(observer, operation),
        entrance.hook((request) => {
          const { reference, type } = addressOf(request as InvokeRouteRequest, asyncOnly);
          request.observation?.addressed(reference.name, type, 0);
          return { action: 'invoke', functionName: reference.name };
        }),
      ],
      handler: (request, reply) => serveInvoke(request, reply, options, asyncOnly),
    });
  };
  add('Invoke', '/2015-03-31/functions/:name/invocations', false);
  add('InvokeAsync', '/2014-11-13/functions/:name/invoke-async', true);
}

async function serveInvoke(
  request: InvokeRouteRequest,
  reply: FastifyReply,
  options: InvokeRouteOptions,
  asyncOnly: boolean,
): Promise<FastifyReply> {
  const startedAt = performance.now();
  const observation = takeObservation(request);
  let refusal: LambdaError | undefined;
  let result = '';
  let answer: InvokeResult | undefined;
  try {
    const { admission, entrance, invoker } = options;
    const { caller } = request;
    const body = request.body as Buffer | undefined;
    const identity = entrance.prove(request, observation);
    const { reference, type } = addressOf(request, asyncOnly);
    observation.addressed(reference.name, type, body?.length ?? 0);
    const tailLog = isTailWanted(request);
    refuseForeign(request);
    // Before anything is done with the body that takes time.
    refuseLarge(body, type);
    identity.spend();
    const notReady = options.notReady();
    if (notReady !== undefined) {
      throw notReady;
    }
    invoker.find(reference);
    const call = functionCall(request, reference, type, tailLog, observation);
    switch (type) {
      case 'DryRun':
        checkPayload(call.payload);
        result = 'dry_run';
        return sendNothing(reply, 204, call);
      case 'Event':
        checkPayload(call.payload);
        await options.accept(call, identity.principal);
        result = 'accepted';
        return sendNothing(reply, 202, call);
      case 'RequestResponse': {
        const entrance = admission.enter(call, caller);
        const admitted = entrance instanceof Promise ? await entrance : entrance;
        try {
          observation.admitted(admitted.queuedMs);
          checkPayload(call.payload);
          answer = await invoker.invoke(call, caller, admitted);
          admitted.answered(answer.body.length);
        } finally {
          admitted.release();
        }
        result = resultName(answer);
        return sendResult(request, reply, call, answer, options);
      }
      default:
        return unreachable(type);
    }
  } catch (error) {
    refusal = toLambdaError(error, options.logger, request.id);
    return sendError(reply, refusal, request.id);
  } finally {
    observation.end({
      result: refusal?.errorName ?? result,
      status: reply.statusCode,
      durationMs: performance.now() - startedAt,
      start: answer?.timings?.start ?? '',
      timings: answer?.timings,
      answerBytes: answer?.body.length ?? 0,
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
    traceId: observation.traceId,
    traceParent: observation.traceParent,
  };
}

/** The function that a request names, and how it wants it called. */
function addressOf(
  request: InvokeRouteRequest,
  asyncOnly: boolean,
): { readonly reference: FunctionReference; readonly type: InvocationType } {
  const type = asyncOnly ? 'Event' : invocationType(request);
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
  request: InvokeRouteRequest,
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
  if (timings !== undefined && options.timingHeaders) {
    headers.push('x-esb-start', startKind(timings.start), 'server-timing', serverTiming(timings));
  }
  if (options.isDraining()) {
    headers.push('connection', 'close');
  }
  request.hold.add(answer.body.length);
  // Before the hijack: if a header is invalid, the framework can still answer with an error.
  reply.raw.writeHead(200, headers);
  reply.hijack();
  reply.raw.end(answer.body);
  return reply;
}

function serverTiming({ queued, wake, run, start }: InvokeTimings): string {
  const parts = [`queue;dur=${queued / 1000}`, `wake;dur=${wake / 1000}`, `run;dur=${run / 1000}`];
  return [...parts, ...(start === '' ? [] : [`start;desc="${start}"`])].join(', ');
}

function resultName(answer: InvokeResult): string {
  switch (answer.outcome) {
    case 'answered':
      return answer.functionError ? 'function_error' : 'ok';
    case 'timed-out':
      return 'timed_out';
    case 'exited':
    case 'interrupted':
      return answer.outcome;
    case 'too-large':
      return 'too_large';
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
      throw constraintError(
        'invocationType',
        value,
        'Member must satisfy enum value set: [Event, RequestResponse, DryRun]',
      );
  }
}

function isTailWanted(request: InvokeRouteRequest): boolean {
  const value = headerOf(request, 'x-amz-log-type');
  if (value !== '' && value !== 'None' && value !== 'Tail') {
    throw constraintError('logType', value, 'Member must satisfy enum value set: [None, Tail]');
  }
  return value === 'Tail';
}

/** Refuses headers that would make another call of this in Lambda. */
function refuseForeign(request: InvokeRouteRequest): void {
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
