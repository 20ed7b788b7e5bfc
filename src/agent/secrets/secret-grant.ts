import { EsbError } from '../../common/errors.ts';

/** The service account of the agents, as the manifests have it. */
const agentServiceAccount = 'esb-agent';
/** The group of agents that are users, as in a local instance; no authenticator of a cluster gives it. */
const agentGroup = 'esb:agents';
/** The identity of agents at the API server. */
export type AgentSubject = { readonly kind: 'ServiceAccount'; readonly namespace: string } | { readonly kind: 'Users' };

/** The longest name of an object. */
const maxNameLength = 253;

/**
 * The error for a Secret that the agent may not read. Agents may read only the Secrets that the owner of a namespace
 * grants them one by one: the message names the missing Role and RoleBinding, and the way to make them.
 *
 * @param agents whom they are for: the agents' service account in that namespace, or users by certificate
 */
export function secretForbidden(
  secret: { readonly namespace: string; readonly name: string },
  agents: AgentSubject,
  cause: unknown,
): EsbError {
  const { namespace, name } = secret;
  const role = `esb-secret-${name}`.slice(0, maxNameLength);
  return new EsbError(
    `the agent may not read the Secret ${namespace}/${name}: there is no Role with a RoleBinding in the namespace ` +
      `${namespace} that allows it. Make both, called ${role}: ` +
      `kubectl -n ${namespace} create role ${role} --verb=get --resource=secrets --resource-name=${name} && ` +
      `kubectl -n ${namespace} create rolebinding ${role} --role=${role} ` +
      (agents.kind === 'Users'
        ? `--group=${agentGroup}`
        : `--serviceaccount=${agents.namespace}:${agentServiceAccount}`),
    { code: 'SecretForbidden', cause },
  );
}
