import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { createCertificateAuthority } from '../support/certificate-authority.ts';
import { run } from '../support/command.ts';
import { type OwnedProcess, startOwnedProcess } from '../support/owned-process.ts';
import { clusterToolsFolder, toolsFolder } from '../support/tools.ts';
import { waitFor } from '../support/wait-for.ts';
import { apiServerUrl, apiServiceAddress, labAddress, serviceRange } from './cluster-network.ts';

/** etcd, kube-apiserver, kube-controller-manager and kube-scheduler. */
export interface ControlPlane {
  /** File with the certificate of the authority that signed all others. */
  readonly authorityFile: string;
  /** Path of a kubeconfig of the administrator. */
  readonly adminKubeconfig: string;
  /** Path of a kubeconfig for any user, who is known by a client certificate. */
  kubeconfig(user: string, groups: readonly string[]): Promise<string>;
  /** Path of a kubeconfig for the holder of a token. */
  tokenKubeconfig(name: string, token: string): Promise<string>;
  stop(): Promise<void>;
}

const ADMINISTRATORS = 'system:masters';
/** User by whose certificate the API server asks the servers of APIServices. */
const FRONT_PROXY = 'front-proxy-client';
/** Horizontal autoscalers look this often. */
const AUTOSCALER_PERIOD = '2s';

/** Starts the control plane in the network namespace of the lab, with its files in `folder`. */
export async function startControlPlane(folder: string): Promise<ControlPlane> {
  const tools = toolsFolder();
  const clusterTools = clusterToolsFolder();
  const authority = await createCertificateAuthority();
  const file = (name: string): string => join(folder, name);
  const write = async (name: string, content: string): Promise<string> => {
    await writeFile(file(name), content, { mode: 0o600 });
    return file(name);
  };
  const writeKubeconfig = (name: string, user: object): Promise<string> =>
    write(
      `${name}.kubeconfig`,
      stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [
          {
            name: 'lab',
            cluster: {
              server: apiServerUrl,
              'certificate-authority-data': Buffer.from(authority.certificate).toString('base64'),
            },
          },
        ],
        users: [{ name: 'lab', user }],
        contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'lab' } }],
        'current-context': 'lab',
      }),
    );
  const kubeconfig = async (user: string, groups: readonly string[]): Promise<string> => {
    const issued = await authority.issueClient(user, groups);
    return writeKubeconfig(user.replaceAll(':', '-'), {
      'client-certificate-data': Buffer.from(issued.certificate).toString('base64'),
      'client-key-data': Buffer.from(issued.key).toString('base64'),
    });
  };

  await mkdir(folder, { recursive: true });
  const authorityFile = await write('ca.crt', authority.certificate);
  const server = await authority.issueServer([labAddress, apiServiceAddress]);
  const kubeletClient = await authority.issueClient('kube-apiserver-kubelet-client', [ADMINISTRATORS]);
  // An authority of its own: its certificates let a server of an APIService believe the names of users in headers.
  const frontAuthority = await createCertificateAuthority();
  const front = await frontAuthority.issueClient(FRONT_PROXY, []);
  const serviceAccountKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await write('server.crt', server.certificate);
  await write('server.key', server.key);
  await write('kubelet-client.crt', kubeletClient.certificate);
  await write('kubelet-client.key', kubeletClient.key);
  await write('front-proxy-ca.crt', frontAuthority.certificate);
  await write('front-proxy.crt', front.certificate);
  await write('front-proxy.key', front.key);
  await write('sa.key', String(serviceAccountKey.privateKey.export({ type: 'pkcs8', format: 'pem' })));
  await write('sa.pub', String(serviceAccountKey.publicKey.export({ type: 'spki', format: 'pem' })));
  const adminKubeconfig = await kubeconfig('admin', [ADMINISTRATORS]);

  const processes: OwnedProcess[] = [];
  const start = async (program: string, args: readonly string[]): Promise<void> => {
    const name = program.slice(program.lastIndexOf('/') + 1);
    processes.push(await startOwnedProcess({ program, args, logFile: file(`${name}.log`) }));
  };
  const stop = async (): Promise<void> => {
    for (const process of processes.reverse()) {
      await process.kill();
    }
  };
  const etcdUrl = 'http://127.0.0.1:2379';
  try {
    await start(join(tools, 'etcd'), [
      `--data-dir=${file('etcd')}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      '--unsafe-no-fsync',
      '--log-level=error',
    ]);
    await start(join(tools, 'kube-apiserver'), [
      `--etcd-servers=${etcdUrl}`,
      '--secure-port=6443',
      `--bind-address=${labAddress}`,
      `--advertise-address=${labAddress}`,
      `--cert-dir=${file('certs')}`,
      `--tls-cert-file=${file('server.crt')}`,
      `--tls-private-key-file=${file('server.key')}`,
      `--client-ca-file=${authorityFile}`,
      `--kubelet-client-certificate=${file('kubelet-client.crt')}`,
      `--kubelet-client-key=${file('kubelet-client.key')}`,
      '--kubelet-preferred-address-types=InternalIP',
      `--requestheader-client-ca-file=${file('front-proxy-ca.crt')}`,
      `--requestheader-allowed-names=${FRONT_PROXY}`,
      '--requestheader-username-headers=X-Remote-User',
      '--requestheader-group-headers=X-Remote-Group',
      '--requestheader-extra-headers-prefix=X-Remote-Extra-',
      `--proxy-client-cert-file=${file('front-proxy.crt')}`,
      `--proxy-client-key-file=${file('front-proxy.key')}`,
      // The API server is on no node, where addresses of Services would lead to their endpoints.
      '--enable-aggregator-routing',
      `--service-account-key-file=${file('sa.pub')}`,
      `--service-account-signing-key-file=${file('sa.key')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      '--authorization-mode=Node,RBAC',
      '--enable-admission-plugins=NodeRestriction',
      `--service-cluster-ip-range=${serviceRange}`,
      '--allow-privileged',
    ]);
    const ready = async (): Promise<boolean> => {
      const answer = await run(join(tools, 'kubectl'), ['--kubeconfig', adminKubeconfig, 'get', '--raw', '/readyz'], {
        timeoutMs: 10_000,
      });
      return answer.stdout === 'ok';
    };
    await waitFor('the API server', ready, { timeoutMs: 120_000, everyMs: 500 });
    const controllerManager = await kubeconfig('system:kube-controller-manager', []);
    await start(join(clusterTools, 'kube-controller-manager'), [
      ...['--kubeconfig', '--authentication-kubeconfig', '--authorization-kubeconfig'].map(
        (flag) => `${flag}=${controllerManager}`,
      ),
      `--service-account-private-key-file=${file('sa.key')}`,
      `--root-ca-file=${authorityFile}`,
      `--horizontal-pod-autoscaler-sync-period=${AUTOSCALER_PERIOD}`,
      '--use-service-account-credentials',
      '--leader-elect=false',
      '--bind-address=127.0.0.1',
      `--cert-dir=${file('certs')}`,
    ]);
    const scheduler = await kubeconfig('system:kube-scheduler', []);
    await start(join(clusterTools, 'kube-scheduler'), [
      ...['--kubeconfig', '--authentication-kubeconfig', '--authorization-kubeconfig'].map(
        (flag) => `${flag}=${scheduler}`,
      ),
      '--leader-elect=false',
      '--bind-address=127.0.0.1',
      `--cert-dir=${file('certs')}`,
    ]);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    authorityFile,
    adminKubeconfig,
    kubeconfig,
    tokenKubeconfig: (name, token) => writeKubeconfig(name, { token }),
    stop,
  };
}
