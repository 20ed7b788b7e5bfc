import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { EsbError } from '../../src/common/errors.ts';
import { localCode } from './error-codes.ts';
import { repositoryRoot } from './repository.ts';

/** The paths of one local instance. Nothing is created here. */
export interface Home {
  /** `.esb` in the repository, or `ESB_HOME`. Absolute. */
  readonly root: string;
  /** Links to the programs of the instance. */
  readonly bin: string;
  /** Variables for a shell, by `source`: `KUBECONFIG`, `ESB_REGISTRY`, `ESB_GATEWAY` and others. */
  readonly envFile: string;
  /** The administrator's. */
  readonly kubeconfig: string;
  /** Key that signs calls where gateways authenticate callers. */
  readonly accessKey: string;
  /** One for each role. */
  readonly kubeconfigs: string;
  readonly logs: string;
  readonly pki: string;
  /** The supervisor's record of each part, one file each. */
  readonly run: string;
  readonly supervisorSocket: string;
  /** Ports and counts that were chosen. */
  readonly stateFile: string;
  /** Held by `up` and `down` while they work. */
  readonly lockFile: string;
  readonly etcd: string;
  readonly registry: string;
  readonly auditLog: string;
  readonly auditPolicy: string;
  /** State of the gateways, one folder each. */
  readonly gateways: string;
  /** Parent of the folders that must not outlive a boot. */
  readonly volatile: string;
  /** Names this home to a reader of the volatile folder. */
  readonly ownerFile: string;
  node(name: string): NodeHome;
}

/** The paths of one node. */
export interface NodeHome {
  readonly name: string;
  readonly root: string;
  readonly containerdSocket: string;
  readonly containerdConfig: string;
  readonly containerdRoot: string;
  readonly containerdState: string;
  /** `certs.d`: containerd's access to each registry. */
  readonly certs: string;
  readonly agent: string;
  /** In-flight marks; on tmpfs. */
  readonly agentRun: string;
}

/** Longest path of a Unix socket that Linux takes. */
const SOCKET_PATH_LIMIT = 107;
/** Second socket of containerd, beside the given one. */
const TTRPC_SUFFIX = '.ttrpc';
const LONGEST_NODE_NAME = 'node-8';

/**
 * The home that `ESB_HOME` names, else `.esb` in the repository.
 *
 * @throws {EsbError} `PathTooLong` when Unix sockets in it would have paths that Linux does not take
 */
export function openHome(env: NodeJS.ProcessEnv = process.env): Home {
  const given = env.ESB_HOME;
  const root = given === undefined || given === '' ? join(repositoryRoot(), '.esb') : resolve(given);
  const home = homeAt(root);
  const longest = `${home.node(LONGEST_NODE_NAME).containerdSocket}${TTRPC_SUFFIX}`;
  const excess = Buffer.byteLength(longest) - SOCKET_PATH_LIMIT;
  if (excess > 0) {
    throw new EsbError(
      `${root} is ${excess} bytes too long: Linux takes no Unix socket path over ${SOCKET_PATH_LIMIT} bytes. ` +
        'Set ESB_HOME to a shorter folder, for example: ESB_HOME=/var/tmp/esb',
      { code: localCode('PathTooLong') },
    );
  }
  return home;
}

/** The paths of a home at `root`. */
export function homeAt(root: string): Home {
  const volatile = join('/run', `esb-${createHash('sha256').update(root).digest('hex').slice(0, 8)}`);
  return {
    root,
    bin: join(root, 'bin'),
    envFile: join(root, 'env'),
    kubeconfig: join(root, 'kubeconfig'),
    accessKey: join(root, 'access-key.json'),
    kubeconfigs: join(root, 'kubeconfigs'),
    logs: join(root, 'logs'),
    pki: join(root, 'pki'),
    run: join(root, 'run'),
    supervisorSocket: join(root, 'supervisor.sock'),
    stateFile: join(root, 'state.json'),
    lockFile: `${volatile}.lock`,
    etcd: join(root, 'etcd'),
    registry: join(root, 'registry'),
    auditLog: join(root, 'logs', 'audit.jsonl'),
    auditPolicy: join(root, 'audit-policy.yaml'),
    gateways: join(root, 'gateways'),
    volatile,
    ownerFile: join(volatile, 'home'),
    node(name) {
      const node = join(root, 'nodes', name);
      return {
        name,
        root: node,
        containerdSocket: join(node, 'containerd.sock'),
        containerdConfig: join(node, 'containerd.toml'),
        containerdRoot: join(node, 'root'),
        containerdState: join(node, 'state'),
        certs: join(node, 'certs.d'),
        agent: join(node, 'agent'),
        agentRun: join(volatile, name),
      };
    },
  };
}
