import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from '../../common/logger.ts';
import { type FunctionReference, parseFunctionIdentifier } from '../lambda/function-name.ts';
import type { LambdaError } from '../lambda/lambda-error.ts';
import type { CallObserver } from '../telemetry/observed-call.ts';
import { observing, sendError, sendJson, takeObservation, toLambdaError } from './answer.ts';
import type { Entrance } from './entrance.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { type ReadOperation, readOperations } from './read-operations.ts';

/** The means of the routes that read. */
export interface FunctionRoutesOptions {
  readonly catalog: FunctionCatalog;
  readonly entrance: Entrance;
  readonly observer: CallObserver;
  /** Why nothing can be said about any function yet; undefined when that is not so. */
  readonly notReady: () => LambdaError | undefined;
  readonly logger: Logger;
}

interface ReadRoute {
  readonly Params: { readonly name?: string; readonly item?: string };
  readonly Querystring: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** The operations that read. */
export function addFunctionRoutes(api: FastifyInstance, options: FunctionRoutesOptions): void {
  for (const operation of readOperations) {
    api.route<ReadRoute>({
      method: 'GET',
      url: operation.url,
      config: { operation: operation.name },
      exposeHeadRoute: false,
      onRequest: [
        observing(options.observer, operation.name),
        options.entrance.hook((request) => {
          const reference = referenceOf(request as FastifyRequest<ReadRoute>);
          request.observation?.addressed(reference?.name ?? '', '', 0);
          return { action: operation.action, functionName: reference?.name };
        }),
      ],
      handler: (request, reply) => serveRead(operation, request, reply, options),
    });
  }
}

async function serveRead(
  operation: ReadOperation,
  request: FastifyRequest<ReadRoute>,
  reply: FastifyReply,
  options: FunctionRoutesOptions,
): Promise<FastifyReply> {
  const startedAt = performance.now();
  const observation = takeObservation(request);
  const { entrance, catalog } = options;
  const { params } = request;
  let result = 'ok';
  let answerBytes = 0;
  try {
    entrance.prove(request, observation);
    const notReady = options.notReady();
    if (notReady !== undefined) {
      throw notReady;
    }
    const answer = operation.answer(catalog, {
      reference: referenceOf(request) ?? { name: '' },
      item: params.item ?? '',
      query: firstValues(request.query),
    });
    const body = Buffer.from(JSON.stringify(answer));
    answerBytes = body.length;
    return sendJson(reply, body, request.id);
  } catch (error) {
    const known = toLambdaError(error, options.logger, request.id);
    result = known.errorName;
    return sendError(reply, known, request.id);
  } finally {
    observation.end({
      result,
      status: reply.statusCode,
      durationMs: performance.now() - startedAt,
      start: '',
      timings: undefined,
      answerBytes,
    });
  }
}

/** The function that a request names; undefined where its path names none. */
function referenceOf({ params, query }: FastifyRequest<ReadRoute>): FunctionReference | undefined {
  return params.name === undefined
    ? undefined
    : parseFunctionIdentifier(params.name, firstValues(query).Qualifier);
}

/** The parameters of a query, of those that come more than once the first. */
function firstValues(query: ReadRoute['Querystring']): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(
    Object.entries(query).map(([name, value]) => [
      name,
      value === undefined || typeof value === 'string' ? value : value[0],
    ]),
  );
}
