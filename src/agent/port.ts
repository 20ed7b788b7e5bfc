import { join } from 'node:path';
import { CLIENT_CA_PUBLIC_KEY } from '../api/name.ts';
import { removeUnfinishedFiles } from '../common/atomic-file.ts';
import { parseHostPort } from '../common/host-port.ts';
import { endpointOf } from '../common/net/endpoint.ts';
import type { AgentParts } from './agent-parts.ts';
import type { Cluster } from './cluster.ts';
import type { CallBudget } from './rpc/call-budget.ts';
import { ClientAuthority } from './rpc/client-authority.ts';
import { AgentGrpcServer } from './rpc/server.ts';
import { ServerIdentity } from './rpc/server-identity.ts';

export type Port = Awaited<ReturnType<typeof takePort>>;

/**
 * Takes the port that gateways call, which makes this process the only agent of the node. No call is served yet.
 *
 * @throws {EsbError} `AddressInUse` when another agent runs on this node
 */
export async function takePort(parts: AgentParts, budget: CallBudget) {
  const { clock, config, logger, stateDir, stops } = parts;
  const server = new AgentGrpcServer({ logger, clock, budget });
  stops.defer(() => server.close());
  const bound = await server.bind(parseHostPort(config.server.listen));
  await removeUnfinishedFiles(stateDir);
  const { nodeName } = config.cluster;
  const identity = await ServerIdentity.open({ folder: stateDir, nodeName, clock, logger });
  const authority = await ClientAuthority.open({
    file: join(stateDir, 'client-ca.pem'),
    logger,
    onChange: () => configure(),
  });
  const configure = (): void => server.configure({ ...identity.current, clientAuthority: authority.pem });
  configure();
  return {
    server,
    bound,
    /** `HOST:PORT` that gateways are told. */
    endpoint: endpointOf(config.server.advertise, bound),
    identity,
    authority,
    /** Renews the certificate of the server where one is due; returns whether it changed. */
    async renew(): Promise<boolean> {
      const changed = await identity.refresh();
      if (changed) {
        logger.info('own certificate changed');
        configure();
      }
      return changed;
    },
  };
}

/** Lets in the gateways whose certificates the published client authority has signed. */
export function followClientAuthority({ tasks }: AgentParts, { clientAuthority }: Cluster, { authority }: Port): void {
  clientAuthority.subscribe((event) => {
    const pem = event.kind === 'deleted' ? undefined : event.object.data?.[CLIENT_CA_PUBLIC_KEY];
    if (pem !== undefined) {
      tasks.run('client authority', () => authority.update(pem));
    }
  });
  clientAuthority.start();
}
