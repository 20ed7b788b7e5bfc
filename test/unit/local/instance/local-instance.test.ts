import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Home, homeAt } from '../../../../local/common/home.ts';
import { localInstance } from '../../../../local/instance/local-instance.ts';

async function emptyHome(): Promise<Home> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-local-instance-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return homeAt(folder);
}

describe('the local instance as commands see it', () => {
  it('has nothing to give before it is up', async () => {
    const instance = localInstance(await emptyHome());
    expect(await instance.kubeconfig()).toBeUndefined();
    expect(await instance.kubectl()).toBeUndefined();
    expect(await instance.workerLogs('node-1', undefined)).toBeUndefined();
    await expect(instance.gateway()).rejects.toMatchObject({ code: 'NoInstance' });
    const { signal } = new AbortController();
    const shown = await instance.showLog('supervisor', { tail: 0, follow: false }, () => undefined, signal);
    expect(shown).toBe(false);
  });

  it('has the logs of workers of its own nodes, and of no node of another cluster', async () => {
    const home = await emptyHome();
    const folder = join(home.node('node-1').agent, 'logs');
    await mkdir(folder, { recursive: true });
    await writeFile(home.kubeconfig, '');
    const instance = localInstance(home);
    expect(await instance.kubeconfig()).toBe(home.kubeconfig);
    expect(await instance.workerLogs('node-1', undefined)).toBe(folder);
    expect(await instance.workerLogs('node-1', home.kubeconfig)).toBe(folder);
    expect(await instance.workerLogs('node-2', undefined)).toBeUndefined();
    expect(await instance.workerLogs('node-1', '/elsewhere/kubeconfig')).toBeUndefined();
  });

  it('shows the log of its supervisor', async () => {
    const home = await emptyHome();
    const ports = { registry: 5000, 'gateway-1': 9080 };
    await writeFile(home.stateFile, JSON.stringify({ nodes: 1, gateways: 1, controllers: 1, ports }));
    await mkdir(home.logs);
    await writeFile(join(home.logs, 'supervisor.log'), 'one\ntwo\n');
    const instance = localInstance(home);
    expect(await instance.gateway()).toEqual({ url: 'http://127.0.0.1:9080', keyFile: home.accessKey });
    const written: string[] = [];
    const { signal } = new AbortController();
    const show = (name: string) =>
      instance.showLog(name, { tail: 1, follow: false }, (text) => written.push(text), signal);
    expect(await show('supervisor')).toBe(true);
    expect(written).toEqual(['two\n']);
    expect(await show('hello')).toBe(false);
  });
});
