import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createCertificateAuthority } from '../support/certificate-authority.ts';

/** A running bare two-hop proxy in front of one worker. */
export interface TwoHopProxy {
  readonly url: string;
  /** Process of the hop that takes the calls. */
  readonly frontPid: number;
  stop(): Promise<void>;
}

/** Starts both hops; the last keeps at most `connections` to the worker. */
export async function startTwoHopProxy(workerUrl: string, connections: number): Promise<TwoHopProxy> {
  const folder = await mkdtemp('/tmp/esb-bench-proxy-');
  const children: ChildProcess[] = [];
  const stop = async (): Promise<void> => {
    for (const child of children) {
      child.kill('SIGKILL');
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const authority = await createCertificateAuthority();
    const server = await authority.issueServer();
    const client = await authority.issueClient('bench', []);
    await Promise.all(
      [
        ['ca.pem', authority.certificate],
        ['server.pem', server.certificate],
        ['server.key', server.key],
        ['client.pem', client.certificate],
        ['client.key', client.key],
      ].map(([name, text]) => writeFile(join(folder, name ?? ''), text ?? '')),
    );
    const start = async (...args: string[]): Promise<{ readonly port: number; readonly pid: number }> => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'bare-proxy.ts'), ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      for await (const line of createInterface({ input: child.stdout })) {
        return { port: Number(line), pid: child.pid ?? 0 };
      }
      throw new Error('a hop of the bare proxy ended before it listened');
    };
    const back = await start('back', workerUrl, folder, String(connections));
    const front = await start('front', String(back.port), folder);
    return { url: `http://127.0.0.1:${front.port}/`, frontPid: front.pid, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
