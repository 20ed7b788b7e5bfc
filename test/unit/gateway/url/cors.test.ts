import { describe, expect, it } from 'vitest';
import { corsHeaders, isPreflight, preflightHeaders, withoutCors } from '../../../../src/gateway/url/cors.ts';

const page = 'https://www.example.com';
const asked = { method: 'OPTIONS', origin: page, wantedMethod: 'PUT', wantedHeaders: 'authorization,x-own' };

describe('a preflight', () => {
  it.each([
    [asked, true],
    [{ ...asked, method: 'GET' }, false],
    [{ ...asked, origin: '' }, false],
    [{ ...asked, wantedMethod: '' }, false],
  ])('%j is one: %s', (request, is) => {
    expect(isPreflight(request)).toBe(is);
  });

  it('is told all that the configuration has', () => {
    const cors = {
      allowOrigins: ['https://other.example', page],
      allowMethods: ['PUT', 'DELETE'] as ('PUT' | 'DELETE')[],
      allowHeaders: ['x-one', 'x-two'],
      allowCredentials: true,
      maxAgeSeconds: 300,
    };
    expect(preflightHeaders(cors, asked)).toEqual([
      ['access-control-allow-origin', page],
      ['access-control-allow-credentials', 'true'],
      ['vary', 'Origin'],
      ['access-control-allow-methods', 'PUT,DELETE'],
      ['access-control-allow-headers', 'x-one,x-two'],
      ['access-control-max-age', '300'],
    ]);
  });

  it('is told the names that it asks for beside all', () => {
    expect(preflightHeaders({ allowOrigins: [page], allowMethods: ['*'], allowHeaders: ['*'] }, asked)).toEqual([
      ['access-control-allow-origin', page],
      ['vary', 'Origin'],
      ['access-control-allow-methods', '*,PUT'],
      ['access-control-allow-headers', '*,authorization,x-own'],
      ['access-control-max-age', '5'],
    ]);
  });

  it('of another origin is told nothing but that origins matter', () => {
    expect(preflightHeaders({ allowOrigins: [page] }, { ...asked, origin: 'https://evil.test' })).toEqual([
      ['vary', 'Origin'],
    ]);
    expect(preflightHeaders({ allowOrigins: [page] }, { ...asked, origin: `${page}.evil.test` })).toEqual([
      ['vary', 'Origin'],
    ]);
  });

  it('may be kept for five seconds by default', () => {
    expect(preflightHeaders({ allowOrigins: ['*'] }, asked)).toEqual([
      ['access-control-allow-origin', '*'],
      ['access-control-max-age', '5'],
    ]);
  });
});

describe('an answer', () => {
  it('has the configured headers in place of those of the function', () => {
    const cors = { allowOrigins: [page], exposeHeaders: ['x-count'] };
    expect(corsHeaders(cors, { ...asked, method: 'GET' }, [['x-other', '1']])).toEqual([
      ['access-control-allow-origin', page],
      ['vary', 'Origin'],
      ['access-control-expose-headers', 'x-count'],
    ]);
    expect(
      withoutCors([
        ['access-control-allow-origin', '*'],
        ['x-count', '1'],
      ]),
    ).toEqual([['x-count', '1']]);
  });

  it('exposes its own headers by name beside all', () => {
    const own = [
      ['x-one', '1'],
      ['x-one', '2'],
      ['x-two', '1'],
    ] as const;
    expect(corsHeaders({ allowOrigins: ['*'], exposeHeaders: ['*'] }, asked, own)).toEqual([
      ['access-control-allow-origin', '*'],
      ['access-control-expose-headers', '*,x-one,x-two'],
    ]);
  });

  it('for all origins never lets cookies along', () => {
    expect(corsHeaders({ allowOrigins: ['*'], allowCredentials: true }, asked, [])).toEqual([
      ['access-control-allow-origin', '*'],
    ]);
  });

  it('to no page has no name of one', () => {
    expect(corsHeaders({ allowOrigins: [page] }, { ...asked, origin: '' }, [])).toEqual([['vary', 'Origin']]);
  });
});
