import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from '../../common/logger.ts';
import type { CallObserver } from '../telemetry/observed-call.ts';
import { observing, refusalReport, sendError, takeObservation, toLambdaError } from './answer.ts';
import type { Entrance } from './entrance.ts';
import { type UnsupportedOperation, unsupported, unsupportedOperations } from './unsupported-operations.ts';

/** What the routes of operations that there are not stand on. */
export interface UnsupportedRoutesOptions {
  readonly entrance: Entrance;
  readonly observer: CallObserver;
  readonly logger: Logger;
}

/**
 * The operations that write, and others that ESB has nothing for: each is known by its name, and answered with an error
 * that says what to do instead. Strangers are told as little as anywhere else.
 */
export function addUnsupportedRoutes(api: FastifyInstance, options: UnsupportedRoutesOptions): void {
  for (const operation of unsupportedOperations) {
    api.route({
      method: operation.method,
      url: operation.url,
      config: { operation: operation.name },
      exposeHeadRoute: false,
      onRequest: [observing(options.observer, operation.name), options.entrance.hook(() => undefined)],
      handler: (request, reply) => refuse(operation, request, reply, options),
    });
  }
}

async function refuse(
  { name, instead }: UnsupportedOperation,
  request: FastifyRequest,
  reply: FastifyReply,
  { entrance, logger }: UnsupportedRoutesOptions,
): Promise<FastifyReply> {
  const observation = takeObservation(request);
  let refusal = unsupported(name, instead);
  try {
    entrance.prove(request, observation);
  } catch (error) {
    refusal = toLambdaError(error, logger, request.id);
  }
  observation.end(refusalReport(refusal, 0));
  return sendError(reply, refusal, request.id);
}
