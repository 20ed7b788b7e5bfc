import type { KubeObject, ResourceType } from './types.ts';

/** The `metav1.Condition` form. */
export interface KubeCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
}

export interface Secret extends KubeObject {
  readonly type?: string;
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
  /** Plain; only ever written. */
  readonly stringData?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
}

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
}

export interface Namespace extends KubeObject {
  readonly status?: { readonly phase?: string };
}

/** `coordination.k8s.io/v1`. Times are MicroTime: RFC 3339 with exactly six digits after the point. */
export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string | null;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string | null;
    readonly renewTime?: string | null;
    readonly leaseTransitions?: number;
  };
}

export interface ObjectReference {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly fieldPath?: string;
}

/** `events.k8s.io/v1`. */
export interface Event extends KubeObject {
  readonly eventTime: string;
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly action: string;
  readonly reason: string;
  readonly regarding: ObjectReference;
  readonly related?: ObjectReference;
  readonly note?: string;
  readonly type: 'Normal' | 'Warning';
}

export interface Node extends KubeObject {
  readonly spec?: {
    readonly podCIDR?: string;
    readonly podCIDRs?: readonly string[];
    readonly unschedulable?: boolean;
    readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  };
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
    readonly nodeInfo?: { readonly osImage?: string };
    readonly capacity?: { readonly memory?: string };
  };
}

/** The part of a Pod that we write or read. */
export interface Pod extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly affinity?: object;
    readonly tolerations?: readonly object[];
    readonly containers?: readonly {
      readonly name: string;
      readonly image?: string;
      readonly imagePullPolicy?: string;
      readonly args?: readonly string[];
      readonly resources?: { readonly requests?: Readonly<Record<string, string>> };
      readonly securityContext?: object;
    }[];
    readonly serviceAccountName?: string;
    readonly automountServiceAccountToken?: boolean;
    readonly enableServiceLinks?: boolean;
    readonly priorityClassName?: string;
    readonly terminationGracePeriodSeconds?: number;
    readonly securityContext?: object;
  };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

/** `networking.k8s.io/v1`: a range of Service addresses. */
export interface ServiceCidr extends KubeObject {
  readonly spec?: { readonly cidrs?: readonly string[] };
}

/** `certificates.k8s.io/v1`. */
export interface CertificateSigningRequest extends KubeObject {
  readonly spec: {
    readonly signerName: string;
    /** PEM in base64. */
    readonly request: string;
    readonly usages: readonly string[];
    readonly expirationSeconds?: number;
    /** Set by the API server from who sent it. */
    readonly username?: string;
    readonly groups?: readonly string[];
    readonly uid?: string;
    readonly extra?: Readonly<Record<string, readonly string[]>>;
  };
  readonly status?: {
    /** PEM in base64. */
    readonly certificate?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

/** `authentication.k8s.io/v1`: a question, answered by its creation and kept nowhere. */
export interface TokenReview extends KubeObject {
  readonly spec: { readonly token: string; readonly audiences?: readonly string[] };
  readonly status?: {
    readonly authenticated?: boolean;
    readonly user?: {
      readonly username?: string;
      readonly uid?: string;
      readonly groups?: readonly string[];
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
    readonly audiences?: readonly string[];
    readonly error?: string;
  };
}

/** `authorization.k8s.io/v1`: the same about what somebody may do in one namespace. */
export interface LocalSubjectAccessReview extends KubeObject {
  readonly spec: {
    readonly user: string;
    readonly groups?: readonly string[];
    readonly uid?: string;
    readonly extra?: Readonly<Record<string, readonly string[]>>;
    readonly resourceAttributes: {
      readonly namespace: string;
      readonly verb: string;
      readonly group: string;
      readonly version: string;
      readonly resource: string;
      readonly subresource?: string;
      readonly name?: string;
    };
  };
  readonly status?: {
    readonly allowed?: boolean;
    readonly denied?: boolean;
    readonly reason?: string;
  };
}

export interface CustomResourceDefinition extends KubeObject {
  readonly spec: {
    readonly group: string;
    readonly scope: 'Namespaced' | 'Cluster';
    readonly names: { readonly kind: string; readonly plural: string };
    readonly versions: readonly {
      readonly name: string;
      readonly served: boolean;
      readonly storage: boolean;
    }[];
  };
  readonly status?: { readonly conditions?: readonly KubeCondition[] };
}

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
export const tokenReviews = grouped<TokenReview>(
  'authentication.k8s.io',
  'TokenReview',
  'tokenreviews',
  false,
);
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
