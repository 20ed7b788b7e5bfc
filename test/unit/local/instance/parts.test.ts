import { describe, expect, it } from 'vitest';
import { homeAt } from '../../../../local/common/home.ts';
import type { InstanceState } from '../../../../local/instance/instance-state.ts';
import { cgroupParent, infrastructureParts, type PartsOptions, roleParts } from '../../../../local/instance/parts.ts';
import { partFingerprint } from '../../../../local/supervisor/part.ts';

const state: InstanceState = {
  nodes: 2,
  gateways: 1,
  controllers: 2,
  audit: false,
  ports: {
    etcd: 2379,
    'etcd-peer': 2380,
    apiserver: 6443,
    registry: 5000,
    'agent-node-1': 9443,
    'agent-node-1-health': 9093,
    'controller-1-health': 9191,
    'controller-1-demand': 9451,
    'controller-2-health': 9192,
    'controller-2-demand': 9452,
    events: 9444,
    'events-health': 9290,
    'gateway-1': 9080,
    'gateway-1-health': 9291,
  },
};

const options: PartsOptions = {
  home: homeAt('/tmp/esb-home'),
  state,
  pki: {
    authority: '/pki/ca.crt',
    serverCertificate: '/pki/apiserver.crt',
    serverKey: '/pki/apiserver.key',
    serviceAccountKey: '/pki/sa.key',
    serviceAccountPublicKey: '/pki/sa.pub',
  },
  node: '/usr/bin/node',
  repository: '/esb',
  initProgram: '/cache/init',
};

describe('the parts of an instance', () => {
  it('have the names that status shows and tests stop them by', () => {
    expect(infrastructureParts(options).map((part) => part.name)).toEqual([
      'etcd',
      'apiserver',
      'registry',
      'containerd-node-1',
      'relay-node-2',
      'containerd-node-2',
    ]);
    expect(roleParts(options).map((part) => part.name)).toEqual([
      'controller-1',
      'controller-2',
      'agent-node-1',
      'agent-node-2',
      'events',
      'gateway-1',
    ]);
  });

  it('of the second node run in its network namespace and are called at its own address', () => {
    const agent = roleParts(options).find((part) => part.name === 'agent-node-2');
    expect(agent?.namespace).toBe('esb-node-2');
    expect(agent?.args.join(' ')).toContain('--advertise 10.235.2.2:9443');
    expect(agent?.health).toEqual({ kind: 'http', url: 'http://10.235.2.2:9093/readyz' });
    const containerd = infrastructureParts(options).find((part) => part.name === 'containerd-node-2');
    expect(containerd?.namespace).toBe('esb-node-2');
  });

  it('hand the events of gateways to one role, which has the folder of the gateway of earlier versions', () => {
    const argumentsOf = (name: string): string =>
      roleParts(options)
        .find((part) => part.name === name)
        ?.args.join(' ') ?? '';
    expect(argumentsOf('events')).toContain('--listen 127.0.0.1:9444');
    expect(argumentsOf('events')).toContain('--state-dir /tmp/esb-home/gateways/events-state ');
    expect(argumentsOf('gateway-1')).toContain('--events-address=127.0.0.1:9444');
    expect(argumentsOf('gateway-1')).toContain('--state-dir /tmp/esb-home/gateways/gateway-1-state ');
  });

  it('of the first node run in the namespace of the host', () => {
    const agent = roleParts(options).find((part) => part.name === 'agent-node-1');
    expect(agent?.namespace).toBeUndefined();
    expect(agent?.args.join(' ')).toContain('--listen 127.0.0.1:9443');
  });

  it('keep workers off the cables between the host and the nodes', () => {
    const agents = roleParts(options).filter(({ name }) => name.startsWith('agent-'));
    expect(agents).toHaveLength(2);
    for (const { args } of agents) {
      expect(args.join(' ')).toContain('--deny-cidr 10.235.0.0/16');
    }
  });

  it('keep an audit log only when asked to', () => {
    const flags = (audit: boolean): string =>
      infrastructureParts({ ...options, state: { ...state, audit } })
        .find((part) => part.name === 'apiserver')
        ?.args.join(' ') ?? '';
    expect(flags(false)).not.toContain('audit');
    expect(flags(true)).toContain('--audit-policy-file=');
  });

  it('are recognised as the same by whatever starts the process', () => {
    const [one] = infrastructureParts(options);
    const [same] = infrastructureParts(options);
    const [other] = infrastructureParts({
      ...options,
      state: { ...state, ports: { ...state.ports, etcd: 1 } },
    });
    expect(one === undefined || same === undefined || other === undefined).toBe(false);
    if (one !== undefined && same !== undefined && other !== undefined) {
      expect(partFingerprint(one)).toBe(partFingerprint(same));
      expect(partFingerprint(one)).not.toBe(partFingerprint(other));
    }
  });

  it('put all workers below one control group of the instance', () => {
    expect(cgroupParent(options.home, 'node-2')).toMatch(/^\/esb\/[0-9a-f]{8}\/node-2$/);
  });
});
