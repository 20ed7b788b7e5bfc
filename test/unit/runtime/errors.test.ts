import { describe, expect, it } from 'vitest';
import { AbortedError } from '../../../src/common/deadline.ts';
import { EsbError } from '../../../src/common/errors.ts';
import { ContainerdError } from '../../../src/containerd/containerd-error.ts';
import { versionFault } from '../../../src/runtime/containerd/version.ts';
import { WorkerExitError } from '../../../src/runtime/contract/worker-exit-error.ts';
import { pullError } from '../../../src/runtime/images/pull-error.ts';
import { createError, networkError } from '../../../src/runtime/start/create-error.ts';

describe('pullError', () => {
  const prefix = 'containerd Transfer.Transfer: ';
  it.each([
    ['ImageNotFound', 'failed to resolve image: r/x:1: not found'],
    [
      'RegistryUnreachable',
      'failed to do request: Head "http://r/v2/": dial tcp 10.0.0.1:80: connect: connection refused',
    ],
    ['RegistryUnreachable', 'failed to do request: Head "https://r/v2/": dial tcp: lookup r: no such host'],
    ['RegistryUnreachable', 'tls: failed to verify certificate: x509: certificate signed by unknown authority'],
    ['ImagePullFailed', 'pull access denied, repository does not exist: insufficient_scope: authorization failed'],
    ['ImagePullFailed', 'unexpected status from GET request: 500 Internal Server Error'],
    ['ImageWrongPlatform', 'no match for platform in manifest: not found'],
  ])('is %s for: %s', (code, text) => {
    const error = pullError('r/x:1', new ContainerdError(prefix + text, 'ContainerdFailed'));
    expect(error).toMatchObject({ code, message: expect.stringMatching(/^pulling r\/x:1: /) });
    expect(error.message).not.toContain('Transfer');
  });

  it('keeps what is not of the registry', () => {
    for (const code of ['RuntimeUnavailable', 'DeadlineExceeded'] as const) {
      expect(pullError('r/x:1', new ContainerdError('x', code)).code).toBe(code);
    }
    expect(pullError('r/x:1', new AbortedError('pulling')).code).toBe('Aborted');
    expect(pullError('r/x:1', new ContainerdError('x', 'DiskFull'))).toMatchObject({
      code: 'DiskFull',
      retryable: true,
    });
    expect(pullError('r/x:1', new ContainerdError('x', 'NotFound')).code).toBe('ImageNotFound');
  });
});

describe('createError', () => {
  const runc = 'containerd Tasks.Create: failed to create shim task: OCI runtime create failed: runc create failed: ';
  it('drops the names of those who passed it on', () => {
    const error = createError('CreateFailed', new ContainerdError(`${runc}exec: "x": not found`, 'ContainerdFailed'));
    expect(error).toMatchObject({ code: 'CreateFailed', message: 'exec: "x": not found', retryable: true });
  });

  it.each([
    'container init was OOM-killed (memory limit too low?)',
    'unable to set memory limit to 2097152 (current usage: 2805760, peak usage: 3035136)',
  ])('knows a limit that is too small: %s', (text) => {
    const error = createError('StartFailed', new ContainerdError(runc + text, 'ContainerdFailed'));
    expect(error).toMatchObject({
      code: 'MemoryTooSmall',
      message: expect.stringContaining('limits.memory'),
    });
  });

  it('keeps what is not of the container', () => {
    expect(createError('StartFailed', new ContainerdError('x', 'RuntimeUnavailable')).code).toBe('RuntimeUnavailable');
    expect(createError('StartFailed', new AbortedError('x')).code).toBe('Aborted');
    expect(createError('StartFailed', new ContainerdError('x', 'DiskFull')).code).toBe('DiskFull');
  });
});

describe('networkError', () => {
  it('names what has no name, and keeps the others', () => {
    expect(networkError(new Error('broken'))).toMatchObject({ code: 'NetworkFailed', message: 'broken' });
    expect(networkError(new EsbError('full', { code: 'AddressesExhausted' })).code).toBe('AddressesExhausted');
  });
});

describe('versionFault', () => {
  it.each(['2.0.0', 'v2.4.2', '2.4.2+unknown', '10.1.0', '3.0.0-rc.1'])('accepts %s', (version) => {
    expect(versionFault(version)).toBeUndefined();
  });
  it.each(['1.7.29', 'v1.6.0', '', 'unknown'])("refuses '%s'", (version) => {
    expect(versionFault(version)).toMatch(/2\.0 or newer is needed/);
  });
});

describe('WorkerExitError', () => {
  it('tells how the process ended and what it said last', () => {
    const finishedAt = new Date(0);
    const crash = new WorkerExitError('a', {
      exitCode: 7,
      oomKilled: false,
      finishedAt,
      output: 'no wand\n',
    });
    expect(crash.message).toBe(
      'the process of a exited with code 7 before its port was open; its last output: no wand',
    );
    expect(new WorkerExitError('a', { exitCode: 137, oomKilled: true, finishedAt, output: '' }).message).toBe(
      'the process of a was killed for using more memory than its limit before its port was open',
    );
  });
});
