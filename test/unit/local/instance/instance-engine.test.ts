import { describe, expect, it } from 'vitest';
import { checkEngine, dockerSocketOf } from '../../../../local/instance/instance-engine.ts';

describe('the engine of an instance', () => {
  it.each([
    [[], undefined],
    [['--slots=2'], undefined],
    [['--runtime-type=containerd'], undefined],
    [['--runtime-type=docker'], '/var/run/docker.sock'],
    [['--runtime-type', 'docker', '--docker-socket', '/a'], '/a'],
    [['--docker-socket=/a', '--runtime-type=docker'], '/a'],
    [['--runtime-type=docker', '--runtime-type=containerd'], undefined],
  ])('of %j is at %s', (options, socket) => {
    expect(dockerSocketOf(options)).toBe(socket);
  });

  it('is for one node', () => {
    expect(() => checkEngine(['--runtime-type=docker'], 1)).not.toThrow();
    expect(() => checkEngine([], 2)).not.toThrow();
    expect(() => checkEngine(['--runtime-type=docker'], 2)).toThrow('2 nodes cannot share one Docker engine');
  });
});
