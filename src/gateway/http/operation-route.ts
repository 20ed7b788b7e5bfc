import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Identity } from '../access/access.ts';
import { overloaded } from '../admission/admission-policy.ts';
import { callerKey } from '../admission/request-rates.ts';
import { type CallObservation, NOT_RUN } from '../telemetry/observed-call.ts';
import { type RouteOptions, sendError, sendJson, takeObservation, toLambdaError } from './answer.ts';

/** Path and query of an operation that runs no function. */
export interface OperationRoute {
  readonly Params: { readonly name?: string; readonly item?: string };
  readonly Querystring: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/**
 * Answers an operation that runs no function, and observes how it ended.
 *
 * @param status of an answer; one of nothing has 204
 * @param answer the answer, or undefined for nothing. Its errors are answered in the words of Lambda
 */
export async function serveOperation(
  request: FastifyRequest<OperationRoute>,
  reply: FastifyReply,
  { logger }: Pick<RouteOptions, 'logger'>,
  status: number,
  answer: (observation: CallObservation) => Promise<unknown>,
): Promise<FastifyReply> {
  const startedAt = performance.now();
  const observation = takeObservation(request);
  let result = 'ok';
  let answerBytes = 0;
  try {
    const told = await answer(observation);
    if (status === 204 || told === undefined) {
      return reply.code(204).header('x-amzn-requestid', request.id).send();
    }
    const body = Buffer.from(JSON.stringify(told));
    if (!request.hold.takeReply(body.length)) {
      // Unlike the answer of a call, this one can be asked for again.
      throw overloaded();
    }
    answerBytes = body.length;
    return sendJson(reply, body, request.id, status);
  } catch (error) {
    const known = toLambdaError(error, logger, request.id);
    result = known.errorName;
    return sendError(reply, known, request.id);
  } finally {
    const durationMs = performance.now() - startedAt;
    observation.end({ ...NOT_RUN, result, status: reply.statusCode, durationMs, answerBytes });
  }
}

/**
 * Takes the place of an operation, which may wait for seconds, among those that run no function.
 *
 * @throws {LambdaError} TooManyRequestsException when the caller or the function has no more of them
 */
export function takePlace({ caller, hold }: FastifyRequest, { principal }: Identity, functionName: string): void {
  if (!hold.takeOperation(callerKey(principal, caller), functionName)) {
    throw overloaded();
  }
}

/** The parameters of a query, each with all of its values. */
export function allValues(query: OperationRoute['Querystring']): Readonly<Record<string, readonly string[]>> {
  return Object.fromEntries(
    Object.entries(query).map(([name, value]) => [name, value === undefined ? [] : ([value].flat() as string[])]),
  );
}
