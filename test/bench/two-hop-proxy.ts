import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createCertificateAuthority } from '../support/certificate-authority.ts';
import { type Program, startProgram } from './program.ts';

/** A running bare two-hop proxy in front of one worker. */
export interface TwoHopProxy {
  readonly url: string;
  /** Process of the hop that takes the calls. */
  readonly frontPid: number;
  stop(): Promise<void>;
}

/** A folder with what two hops need for mutual TLS. The caller removes it. */
export async function makeCertificates(): Promise<string> {
  const folder = await mkdtemp('/tmp/esb-bench-proxy-');
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
  return folder;
}

/** Starts the hop that takes the calls, in front of another on a port. */
export async function startFrontHop(
  backPort: number,
  certificates: string,
): Promise<Program & { readonly url: string }> {
  const front = await startProgram('bare-proxy.ts', ['front', String(backPort), certificates]);
  return { ...front, url: `http://127.0.0.1:${front.line}/` };
}

/** Starts both hops; the last keeps at most `connections` to the worker. */
export async function startTwoHopProxy(workerUrl: string, connections: number): Promise<TwoHopProxy> {
  const certificates = await makeCertificates();
  const programs: Program[] = [];
  const stop = async (): Promise<void> => {
    for (const program of programs) {
      program.stop();
    }
    await rm(certificates, { recursive: true, force: true });
  };
  try {
    const back = await startProgram('bare-proxy.ts', ['back', workerUrl, certificates, String(connections)]);
    programs.push(back);
    const front = await startFrontHop(Number(back.line), certificates);
    programs.push(front);
    return { url: front.url, frontPid: front.pid, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
