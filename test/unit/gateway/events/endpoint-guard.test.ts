import { describe, expect, it } from 'vitest';
import { EndpointGuard } from '../../../../src/gateway/events/endpoint-guard.ts';
import type { EgressClass } from '../../../../src/gateway/events/event-store.ts';

const guard = (...allowed: readonly string[]) =>
  new EndpointGuard({ allowed, ownAddresses: () => ['10.1.2.3', 'fd00::3'] });
const may = (host: string, ...allowed: readonly string[]): boolean => {
  try {
    guard(...allowed).check(`http://${host}/`, undefined);
    return true;
  } catch {
    return false;
  }
};

describe('the guard of endpoints', () => {
  it.each([
    '127.0.0.1',
    '127.255.0.1',
    '0.0.0.0',
    '169.254.169.254',
    '168.63.129.16',
    '100.100.100.200',
    '[::1]',
    '[::]',
    '[fe80::1]',
    '[fd00:ec2::254]',
    '[::ffff:169.254.169.254]',
    '[64:ff9b::169.254.169.254]',
    '[::169.254.169.254]',
    '[2002:a9fe:a9fe::1]',
    '[::127.0.0.1]',
    '224.0.0.1',
    '10.1.2.3',
    '[::ffff:10.1.2.3]',
    '[fd00::3]',
  ])('keeps %s out of reach, also where everything else is let', (host) => {
    expect(may(host)).toBe(false);
    expect(may(host, '*')).toBe(false);
  });

  it('lets everything else be reached without a list', () => {
    expect(['10.0.0.7', '192.0.2.1', '[2001:db8::1]', '128.0.0.1'].filter((host) => may(host))).toHaveLength(4);
  });

  it('lets with a list nothing be reached but what it names', () => {
    expect(may('10.0.0.7', '10.0.0.0/8')).toBe(true);
    expect(may('10.1.2.3', '10.0.0.0/8')).toBe(true);
    expect(may('192.0.2.1', '10.0.0.0/8')).toBe(false);
    expect(may('192.0.2.1', 'letters.example')).toBe(false);
    expect(may('[fd00::7]', 'fd00::/16')).toBe(true);
    expect(may('127.0.0.1', '127.0.0.1')).toBe(true);
    expect(may('127.0.0.2', '127.0.0.1')).toBe(false);
  });

  it.each<[string, readonly string[], boolean]>([
    ['localhost', ['localhost'], false],
    ['localhost', ['127.0.0.0/8', '::1/128'], true],
    ['localhost', ['*'], false],
    ['localhost', [], false],
    ['localhost', ['*', '127.0.0.1', '::1'], true],
  ])('goes by the address of the name %s with the list %j', async (host, allowed, admitted) => {
    const found = Promise.withResolvers<unknown>();
    guard(...allowed).lookup(undefined)(host, { all: true }, (error, addresses) => found.resolve(error ?? addresses));
    const told = await found.promise;
    if (admitted) {
      expect(told).toEqual(
        expect.arrayContaining([expect.objectContaining({ address: expect.any(String) as string })]),
      );
    } else {
      expect(told).toMatchObject({ code: 'EndpointRefused' });
    }
  });

  it.each<[EgressClass, readonly string[], readonly string[]]>([
    ['All', ['93.184.215.14', '10.96.0.1', '192.168.1.1', '[fd00::7]'], []],
    [
      'Internet',
      ['93.184.215.14', '[2600::1]'],
      ['10.96.0.1', '192.168.1.1', '100.64.0.1', '[fd00::7]', '[::10.0.0.7]'],
    ],
    ['Cluster', ['10.96.0.1'], ['93.184.215.14', '192.168.1.1']],
    ['None', [], ['93.184.215.14', '10.96.0.1']],
  ])('lets functions of the class %s post to %j and not to %j', (egress, reached, refused) => {
    const judge = new EndpointGuard({ allowed: ['*', '10.96.0.0/12'], ownAddresses: () => [] });
    const usual = new EndpointGuard({ allowed: ['*', '10.96.0.0/12'], egress, ownAddresses: () => [] });
    for (const host of reached) {
      expect(() => judge.check(`http://${host}/`, egress), host).not.toThrow();
      expect(() => usual.check(`http://${host}/`, undefined), host).not.toThrow();
    }
    for (const host of refused) {
      expect(() => judge.check(`http://${host}/`, egress), host).toThrow(`of the egress class ${egress}`);
      expect(() => usual.check(`http://${host}/`, undefined), host).toThrow('spec.network.egress');
    }
  });

  it.each(['http://letters.example', '10.0.0.0/33', '10.0.0.0/x', 'a b', '', '*.'])('refuses the entry %j', (entry) => {
    expect(() => guard(entry)).toThrow('write a host name');
  });
});
