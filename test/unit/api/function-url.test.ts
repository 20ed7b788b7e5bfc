import { describe, expect, it } from 'vitest';
import { functionOfHost, functionUrlHost } from '../../../src/api/function-url.ts';

describe('the host of a function URL', () => {
  it('is name, namespace and domain, and leads back to the name', () => {
    const host = functionUrlHost('hello', 'team-a', 'fn.example.com');
    expect(host).toBe('hello.team-a.fn.example.com');
    expect(functionOfHost(host, 'team-a', 'fn.example.com')).toBe('hello');
  });

  it.each([
    ['hello.team-a.fn.example.com:8443', 'hello'],
    ['HELLO.Team-A.fn.Example.com', 'hello'],
    ['hello.team-a.fn.example.com.', 'hello'],
    ['hello.team-b.fn.example.com', undefined],
    ['hello.team-a.fn.example.com.evil.test', undefined],
    ['a.hello.team-a.fn.example.com', undefined],
    ['.team-a.fn.example.com', undefined],
    ['team-a.fn.example.com', undefined],
    ['10.0.0.1', undefined],
    ['', undefined],
  ])('%s means %s', (host, name) => {
    expect(functionOfHost(host, 'team-a', 'fn.example.com')).toBe(name);
  });
});
