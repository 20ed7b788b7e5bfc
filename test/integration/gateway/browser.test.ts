import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { BrowserContext } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaFunctionSpecUrlCors } from '../../../src/api/lambda-function.ts';
import { startBrowser, type TestBrowser } from '../../support/browser.ts';
import { functionFixture } from '../../support/function-fixture.ts';
import { eventsOf, HELLO, OPEN, urlLab } from '../../support/url-lab.ts';

const REFUSED = { refused: 'TypeError: Failed to fetch' };

interface Asked {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly credentials?: 'include';
}

let browser: TestBrowser;
let pages: Server;
/** Origin of a page of the same site as the URL, which gets the cookies of that, and of a page of another one. */
let ours: string;
let theirs: string;

beforeAll(async () => {
  browser = await startBrowser();
  pages = createServer((_request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>'));
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  const { port } = pages.address() as AddressInfo;
  ours = `http://www.example.com:${port}`;
  theirs = `http://www.example.org:${port}`;
}, 60_000);

afterAll(async () => {
  pages?.close();
  await browser?.[Symbol.asyncDispose]();
});

/** A gateway with the URL of `hello`, which answers as told, and pages that call it. */
async function browserLab(cors: LambdaFunctionSpecUrlCors | undefined, answer: object = { statusCode: 200 }) {
  const lab = await urlLab({ ...OPEN, ...(cors === undefined ? {} : { cors }) });
  lab.agent.onInvoke((call) => call.answer(JSON.stringify(answer)));
  const reader = await browser.reader();
  onTestFinished(() => reader.close());
  const url = `http://${HELLO}:${lab.urlPort}/`;
  return { ...lab, ask: (origin: string, asked: Asked = {}) => askFrom(reader, origin, url, asked) };
}

/** Asks the URL from a page of an origin, and gives the answer as the page sees it. */
async function askFrom(reader: BrowserContext, origin: string, url: string, asked: Asked) {
  const page = await reader.newPage();
  try {
    await page.goto(origin);
    return await page.evaluate(
      async ([target, init]) => {
        try {
          const answer = await fetch(target, init);
          return { status: answer.status, body: await answer.text(), headers: Object.fromEntries(answer.headers) };
        } catch (error) {
          return { refused: String(error) };
        }
      },
      [url, asked] as const,
    );
  } finally {
    await page.close();
  }
}

const JSON_CALL: Asked = { method: 'PUT', headers: { 'content-type': 'application/json', 'x-own': '1' }, body: '{}' };
const ASKED_FIRST: LambdaFunctionSpecUrlCors = { allowMethods: ['PUT'], allowHeaders: ['Content-Type', 'X-Own'] };

describe('a page that calls a function URL', () => {
  it('reads the answer and the headers that the function exposes, where its origin is allowed', async () => {
    const answer = { statusCode: 201, headers: { 'x-told': 'yes', 'x-kept': 'no' }, body: 'made' };
    const lab = await browserLab({ allowOrigins: [ours], exposeHeaders: ['X-Told'] }, answer);
    const got = await lab.ask(ours);
    expect(got).toMatchObject({ status: 201, body: 'made', headers: { 'x-told': 'yes' } });
    expect(got.headers).not.toHaveProperty('x-kept');
    expect(eventsOf(lab)).toMatchObject([{ headers: { origin: ours } }]);
  });

  it('reads nothing where its origin is not', async () => {
    const lab = await browserLab({ allowOrigins: [ours] });
    expect(await lab.ask(theirs)).toEqual(REFUSED);
    expect(await lab.ask(ours)).toMatchObject({ status: 200 });
  });

  it('asks first for what is not simple, which the function does not see', async () => {
    const lab = await browserLab({ ...ASKED_FIRST, allowOrigins: [ours] });
    expect(await lab.ask(ours, JSON_CALL)).toMatchObject({ status: 200 });
    expect(eventsOf(lab)).toMatchObject([
      { body: '{}', headers: { 'x-own': '1' }, requestContext: { http: { method: 'PUT' } } },
    ]);
  });

  it.each([
    ['of another origin', () => theirs, {}],
    ['with another method', () => ours, { method: 'DELETE' }],
    ['with another header', () => ours, { headers: { 'x-other': '1' } }],
  ])('calls nothing that is not simple %s', async (_what, origin, more) => {
    const lab = await browserLab({ ...ASKED_FIRST, allowOrigins: [ours] });
    expect(await lab.ask(origin(), { ...JSON_CALL, ...more })).toEqual(REFUSED);
    expect(lab.agent.calls).toEqual([]);
  });

  it('reads refusals too', async () => {
    const lab = await browserLab({ allowOrigins: [ours] }, { errorType: 'Failed', statusCode: 'none' });
    expect(await lab.ask(ours)).toMatchObject({ status: 502, body: 'Internal Server Error' });
    lab.workers.remove({ namespace: 'default', name: 'hello' });
    expect(await lab.ask(ours)).toMatchObject({ status: 503 });
  });

  it('sends the cookies of its reader where that is allowed, and keeps those of the answer', async () => {
    const lab = await browserLab(
      { allowOrigins: [ours], allowCredentials: true },
      { statusCode: 200, cookies: ['a=1', 'b=2'] },
    );
    await lab.ask(ours);
    expect((await lab.ask(ours, { credentials: 'include' })).status).toBe(200);
    expect((await lab.ask(ours, { credentials: 'include' })).status).toBe(200);
    expect(eventsOf(lab).map(({ cookies }) => cookies)).toEqual([undefined, undefined, ['a=1', 'b=2']]);
  });

  it('reads no answer to a call with cookies where these are not allowed', async () => {
    const lab = await browserLab({ allowOrigins: [ours] });
    expect(await lab.ask(ours, { credentials: 'include' })).toEqual(REFUSED);
  });

  it('may send anything with cookies where all methods and headers are allowed', async () => {
    const cors: LambdaFunctionSpecUrlCors = {
      allowOrigins: [ours],
      allowMethods: ['*'],
      allowHeaders: ['*'],
      exposeHeaders: ['*'],
      allowCredentials: true,
    };
    const lab = await browserLab(cors, { statusCode: 200, headers: { 'x-told': 'yes' } });
    const headers = { ...JSON_CALL.headers, authorization: 'Bearer of-the-app' };
    expect(await lab.ask(ours, { ...JSON_CALL, headers, credentials: 'include' })).toMatchObject({
      status: 200,
      headers: { 'x-told': 'yes' },
    });
  });

  it('is of any origin where all are allowed', async () => {
    const lab = await browserLab({ ...ASKED_FIRST, allowOrigins: ['*'] });
    expect(await lab.ask(theirs, JSON_CALL)).toMatchObject({ status: 200 });
  });

  it('asks the function itself without a configuration', async () => {
    const headers = { 'Access-Control-Allow-Origin': theirs, 'Access-Control-Allow-Methods': 'PUT' };
    const lab = await browserLab(undefined, { statusCode: 200, headers });
    expect(await lab.ask(theirs, { method: 'PUT' })).toMatchObject({ status: 200 });
    const methods = eventsOf(lab).map(
      ({ requestContext }) => (requestContext as { http: { method: string } }).http.method,
    );
    expect(methods).toEqual(['OPTIONS', 'PUT']);
    lab.functions.put(functionFixture({ spec: { url: { ...OPEN, cors: { allowOrigins: [ours] } } } }));
    expect(await lab.ask(theirs)).toEqual(REFUSED);
  });
});
