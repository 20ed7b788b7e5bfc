import type {
  EventsV1Event,
  V1CertificateSigningRequest,
  V1ConfigMap,
  V1ControllerRevision,
  V1CustomResourceDefinition,
  V1Lease,
  V1LocalSubjectAccessReview,
  V1Namespace,
  V1Node,
  V1ObjectReference,
  V1Pod,
  V1Secret,
  V1ServiceAccount,
  V1ServiceCIDR,
  V1TokenReview,
} from '@kubernetes/client-node';
import type { KubeObject, ResourceType, Wire } from './types.ts';

/** A kind of Kubernetes as the API server keeps it: with metadata and a name. */
type Stored<T> = Omit<Wire<T>, keyof KubeObject> & KubeObject;

export type CertificateSigningRequest = Stored<V1CertificateSigningRequest>;
export type ConfigMap = Stored<V1ConfigMap>;
export type ControllerRevision = Stored<V1ControllerRevision>;
export type CustomResourceDefinition = Stored<V1CustomResourceDefinition>;
export type Event = Stored<EventsV1Event>;
export type Lease = Stored<V1Lease>;
export type LocalSubjectAccessReview = Stored<V1LocalSubjectAccessReview>;
export type Namespace = Stored<V1Namespace>;
export type Node = Stored<V1Node>;
export type ObjectReference = Wire<V1ObjectReference>;
export type Pod = Stored<V1Pod>;
export type Secret = Stored<V1Secret>;
export type ServiceAccount = Stored<V1ServiceAccount>;
export type ServiceCidr = Stored<V1ServiceCIDR>;
export type TokenReview = Stored<V1TokenReview>;

function kind<T extends KubeObject>(group: string, name: string, namespaced: boolean): ResourceType<T> {
  return { group, version: 'v1', kind: name, plural: `${name.toLowerCase()}s`, namespaced };
}

export const secrets = kind<Secret>('', 'Secret', true);
export const configMaps = kind<ConfigMap>('', 'ConfigMap', true);
export const namespaces = kind<Namespace>('', 'Namespace', false);
export const nodes = kind<Node>('', 'Node', false);
export const pods = kind<Pod>('', 'Pod', true);
export const controllerRevisions = kind<ControllerRevision>('apps', 'ControllerRevision', true);
export const leases = kind<Lease>('coordination.k8s.io', 'Lease', true);
export const events = kind<Event>('events.k8s.io', 'Event', true);
export const serviceAccounts = kind<ServiceAccount>('', 'ServiceAccount', true);
export const serviceCidrs = kind<ServiceCidr>('networking.k8s.io', 'ServiceCIDR', false);
export const certificateSigningRequests = kind<CertificateSigningRequest>(
  'certificates.k8s.io',
  'CertificateSigningRequest',
  false,
);
export const customResourceDefinitions = kind<CustomResourceDefinition>(
  'apiextensions.k8s.io',
  'CustomResourceDefinition',
  false,
);
export const tokenReviews = kind<TokenReview>('authentication.k8s.io', 'TokenReview', false);
export const localSubjectAccessReviews = kind<LocalSubjectAccessReview>(
  'authorization.k8s.io',
  'LocalSubjectAccessReview',
  true,
);
/** Access review whose namespace stands in its body alone. */
export const subjectAccessReviews = kind<LocalSubjectAccessReview>(
  'authorization.k8s.io',
  'SubjectAccessReview',
  false,
);
