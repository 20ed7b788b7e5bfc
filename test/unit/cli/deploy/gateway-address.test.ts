import { expect, it } from 'vitest';
import { callText, usualGateway } from '../../../../src/cli/deploy/gateway-address.ts';

it('the gateway of an instance is that of functions in its namespace alone', () => {
  expect(usualGateway('http://127.0.0.1:1', 'default')).toBe('http://127.0.0.1:1');
  expect(usualGateway('http://127.0.0.1:1', 'team')).toBeUndefined();
  expect(usualGateway(undefined, 'default')).toBeUndefined();
});

it.each([
  ['http://127.0.0.1:1', true, `esb invoke hello '{"name": "Ada"}'\n`, '--endpoint-url http://127.0.0.1:1 '],
  ['http://team.example', false, '--gateway http://team.example\n', '--endpoint-url http://team.example '],
  [undefined, true, '--gateway <address of the gateway>\n', '--endpoint-url <address of the gateway> '],
])('a call names its gateway where that is not the usual one: %s %s', (gateway, isUsual, invoke, endpoint) => {
  const text = callText('hello', gateway, isUsual);
  expect(text).toContain(invoke);
  expect(text).toContain(endpoint);
});
