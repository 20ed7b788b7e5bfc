import type {
  EventsV1Event,
  V1CertificateSigningRequest,
  V1ConfigMap,
  V1CustomResourceDefinition,
  V1Lease,
  V1LocalSubjectAccessReview,
  V1Namespace,
  V1Node,
  V1ObjectReference,
  V1Pod,
  V1Secret,
  V1ServiceCIDR,
  V1TokenReview,
} from '@kubernetes/client-node';
import type { KubeObject, ResourceType, Wire } from './types.ts';

/** A kind of Kubernetes as the API server keeps it: with metadata and a name. */
type Stored<T> = Omit<Wire<T>, keyof KubeObject> & KubeObject;

export type CertificateSigningRequest = Stored<V1CertificateSigningRequest>;
export type ConfigMap = Stored<V1ConfigMap>;
export type CustomResourceDefinition = Stored<V1CustomResourceDefinition>;
export type Event = Stored<EventsV1Event>;
export type Lease = Stored<V1Lease>;
export type LocalSubjectAccessReview = Stored<V1LocalSubjectAccessReview>;
export type Namespace = Stored<V1Namespace>;
export type Node = Stored<V1Node>;
export type ObjectReference = Wire<V1ObjectReference>;
export type Pod = Stored<V1Pod>;
export type Secret = Stored<V1Secret>;
export type ServiceCidr = Stored<V1ServiceCIDR>;
export type TokenReview = Stored<V1TokenReview>;

function core<T extends KubeObject>(kind: string, plural: string, namespaced: boolean): ResourceType<T> {
  return { group: '', version: 'v1', kind, plural, namespaced };
}

function grouped<T extends KubeObject>(
  group: string,
  kind: string,
  plural: string,
  namespaced: boolean,
): ResourceType<T> {
  return { group, version: 'v1', kind, plural, namespaced };
}

export const secrets = core<Secret>('Secret', 'secrets', true);
export const configMaps = core<ConfigMap>('ConfigMap', 'configmaps', true);
export const namespaces = core<Namespace>('Namespace', 'namespaces', false);
export const nodes = core<Node>('Node', 'nodes', false);
export const pods = core<Pod>('Pod', 'pods', true);
export const leases = grouped<Lease>('coordination.k8s.io', 'Lease', 'leases', true);
export const events = grouped<Event>('events.k8s.io', 'Event', 'events', true);
export const serviceCidrs = grouped<ServiceCidr>('networking.k8s.io', 'ServiceCIDR', 'servicecidrs', false);
export const certificateSigningRequests = grouped<CertificateSigningRequest>(
  'certificates.k8s.io',
  'CertificateSigningRequest',
  'certificatesigningrequests',
  false,
);
export const customResourceDefinitions = grouped<CustomResourceDefinition>(
  'apiextensions.k8s.io',
  'CustomResourceDefinition',
  'customresourcedefinitions',
  false,
);
export const tokenReviews = grouped<TokenReview>('authentication.k8s.io', 'TokenReview', 'tokenreviews', false);
export const localSubjectAccessReviews = grouped<LocalSubjectAccessReview>(
  'authorization.k8s.io',
  'LocalSubjectAccessReview',
  'localsubjectaccessreviews',
  true,
);
/** The same question where the namespace stands in the question alone. */
export const subjectAccessReviews = grouped<LocalSubjectAccessReview>(
  'authorization.k8s.io',
  'SubjectAccessReview',
  'subjectaccessreviews',
  false,
);
