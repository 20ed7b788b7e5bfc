import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { versionNameOf } from '../../api/lambda-version.ts';
import type { Access, ControlAction, Identity } from '../access/access.ts';
import { principalName } from '../access/principal.ts';
import { isPresigned } from '../access/signature.ts';
import type { FunctionTarget, FunctionWriter } from '../control/function-writer.ts';
import { parseMembers } from '../control/members.ts';
import { type FunctionReference, parseFunctionIdentifier } from '../lambda/function-name.ts';
import { lambdaOperations } from '../lambda/generated/operations.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import { observing, type RouteOptions } from './answer.ts';
import { functionConfigOperations } from './config-operations.ts';
import type { Errand } from './entrance.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { allValues, type OperationRoute, serveOperation, takePlace } from './operation-route.ts';
import { functionOperations, versionIn, type WriteOperation } from './write-operations.ts';

export interface ControlRoutesOptions extends RouteOptions {
  readonly access: Access;
  readonly catalog: FunctionCatalog;
  readonly writer: FunctionWriter;
}

/** Every operation that writes. */
export const writeOperations: readonly WriteOperation[] = [...functionOperations, ...functionConfigOperations];

const NO_BODY = Buffer.alloc(0);

/** The operations that write, for a gateway whose operator lets callers change functions. */
export function addControlRoutes(api: FastifyInstance, options: ControlRoutesOptions): void {
  const { entrance, observer, writer } = options;
  for (const operation of writeOperations) {
    const { method, path } = lambdaOperations[operation.name];
    api.route<OperationRoute>({
      method,
      url: path,
      config: { operation: operation.name },
      onRequest: [
        observing(observer, operation.name),
        entrance.hook((request) => {
          refusePresigned(request.url);
          const reference = referenceOf(request as FastifyRequest<OperationRoute>);
          request.observation?.addressed(reference.name, '', 0);
          return errandOf(operation, reference, writer);
        }),
      ],
      handler: (request, reply) => serve(operation, request, reply, options),
    });
  }
}

function serve(
  operation: WriteOperation,
  request: FastifyRequest<OperationRoute>,
  reply: FastifyReply,
  options: ControlRoutesOptions,
): Promise<FastifyReply> {
  const { access, catalog, entrance, notReady, writer } = options;
  return serveOperation(request, reply, options, lambdaOperations[operation.name].status, async (observation) => {
    const identity: Identity = entrance.prove(request, observation);
    const reference = referenceOf(request);
    takePlace(request, identity, reference.name);
    const refusal = notReady();
    if (refusal !== undefined) {
      throw refusal;
    }
    const { caller } = request;
    const proved = { principal: identity.principal, claimedKey: undefined };
    const target = writer.targetOf(reference.name);
    // Since the head was looked at, the name may have come to mean another object.
    const { action, called, functionName } = errandOf(operation, reference, writer);
    await access.authorize(proved, action, functionName, caller.address, called);
    const authorize = async (
      also: ControlAction | 'invoke',
      { name: calledName, objectName }: FunctionTarget,
    ): Promise<void> => {
      await access.authorize(proved, also, objectName, caller.address, calledName);
    };
    const name = principalName(identity.principal);
    return await operation.run(
      { catalog, writer, authorize, isGone: () => caller.gone },
      {
        reference,
        target,
        item: request.params.item ?? '',
        query: allValues(request.query),
        members: parseMembers((request.body as Buffer | undefined) ?? NO_BODY),
        author: {
          name: name === '' ? 'system:anonymous' : name,
          requestId: request.id,
          operation: operation.name,
        },
      },
    );
  });
}

/**
 * Refuses a write by a URL that may be used until it runs out. SDKs presign none.
 *
 * @throws {LambdaError} AccessDeniedException
 */
function refusePresigned(url: string): void {
  if (isPresigned(url)) {
    throw new LambdaError('AccessDeniedException', 'Presigned URLs write nothing: sign the request in its headers.');
  }
}

/**
 * The right that a request needs before its body is read, by the name of the object. A new function has its name in the
 * body: the right to create is one to all.
 */
function errandOf(
  { action }: WriteOperation,
  { name, qualifier }: FunctionReference,
  writer: FunctionWriter,
): Errand & { readonly action: ControlAction } {
  if (action === 'create') {
    return { action, functionName: undefined };
  }
  const { objectName } = writer.targetOf(name);
  return action === 'delete' && qualifier !== undefined
    ? { action: 'delete-version', functionName: versionNameOf(objectName, versionIn(qualifier)), called: name }
    : { action, functionName: objectName, called: name };
}

/** The function that a request names; an empty name where its path names none. */
function referenceOf({ params, query }: FastifyRequest<OperationRoute>) {
  return params.name === undefined
    ? { name: '' }
    : parseFunctionIdentifier(params.name, allValues(query).Qualifier?.[0]);
}
