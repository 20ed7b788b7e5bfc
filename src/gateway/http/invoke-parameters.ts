import type { FastifyRequest } from 'fastify';
import { constraintError, LambdaError } from '../lambda/lambda-error.ts';
import { headerOf } from './answer.ts';

/** Largest client context, in bytes of base64. */
const MAX_CLIENT_CONTEXT = 3_583;

export type InvocationType = 'RequestResponse' | 'Event' | 'DryRun';

/** How a request wants its function called, of the types that its operation has. */
export function invocationType(request: FastifyRequest, types: readonly InvocationType[]): InvocationType {
  const value = headerOf(request, 'x-amz-invocation-type');
  const [usual] = types;
  const type = value === '' ? usual : types.find((each) => each === value);
  if (type === undefined) {
    throw constraintError(
      'invocationType',
      value,
      `Member must satisfy enum value set: [${[...types].sort().join(', ')}]`,
    );
  }
  return type;
}

/** Whether the answer is to have the end of the function's log. */
export function isTailWanted(request: FastifyRequest): boolean {
  const value = headerOf(request, 'x-amz-log-type');
  if (value !== '' && value !== 'None' && value !== 'Tail') {
    throw constraintError('logType', value, 'Member must satisfy enum value set: [None, Tail]');
  }
  return value === 'Tail';
}

/** Refuses headers that would make another call of this in Lambda. */
export function refuseForeign(request: FastifyRequest): void {
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
export function clientContext(request: FastifyRequest): string {
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
