/** One third-party program and the Go package that it is built from. */
export interface ToolProgram {
  readonly name: string;
  readonly goPackage: string;
}

/** Programs that share one Go module below `hack/tools/`: version selection stays separate for each family. */
export interface ToolFamily {
  readonly name: string;
  /** Version of the main module in its go.mod, shown to users. */
  readonly version: string;
  readonly programs: readonly ToolProgram[];
  /** Flags of `go build` beside `-trimpath`. */
  readonly flags: readonly string[];
  /** Flags of the linker beside `-s -w`. */
  readonly linkFlags: readonly string[];
  /** Whether it needs a C compiler and headers. */
  readonly cgo: boolean;
  /** Rough time of a first build on two cores, in words. */
  readonly firstBuild: string;
  /** Whether a program of the user's own will not do. */
  readonly exact?: true;
}

const kubernetesVersion = 'v1.37.2';
/** A patch release of the oldest minor version that the chart is for. */
const oldestKubernetesVersion = 'v1.32.13';

// Without inlining the build takes a quarter less time, which matters more here than the server's speed.
const kubernetesFlags = ['-gcflags=all=-l'];
/** kubectl and Helm cannot parse the version of a server that was linked without one. */
function versionFlags(version: string): readonly string[] {
  const [major = '', minor = ''] = version.slice(1).split('.');
  return Object.entries({ gitVersion: version, gitMajor: major, gitMinor: minor, gitCommit: version }).map(
    ([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`,
  );
}

const nodePrograms = ['kube-controller-manager', 'kube-proxy', 'kube-scheduler', 'kubelet'] as const;

function kubernetesPrograms(names: readonly string[]): readonly ToolProgram[] {
  return names.map((name) => ({ name, goPackage: `k8s.io/kubernetes/cmd/${name}` }));
}

/** Everything that a local instance, the tests and the benchmark run. */
export const toolFamilies: readonly ToolFamily[] = [
  {
    name: 'kubernetes',
    version: kubernetesVersion,
    programs: kubernetesPrograms(['kube-apiserver', 'kubectl']),
    flags: kubernetesFlags,
    linkFlags: versionFlags(kubernetesVersion),
    cgo: false,
    firstBuild: 'five to seven minutes',
  },
  {
    name: 'containerd',
    version: 'v2.4.2',
    programs: ['containerd', 'containerd-shim-runc-v2', 'ctr'].map((name) => ({
      name,
      goPackage: `github.com/containerd/containerd/v2/cmd/${name}`,
    })),
    flags: [],
    linkFlags: [],
    cgo: false,
    firstBuild: 'a minute or two',
  },
  {
    name: 'etcd',
    version: 'v3.7.3',
    programs: [{ name: 'etcd', goPackage: 'go.etcd.io/etcd/server/v3' }],
    flags: [],
    linkFlags: [],
    cgo: false,
    firstBuild: 'half a minute',
  },
  {
    name: 'runc',
    version: 'v1.5.2',
    programs: [{ name: 'runc', goPackage: 'github.com/opencontainers/runc' }],
    flags: ['-tags=seccomp'],
    linkFlags: ['-X main.version=1.5.2'],
    cgo: true,
    firstBuild: 'a quarter of a minute',
  },
  {
    name: 'registry',
    version: 'v0.22.1',
    programs: ['crane', 'registry'].map((name) => ({
      name,
      goPackage: `github.com/google/go-containerregistry/cmd/${name}`,
    })),
    flags: [],
    linkFlags: [],
    cgo: false,
    firstBuild: 'a quarter of a minute',
  },
  {
    name: 'cni',
    version: 'v1.9.1',
    programs: [
      { name: 'bridge', goPackage: 'github.com/containernetworking/plugins/plugins/main/bridge' },
      { name: 'loopback', goPackage: 'github.com/containernetworking/plugins/plugins/main/loopback' },
      { name: 'host-local', goPackage: 'github.com/containernetworking/plugins/plugins/ipam/host-local' },
    ],
    flags: [],
    linkFlags: [],
    cgo: false,
    firstBuild: 'a quarter of a minute',
  },
  {
    name: 'emulator',
    version: 'of 2026-10-30',
    programs: [
      {
        name: 'aws-lambda-rie',
        goPackage: 'github.com/aws/aws-lambda-runtime-interface-emulator/cmd/aws-lambda-rie',
      },
    ],
    flags: [],
    linkFlags: [],
    cgo: false,
    firstBuild: 'some ten seconds',
  },
];

/** Programs that Helm's own tests of the chart run. */
export const helmFamily: ToolFamily = {
  name: 'helm',
  version: 'v4.3.1',
  programs: [{ name: 'helm', goPackage: 'helm.sh/helm/v4/cmd/helm' }],
  flags: [],
  linkFlags: ['-X helm.sh/helm/v4/internal/version.version=v4.3.1'],
  cgo: false,
  firstBuild: 'two minutes',
};

/** Programs of a whole cluster around an API server and containerd, for `npm run test:cluster` alone. */
export const clusterFamilies: readonly ToolFamily[] = [
  helmFamily,
  {
    name: 'cluster',
    version: kubernetesVersion,
    programs: kubernetesPrograms(nodePrograms),
    flags: kubernetesFlags,
    linkFlags: versionFlags(kubernetesVersion),
    cgo: false,
    firstBuild: 'five minutes',
  },
];

/** All programs of a cluster of the oldest Kubernetes that the chart is for, whose kubelets resize no Pod. */
export const oldestClusterFamilies: readonly ToolFamily[] = [
  ...toolFamilies.filter(({ name }) => name !== 'kubernetes'),
  helmFamily,
  {
    name: 'kubernetes-1.32',
    version: oldestKubernetesVersion,
    programs: kubernetesPrograms(['kube-apiserver', 'kubectl', ...nodePrograms]),
    flags: kubernetesFlags,
    linkFlags: versionFlags(oldestKubernetesVersion),
    cgo: false,
    firstBuild: 'a quarter of an hour',
    exact: true,
  },
];
