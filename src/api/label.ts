/** Labels of our containers in containerd: who a container belongs to. */
export const containerLabels = {
  namespace: 'esb.dev/namespace',
  name: 'esb.dev/name',
  uid: 'esb.dev/uid',
  functionName: 'esb.dev/function',
  shape: 'esb.dev/shape',
  epoch: 'esb.dev/epoch',
  ip: 'esb.dev/ip',
  port: 'esb.dev/port',
  image: 'esb.dev/image',
} as const;

/** What every label and annotation of ours begins with. */
export const LABEL_PREFIX = 'esb.dev/';
