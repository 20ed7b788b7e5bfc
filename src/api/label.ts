/** Labels of our containers in containerd: the owner of a container. */
export const containerLabels = {
  namespace: 'esb.dev/namespace',
  name: 'esb.dev/name',
  uid: 'esb.dev/uid',
  functionName: 'esb.dev/function',
  shape: 'esb.dev/shape',
  epoch: 'esb.dev/epoch',
  ip: 'esb.dev/ip',
  port: 'esb.dev/port',
  /** Speaker of the Runtime API in the container; without the label, the emulator of the image. */
  runtimeInterface: 'esb.dev/runtime-interface',
  image: 'esb.dev/image',
  /** Seconds that a call may take in the container. */
  timeout: 'esb.dev/timeout',
  /** Handler of the image that spec.handler does not replace; only there for one. */
  handlerInItsPlace: 'esb.dev/handler-in-its-place',
  /** Destinations that the worker asked for; without the label, those of its node's default. */
  egress: 'esb.dev/egress',
  /** First of the node's users that are in its user namespace. */
  userIds: 'esb.dev/user-ids',
  /** Containers of one group share a shim. */
  shimGroup: 'esb.dev/shim-group',
  /** `true` for a container whose `/tmp` is a file on disk; without the label, a tmpfs. */
  tmpOnDisk: 'esb.dev/tmp-on-disk',
  /** The boot of the machine in which the container was made. */
  boot: 'esb.dev/boot',
} as const;

/** Prefix of our labels and annotations. */
export const LABEL_PREFIX = 'esb.dev/';
