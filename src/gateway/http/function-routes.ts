import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Access } from '../access/access.ts';
import type { FunctionWriter } from '../control/function-writer.ts';
import { type FunctionReference, parseFunctionIdentifier } from '../lambda/function-name.ts';
import { lambdaOperations } from '../lambda/generated/operations.ts';
import { observing, type RouteOptions } from './answer.ts';
import { addControlRoutes, writeOperations } from './control-routes.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { invokeOperations } from './invoke-route.ts';
import { allValues, type OperationRoute, serveOperation, takePlace } from './operation-route.ts';
import { type ReadOperation, readOperations } from './read-operations.ts';
import { insteadOf, unsupported, unsupportedOperations } from './unsupported-operations.ts';

export interface FunctionRoutesOptions extends RouteOptions {
  readonly access: Access;
  readonly catalog: FunctionCatalog;
  /** Lets callers change functions; absent where they may not. */
  readonly writer?: FunctionWriter;
}

/** An operation that runs no function: one that reads, or one that ESB refuses by its name. */
export interface Operation extends Omit<ReadOperation, 'action'> {
  /** The right that its caller needs; undefined for an operation that is always refused, after the proof of the sender. */
  readonly action: ReadOperation['action'] | undefined;
}

const written = new Set<string>(writeOperations.map(({ name }) => name));
const answered: readonly string[] = [...readOperations, ...invokeOperations].map(({ name }) => name);

/**
 * The operations that run no function and change none.
 *
 * @param areWritten whether callers may change functions
 */
export function operationsOf(areWritten: boolean): readonly Operation[] {
  return [
    ...readOperations,
    ...unsupportedOperations(new Set([...answered, ...(areWritten ? written : [])])).map((name) => ({
      name,
      action: undefined,
      answer: () => {
        throw written.has(name) ? unsupported(name, `${insteadOf(name)} ${SWITCHED_OFF}`) : unsupported(name);
      },
    })),
  ];
}

const SWITCHED_OFF = 'Or an administrator lets this gateway write them: --control-api.';

/** The operations that read, those that write where callers may, and those that are refused with advice. */
export function addFunctionRoutes(api: FastifyInstance, options: FunctionRoutesOptions): void {
  const { writer } = options;
  if (writer !== undefined) {
    addControlRoutes(api, { ...options, writer });
  }
  for (const operation of operationsOf(writer !== undefined)) {
    const { action, name } = operation;
    const { method, path } = lambdaOperations[name];
    api.route<OperationRoute>({
      method,
      url: path,
      config: { operation: name },
      exposeHeadRoute: false,
      onRequest: [
        observing(options.observer, name),
        options.entrance.hook((request) => {
          if (action === undefined) {
            return undefined;
          }
          const reference = referenceOf(request as FastifyRequest<OperationRoute>);
          request.observation?.addressed(reference?.name ?? '', '', 0);
          return { action, functionName: reference?.name };
        }),
      ],
      handler: (request, reply) => serve(operation, request, reply, options),
    });
  }
}

function serve(
  operation: Operation,
  request: FastifyRequest<OperationRoute>,
  reply: FastifyReply,
  options: FunctionRoutesOptions,
): Promise<FastifyReply> {
  const { entrance, catalog, writer } = options;
  return serveOperation(request, reply, options, lambdaOperations[operation.name].status, async (observation) => {
    const identity = entrance.prove(request, observation);
    const isRefused = operation.action === undefined;
    const notReady = isRefused ? undefined : options.notReady();
    if (notReady !== undefined) {
      throw notReady;
    }
    const reference = (isRefused ? undefined : referenceOf(request)) ?? { name: '' };
    takePlace(request, identity, reference.name);
    if (reference.name !== '') {
      await writer?.refresh(reference);
    }
    return operation.answer(catalog, {
      reference,
      item: request.params.item ?? '',
      query: firstValues(request.query),
    });
  });
}

/** The function that a request names; undefined where its path names none. */
function referenceOf({ params, query }: FastifyRequest<OperationRoute>): FunctionReference | undefined {
  return params.name === undefined ? undefined : parseFunctionIdentifier(params.name, firstValues(query).Qualifier);
}

/** The parameters of a query, of those that come more than once the first. */
function firstValues(query: OperationRoute['Querystring']): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(Object.entries(allValues(query)).map(([name, [first]]) => [name, first]));
}
