import { expect, it } from 'vitest';
import { endpointOf } from '../../../../src/common/net/endpoint.ts';

it('advertises an address that others can reach', () => {
  expect(endpointOf('10.1.2.3:9000', { host: '', port: 9443 })).toBe('10.1.2.3:9000');
  expect(endpointOf('10.1.2.3:0', { host: '', port: 9443 })).toBe('10.1.2.3:9443');
  expect(endpointOf(undefined, { host: '10.9.9.9', port: 9443 })).toBe('10.9.9.9:9443');
  expect(endpointOf(undefined, { host: '', port: 9443 })).toMatch(/^.+:9443$/);
});
