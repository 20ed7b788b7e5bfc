import { describe, expect, it } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';

describe('kubectl apply', () => {
  const esb = instance();

  it('makes a worker that becomes Ready and runs in the esb namespace of containerd, and nowhere else', {
    tags: ['P28'],
  }, async () => {
    await esb.apply('applied', { nodeName: 'node-1' });
    const worker = await esb.ready('applied');
    const containerId = worker.status?.containerID ?? '';
    expect(await esb.taskState(containerId)).toBe('RUNNING');
    const { stdout } = await esb.ctr(['namespaces', 'ls', '-q']);
    for (const namespace of stdout.split('\n').filter((name) => name !== '' && name !== 'esb')) {
      const others = await esb.ctr(['--namespace', namespace, 'containers', 'ls', '-q']);
      expect(others.stdout, `containers in namespace ${namespace}`).toBe('');
    }
  });

  it('reads well in get, describe and explain', async () => {
    await esb.apply('legible', {
      nodeName: 'node-1',
      functionName: 'legible-function',
    });
    const worker = await esb.ready('legible');
    const table = await esb.kubectl(['get', 'lw', 'legible']);
    const [header, row] = table.stdout.split('\n');
    expect(header?.split(/\s+/).filter(Boolean)).toEqual([
      'NAME',
      'READY',
      'DESIRED',
      'PHASE',
      'UP-TO-DATE',
      'NODE',
      'IP',
      'RESTARTS',
      'AGE',
    ]);
    expect(row?.split(/\s+/).slice(0, 8)).toEqual([
      'legible',
      'True',
      'Running',
      'Running',
      'True',
      'node-1',
      worker.status?.address?.ip,
      '0',
    ]);
    const wide = await esb.kubectl(['get', 'lw', 'legible', '-o', 'wide']);
    expect(wide.stdout).toContain(esb.image('python-counter'));
    expect(wide.stdout).toContain('legible-function');
    const described = async () => (await esb.kubectl(['describe', 'lw', 'legible'])).stdout;
    expect(await described()).toMatch(/Phase:\s+Running/);
    await waitFor('an Event of the assignment', async () => /Normal\s+Assigned/.test(await described()));
    const explained = await esb.kubectl(['explain', 'lambdaworker.spec.idlePolicy']);
    expect(explained.stdout).toContain('pauseAfterSeconds');
    expect(explained.stdout).not.toContain('<no description>');
  });
});
