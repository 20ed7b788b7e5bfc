import { describe, expect, it } from 'vitest';
import { AbortedError, DeadlineError } from '../../../src/common/deadline.ts';
import { dockerError } from '../../../src/docker/docker-error.ts';

function answered(statusCode: number, message: string): Error {
  return Object.assign(new Error(`(HTTP code ${statusCode}) no such container - ${message} `), {
    statusCode,
    json: { message },
  });
}

describe('an error of the engine', () => {
  it.each([
    [304, 'container already started', 'FailedPrecondition', false],
    [400, 'invalid reference format', 'InvalidArgument', false],
    [404, 'No such container: x', 'NotFound', false],
    [409, 'Container x is already paused', 'FailedPrecondition', false],
    [500, 'write /var/lib/docker/x: no space left on device', 'DiskFull', true],
    [500, 'something else', 'DockerFailed', false],
  ])('with status %i and %j is %s', (status, message, code, retryable) => {
    const error = dockerError('docker container start x', answered(status, message));
    expect(error).toMatchObject({ code, retryable, message: `docker container start x: ${message}` });
  });

  it('keeps the words of an answer that is no JSON', () => {
    const error = Object.assign(new Error('(HTTP code 500) server error - it broke '), { statusCode: 500 });
    expect(dockerError('docker version', error).message).toBe('docker version: it broke');
  });

  it.each(['ENOENT', 'ECONNREFUSED', 'EACCES', 'ECONNRESET'])('of the connection, %s, may be tried again', (code) => {
    const error = Object.assign(new Error(`connect ${code}`), { code });
    expect(dockerError('docker version', error)).toMatchObject({
      code: 'RuntimeUnavailable',
      retryable: true,
    });
  });

  it('of an answer that ends in the middle may be tried again', () => {
    expect(dockerError('docker events', new Error('aborted')).code).toBe('RuntimeUnavailable');
  });

  it('is the reason of the signal that fired, whatever the client makes of it', () => {
    const late = new DeadlineError('x', 5);
    expect(dockerError('x', new Error('aborted'), AbortSignal.abort(late))).toBe(late);
    expect(dockerError('x', new Error('aborted'), AbortSignal.abort())).toBeInstanceOf(AbortedError);
  });
});
