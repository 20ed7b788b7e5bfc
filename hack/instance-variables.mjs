// The variables that `source .esb/env` gives a shell. Plain JavaScript, as launch.mjs is.
import { delimiter, join } from 'node:path';

const names = [
  'AWS_ACCESS_KEY_ID',
  'AWS_DEFAULT_REGION',
  'AWS_ENDPOINT_URL_LAMBDA',
  'AWS_REGION',
  'AWS_SECRET_ACCESS_KEY',
  'CONTAINERD_ADDRESS',
  'CONTAINERD_NAMESPACE',
  'ESB_GATEWAY',
  'ESB_GATEWAYS',
  'ESB_HOME',
  'ESB_REGISTRY',
  'KUBECONFIG',
];

/** The environment as it was before a shell has sourced `.esb/env`; any other is returned as it is. */
export function withoutInstance(env) {
  if (env.ESB_HOME === undefined) {
    return env;
  }
  const programs = join(env.ESB_HOME, 'bin');
  const kept = Object.entries(env).filter(([name]) => !names.includes(name));
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== programs);
  return { ...Object.fromEntries(kept), PATH: folders.join(delimiter) };
}
