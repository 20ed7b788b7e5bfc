import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { repositoryRoot } from '../../../local/common/repository.ts';
import { freePort } from '../../support/free-port.ts';
import type { Credentials } from '../../support/lambda-caller.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { waitFor } from '../../support/wait-for.ts';
import type { Instance } from './instance.ts';

/** A gateway beside those of the instance, which asks who calls and lets callers change functions. */
export interface ControlGateway {
  readonly url: string;
  /** Port of the function URLs. */
  readonly urlPort: number;
  /** A user with the roles of an editor. */
  readonly editor: Credentials;
}

/** Domain of the function URLs of a {@link ControlGateway}. */
export const URL_DOMAIN = 'fn.example.com';

/** Starts one; it ends with the test. */
export async function startControlGateway(esb: Instance): Promise<ControlGateway> {
  const editor = { accessKeyId: 'AKIDEDITOR', secretAccessKey: 'editors-secret-0123456789' };
  const user = 'e2e-editor';
  const metadata = (name: string) => ({ name, namespace: 'default' });
  const objects = [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: metadata('esb-access-keys'),
      stringData: { [editor.accessKeyId]: JSON.stringify({ secretAccessKey: editor.secretAccessKey, user }) },
    },
    ...['esb-edit', 'esb-view', 'esb-invoke'].map((role) => ({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: metadata(`${user}-${role}`),
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
    })),
  ];
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
  onTestFinished(async () => {
    await esb.kubectl(['delete', '--ignore-not-found', '-f', '-'], { input });
  });
  await esb.kubectl(['apply', '-f', '-'], { input });
  const folder = await mkdtemp(join(tmpdir(), 'esb-control-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [port, health, urlPort] = [await freePort(), await freePort(), await freePort()];
  const gateway = await startOwnedProcess({
    program: process.execPath,
    args: [
      ...[join(repositoryRoot(), 'src/main.ts'), 'gateway', '--control-api', '--namespace', 'default'],
      ...['--kubeconfig', join(esb.home, 'kubeconfigs', 'gateway-1'), '--state-dir', join(folder, 'state')],
      ...['--listen', `127.0.0.1:${port}`, '--health', `127.0.0.1:${health}`],
      ...[`--function-url-domain=${URL_DOMAIN}`, `--function-url-listen=127.0.0.1:${urlPort}`],
    ],
    logFile: join(folder, 'gateway.log'),
  });
  onTestFinished(() => gateway.kill());
  await waitFor(
    'the gateway to be ready',
    async () => {
      if (gateway.ended()) {
        throw new Error(`the gateway ended:\n${gateway.output().slice(-4_000)}`);
      }
      return (await fetch(`http://127.0.0.1:${health}/readyz`)).status === 200;
    },
    { timeoutMs: 60_000 },
  );
  return { url: `http://127.0.0.1:${port}`, urlPort, editor };
}
