/** The API group of our resources, and the version of them that this program speaks. */
export const API_GROUP = 'esb.dev';
export const API_VERSION = 'v1alpha1';

/** Default namespace of Leases, client CA and the like. */
export const SYSTEM_NAMESPACE = 'esb-system';

/**
 * Field managers, by role, and that of `esb rollout`. One for all agents, so that the fields of a worker's last node go
 * with it.
 */
export const fieldManagers = {
  controller: 'esb-controller',
  agent: 'esb-agent',
  control: 'esb-control',
  rollout: 'esb-rollout',
} as const;

/** `reportingController` of the Events of each role. An admission policy holds agents to theirs. */
export const reporters = { controller: 'esb.dev/controller', agent: 'esb.dev/agent' } as const;

/** The Lease that controllers compete for. */
export const CONTROLLER_LEASE = 'esb-controller';

/** Secret (tls.crt, tls.key) and ConfigMap (ca.crt) of the authority that signs gateways' client certificates. */
export const CLIENT_CA_NAME = 'esb-client-ca';
export const CLIENT_CA_CERTIFICATE_KEY = 'tls.crt';
export const CLIENT_CA_PRIVATE_KEY = 'tls.key';
export const CLIENT_CA_PUBLIC_KEY = 'ca.crt';

/** ConfigMap with the Pod ranges of all Nodes, one a line, which the controller publishes for agents. */
export const CLUSTER_RANGES_NAME = 'esb-cluster-ranges';
export const CLUSTER_RANGES_KEY = 'podCIDRs';

/** ConfigMap with the policy of workers: the features that need the label on their namespace. */
export const WORKER_POLICY_NAME = 'esb-worker-policy';
/** Label of a namespace whose workers may have the network of the node and the like, when it is `true`. */
export const PRIVILEGED_WORKERS_LABEL = 'esb.dev/privileged-workers';

/** Signer that gateways name in their CertificateSigningRequest. */
export const GATEWAY_SIGNER = 'esb.dev/gateway-client';
/** Common name of gateways' client certificates. */
export const GATEWAY_COMMON_NAME = 'esb-gateway';
/** Common name of the certificate that the leading controller shows to gateways. */
export const CONTROLLER_COMMON_NAME = 'esb-controller';
/** Prefix of the names of gateways' CertificateSigningRequests. */
export const GATEWAY_REQUEST_PREFIX = 'esb-gateway-';

/** Default Secret with the keys that calls are signed with. */
export const ACCESS_KEYS_SECRET = 'esb-access-keys';
