import { EsbError } from '../common/errors.ts';

/** The service account of the agents, as the manifests have it. */
const agentServiceAccount = 'esb-agent';
/** The group of agents that are users of their own. */
const agentGroup = 'esb:agents';
/** The longest name of an object. */
const maxNameLength = 253;

/**
 * The error for a Secret that the agent may not read. Agents may read none but those that the owner of a namespace
 * grants them, one by one: the message names the Role and RoleBinding that are missing, and how to make them.
 */
export function secretForbidden(
  secret: { readonly namespace: string; readonly name: string },
  systemNamespace: string,
  cause: unknown,
): EsbError {
  const { namespace, name } = secret;
  const role = `esb-secret-${name}`.slice(0, maxNameLength);
  return new EsbError(
    `the agent may not read the Secret ${namespace}/${name}: there is no Role with a RoleBinding in the namespace ` +
      `${namespace} that allows it. Make both, called ${role}: ` +
      `kubectl -n ${namespace} create role ${role} --verb=get --resource=secrets --resource-name=${name} && ` +
      `kubectl -n ${namespace} create rolebinding ${role} --role=${role} ` +
      `--serviceaccount=${systemNamespace}:${agentServiceAccount} --group=${agentGroup}`,
    { code: 'SecretForbidden', retryable: true, cause },
  );
}
