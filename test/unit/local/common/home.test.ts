import { describe, expect, it } from 'vitest';
import { homeAt, openHome } from '../../../../local/common/home.ts';

describe('the home of an instance', () => {
  it('is where ESB_HOME says', () => {
    const home = openHome({ ESB_HOME: '/var/tmp/esb' });
    expect(home.kubeconfig).toBe('/var/tmp/esb/kubeconfig');
    expect(home.node('node-1').containerdSocket).toBe('/var/tmp/esb/nodes/node-1/containerd.sock');
  });

  it('is .esb in the repository without it', () => {
    expect(openHome({}).root).toMatch(/\/\.esb$/);
  });

  it('is refused when sockets in it would have paths that Linux does not take', () => {
    expect(() => openHome({ ESB_HOME: `/tmp/${'x'.repeat(90)}` })).toThrow(/ESB_HOME=\/var\/tmp\/esb/);
  });

  it('has a folder of its own below /run for what must not outlive a boot', () => {
    expect(homeAt('/a').volatile).toMatch(/^\/run\/esb-[0-9a-f]{8}$/);
    expect(homeAt('/a').volatile).not.toBe(homeAt('/b').volatile);
  });
});
