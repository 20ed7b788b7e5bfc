import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify';
import { unreachable } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Hold } from '../admission/room.ts';
import type { InvokeResult } from '../agents/function-call.ts';
import type { Caller } from '../lambda/caller.ts';
import { LambdaError, lambdaErrorAnswer } from '../lambda/lambda-error.ts';
import {
  type CallObservation,
  type CallObserver,
  type CallReport,
  NOT_RUN,
  UNOBSERVED,
} from '../telemetry/observed-call.ts';
import type { Entrance, Visitor } from './entrance.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The client that waits for the answer. */
    caller: Caller;
    /** The request's hold on the room of the gateway. */
    hold: Hold;
    /** The sender; undefined before the head has been looked at. */
    visitor: Visitor | undefined;
    /** The observation of the request, until its end is reported or taken over; undefined before it begins. */
    observation: CallObservation | undefined;
  }

  interface FastifyContextConfig {
    /** The operation of a route, as SDKs name it. */
    operation?: string;
    /** Bytes that the body of a request may have; those of an operation that runs no function when absent. */
    maxBodyBytes?: number;
  }
}

/** A hook of a route that begins to follow its requests. */
export function observing(
  observer: CallObserver,
  operation: string,
): (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction) => void {
  return (request, _reply, done) => {
    request.observation = observer({ requestId: request.id, operation, message: request.raw });
    done();
  };
}

export interface RouteOptions {
  readonly entrance: Entrance;
  readonly observer: CallObserver;
  /** Why nothing can be said about any function yet; undefined when that is not so. */
  readonly notReady: () => LambdaError | undefined;
  readonly logger: Logger;
}

/** Takes over the observation of a request, and with it the duty to report its end. */
export function takeObservation(request: FastifyRequest): CallObservation {
  const { observation } = request;
  request.observation = UNOBSERVED;
  return observation ?? UNOBSERVED;
}

/** The report of a request that was refused. */
export function refusalReport(error: LambdaError): CallReport {
  return { ...NOT_RUN, result: error.errorName, status: error.status };
}

export function sendError(reply: FastifyReply, error: LambdaError, requestId: string): FastifyReply {
  const answer = lambdaErrorAnswer(error, requestId);
  if (answer.status === 408) {
    // The rest of the request would be taken for the next one, or waited for.
    reply.header('connection', 'close');
  }
  reply.request.hold?.add(answer.body.length);
  return reply.code(answer.status).headers(answer.headers).send(answer.body);
}

export function sendJson(reply: FastifyReply, json: Buffer, requestId: string, status = 200): FastifyReply {
  return reply.code(status).headers({ 'content-type': 'application/json', 'x-amzn-requestid': requestId }).send(json);
}

/** The error for the caller. Faults of the gateway are logged. */
export function toLambdaError(error: unknown, logger: Logger, requestId: string): LambdaError {
  if (error instanceof LambdaError) {
    return error;
  }
  if (error instanceof Error && 'statusCode' in error && Number(error.statusCode) < 500) {
    return new LambdaError('InvalidRequestContentException', error.message, { cause: error });
  }
  logger.error({ err: error, requestId }, 'call failed for a fault of the gateway');
  return new LambdaError('ServiceException', 'The service encountered an internal error.', { cause: error });
}

/** The result of a call as metrics and logs name it. */
export function resultName(answer: InvokeResult): string {
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
    case 'init-failed':
      return 'init_failed';
    case 'unknown':
      return 'unknown';
    default:
      return unreachable(answer.outcome);
  }
}

/** A header of a request; the first of several, and empty for none. */
export function headerOf(request: FastifyRequest, name: string): string {
  const value = request.headers[name];
  return typeof value === 'string' ? value : (value?.[0] ?? '');
}
