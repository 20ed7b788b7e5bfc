/** The volume for the file of events, on node-b: a cluster has a provisioner for that, and the lab has not. */
export const eventVolume = {
  apiVersion: 'v1',
  kind: 'PersistentVolume',
  metadata: { name: 'events' },
  spec: {
    capacity: { storage: '2Gi' },
    accessModes: ['ReadWriteOnce'],
    persistentVolumeReclaimPolicy: 'Retain',
    local: { path: '/var/lib/lab-events' },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [
          { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['node-b'] }] },
        ],
      },
    },
  },
};
