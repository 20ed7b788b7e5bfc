import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DockerLab, startDockerLab } from '../../support/docker-lab.ts';
import { ensureRequest, type Lab, startLab } from '../../support/lab.ts';

describe('a worker on a containerd that a Docker engine has as well', () => {
  let lab: Lab;
  let engine: DockerLab;

  beforeAll(async () => {
    lab = await startLab();
    engine = await startDockerLab({ containerd: lab.socketPath });
  });
  afterAll(async () => {
    await engine?.close();
    await lab?.close();
  });
  const lines = async (...args: readonly string[]): Promise<string[]> =>
    (await engine.docker(...args)).split('\n').filter((line) => line !== '');

  it('does not show in docker ps, nor anything else of ours in what the engine lists', async () => {
    // Both use one and the same containerd.
    const [, ours] = /Server:.*?Version:\s+(\S+)/s.exec(await lab.ctr('version')) ?? [];
    const told = await engine.docker(
      'version',
      '--format',
      '{{range .Server.Components}}{{.Name}}={{.Version}} {{end}}',
    );
    expect(told).toContain(`containerd=${ours}`);
    const before = {
      networks: await lines('network', 'ls', '--format', '{{.Name}}'),
      volumes: await lines('volume', 'ls', '--quiet'),
    };

    const runtime = await lab.runtime();
    const [running, frozen] = ['running', 'frozen'].map((name) => ensureRequest(lab, name));
    if (running === undefined || frozen === undefined) {
      throw new Error('a request is missing');
    }
    await runtime.ensure(running);
    await runtime.ensure(frozen);
    await runtime.pause(frozen.containerId);
    // The engine does show its own containers.
    await engine.docker('pull', '--quiet', engine.image);
    await engine.docker('container', 'create', '--network', 'none', '--name', 'of-docker', engine.image);

    expect(await lines('ps', '--all', '--format', '{{.Names}}')).toEqual(['of-docker']);
    expect(await lines('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}')).toEqual([engine.image]);
    expect(await lines('network', 'ls', '--format', '{{.Name}}')).toEqual(before.networks);
    expect(await lines('volume', 'ls', '--quiet')).toEqual(before.volumes);
    expect((await runtime.list()).map(({ containerId }) => containerId).toSorted()).toEqual(
      [running.containerId, frozen.containerId].toSorted(),
    );

    await engine.docker('container', 'rm', 'of-docker');
    expect((await runtime.inspect(frozen.containerId))?.task.kind).toBe('Paused');
    for (const { containerId } of [running, frozen]) {
      await runtime.destroy(containerId, { graceSeconds: 0 });
    }
    expect(await lab.leftovers()).toEqual([]);
  });
});
