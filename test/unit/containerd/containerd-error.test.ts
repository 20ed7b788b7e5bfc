import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { DeadlineError } from '../../../src/common/deadline.ts';
import { containerdError } from '../../../src/containerd/containerd-error.ts';
import { ContainerdProto, dateOf } from '../../../src/containerd/containerd-proto.ts';

function serviceError(code: status, details = 'details'): ServiceError {
  return Object.assign(new Error(`${code} ${details}`), { code, details, metadata: new Metadata() });
}

describe('containerdError', () => {
  it.each([
    [status.NOT_FOUND, 'NotFound', false],
    [status.ALREADY_EXISTS, 'AlreadyExists', false],
    [status.FAILED_PRECONDITION, 'FailedPrecondition', false],
    [status.INVALID_ARGUMENT, 'InvalidArgument', false],
    [status.DEADLINE_EXCEEDED, 'DeadlineExceeded', true],
    [status.UNAVAILABLE, 'RuntimeUnavailable', true],
    // A connection that breaks cancels the calls on it.
    [status.CANCELLED, 'RuntimeUnavailable', true],
    [status.UNKNOWN, 'ContainerdFailed', false],
  ] as const)('turns the gRPC status %d into %s', (code, expected, retryable) => {
    expect(containerdError('containerd Tasks.Get', serviceError(code))).toMatchObject({
      code: expected,
      retryable,
      message: 'containerd Tasks.Get: details',
    });
  });

  it('knows a full disk', () => {
    const full = serviceError(status.UNKNOWN, 'write /x: no space left on device');
    expect(containerdError('x', full)).toMatchObject({ code: 'DiskFull', retryable: true });
  });

  it('knows whose doing an end was', () => {
    const controller = new AbortController();
    controller.abort();
    const cancelled = serviceError(status.CANCELLED);
    expect(containerdError('x', cancelled, controller.signal).code).toBe('Aborted');
    const late = new AbortController();
    late.abort(new DeadlineError('y', 5));
    expect(containerdError('x', cancelled, late.signal).code).toBe('DeadlineExceeded');
    // The server's timer of the deadline fires a moment before the client's.
    expect(containerdError('x', cancelled, undefined, true).code).toBe('DeadlineExceeded');
    expect(containerdError('x', new Error('odd')).code).toBe('ContainerdFailed');
  });
});

describe('ContainerdProto', () => {
  const proto = new ContainerdProto();
  it('has what is asked of it, or says so', () => {
    expect(proto.method('containerd.services.tasks.v1.Tasks', 'Create').path).toBe(
      '/containerd.services.tasks.v1.Tasks/Create',
    );
    expect(() => proto.method('containerd.services.tasks.v1.Tasks', 'Fly')).toThrow('Tasks/Fly');
    expect(() => proto.pack('containerd.types.Nothing', {})).toThrow('containerd.types.Nothing');
  });

  it('packs messages as containerd names and encodes them', () => {
    const packed = proto.pack('containerd.types.transfer.ImageStore', { name: 'a' });
    expect(packed).toEqual({
      type_url: 'containerd.types.transfer.ImageStore',
      value: Buffer.from([10, 1, 97]),
    });
    expect(proto.unpack('containerd.types.transfer.ImageStore', packed)).toMatchObject({ name: 'a' });
  });
});

describe('dateOf', () => {
  it('reads a timestamp, and none', () => {
    expect(dateOf({ seconds: '1', nanos: 500_000_000 })).toEqual(new Date(1500));
    expect(dateOf({ seconds: '-62135596800', nanos: 0 })).toBeUndefined();
    expect(dateOf(null)).toBeUndefined();
  });
});
