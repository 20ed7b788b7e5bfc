import { createServer } from 'node:https';
import { connect as connectPlain, Server } from 'node:net';
import { setTimeout as sleepMs } from 'node:timers/promises';
import { connect } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { gatewayUri } from '../../../../src/api/gateway-name.ts';
import { GATEWAY_COMMON_NAME } from '../../../../src/api/name.ts';
import { type Clock, systemClock } from '../../../../src/common/clock.ts';
import { parseHostPort } from '../../../../src/common/host-port.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { listenOn } from '../../../../src/common/net/listen.ts';
import { type CertifiedKey, certificateRequest } from '../../../../src/common/x509.ts';
import {
  type Authority,
  advanceAuthority,
  bundleOf,
  controllerIdentity,
  readGatewayRequest,
  signGatewayRequest,
} from '../../../../src/controller/certificates/ca.ts';
import { LoadBook, type LoadChange } from '../../../../src/controller/load/load-book.ts';
import { LoadAddress, serveLoad } from '../../../../src/controller/load/serve-load.ts';
import { LoadMeter } from '../../../../src/gateway/admission/load-meter.ts';
import { LoadReporter } from '../../../../src/gateway/load/load-reporter.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';
import { type Running, running } from '../../../support/running.ts';
import { waitFor } from '../../../support/wait-for.ts';

async function gatewayIdentity(authority: Authority, ...namespaces: readonly string[]): Promise<CertifiedKey> {
  const { privateKey, request } = await certificateRequest(GATEWAY_COMMON_NAME, namespaces.map(gatewayUri));
  const read = await readGatewayRequest(request);
  return { certificate: await signGatewayRequest(authority.current, read, Date.now()), privateKey };
}

describe('the load of gateways at the leader', () => {
  let authority: Authority;
  let book: LoadBook;
  let news: LoadChange[];
  let address: LoadAddress;
  let stops: Running[];
  /** The number of streams at last, and how many were refused. */
  let counted: { streams: number; dropped: number };

  beforeEach(async () => {
    authority = await advanceAuthority(undefined, Date.now());
    stops = [];
    lead();
  });

  afterEach(async () => {
    await Promise.all(stops.map((each) => each.stop()));
  });

  /** Begins a term with nothing known. */
  function lead(by: Authority = authority, maxConnections = 100): Running {
    const own = { streams: 0, dropped: 0 };
    counted = own;
    news = [];
    book = new LoadBook(systemClock, (change) => news.push(change));
    address = new LoadAddress();
    const options = {
      place: { listen: { host: '127.0.0.1', port: 0 }, advertise: undefined },
      address,
      book,
      authority: { current: by.current, bundle: bundleOf(by) },
      clock: systemClock,
      logger: silentLogger(),
      maxConnections,
      metrics: {
        loadStreams(streams: number) {
          own.streams = streams;
        },
        loadDropped() {
          own.dropped += 1;
        },
      },
    };
    const term = running((signal) => serveLoad(options, signal));
    stops.push(term);
    return term;
  }

  const leader = async () => {
    const [text = ''] = Object.values(address.annotations);
    return text === '' ? undefined : parseHostPort(text);
  };

  function gateway(
    identity: CertifiedKey,
    namespace = 'default',
    clock: Clock = systemClock,
  ): { readonly meter: LoadMeter } & Running {
    const scaling = { maxWorkers: 10, spareWorkers: 1, delayMs: 1_000 };
    const meter = new LoadMeter({ scaling: () => scaling });
    const reporter = new LoadReporter({
      meter,
      namespace,
      leader,
      identity: () => identity,
      authority: () => bundleOf(authority),
      clock,
      logger: silentLogger(),
    });
    const process = running((signal) => reporter.run(signal));
    stops.push(process);
    return { meter, ...process };
  }

  const calls = (): number => book.calls('default', 'hello', undefined);

  it('counts its streams, and the gateways that it refuses since there are too many', async () => {
    await stops[0]?.stop();
    lead(authority, 1);
    const identity = await gatewayIdentity(authority, 'default');
    gateway(identity);
    await waitFor('the first stream', () => counted.streams === 1, { everyMs: 5 });
    gateway(identity);
    await waitFor('a refused connection', () => counted.dropped > 0, { everyMs: 5 });
    expect(counted.streams).toBe(1);
  });

  it('comes from each gateway as its calls come and go', async () => {
    const identity = await gatewayIdentity(authority, 'default');
    const [one, other] = [gateway(identity), gateway(identity)];
    const first = one.meter.count('hello', undefined);
    const second = other.meter.count('hello', undefined);
    await waitFor('both calls', () => calls() === 2, { everyMs: 5 });
    // Shorter than the time between two reports.
    one.meter.count('hello', undefined).end();
    first.end();
    await waitFor('one call', () => calls() === 1, { everyMs: 5 });
    expect(news.some((change) => change.kind === 'calls' && change.peak === 3)).toBe(true);
    second.end();
    await waitFor('the end', () => calls() === 0, { everyMs: 5 });
    await Promise.all([one.stop(), other.stop()]);
    await waitFor('goodbye of both', () => book.size === 0, { everyMs: 5 });
  });

  it('comes whole to the next leader', async () => {
    const { meter } = gateway(await gatewayIdentity(authority, 'default'));
    meter.count('hello', undefined);
    await waitFor('the call', () => calls() === 1, { everyMs: 5 });
    const [term] = stops;
    await term?.stop();
    expect(await leader()).toBeUndefined();
    lead();
    await waitFor('the call at the next leader', () => calls() === 1, { everyMs: 5 });
  });

  it('is not taken for a namespace that the certificate does not name', async () => {
    const forged = gateway(await gatewayIdentity(authority, 'shop'), 'default');
    const honest = gateway(await gatewayIdentity(authority, 'default'));
    forged.meter.count('hello', undefined);
    honest.meter.count('hello', undefined);
    await waitFor('the honest call', () => calls() > 0, { everyMs: 5 });
    expect([calls(), book.size]).toEqual([1, 1]);
  });

  it('is not taken from a certificate of another authority, nor without one', async () => {
    const other = await advanceAuthority(undefined, Date.now());
    const forged = gateway(await gatewayIdentity(other, 'default'));
    forged.meter.count('hello', undefined);
    const place = await waitFor('the address', leader);
    const socket = connect({ ...place, rejectUnauthorized: false });
    const ended = Promise.withResolvers<void>();
    socket.on('error', () => undefined);
    socket.on('close', () => ended.resolve());
    socket.write('POST /demand/v1?namespace=default&gateway=x HTTP/1.1\r\nhost: x\r\n\r\n');
    await ended.promise;
    expect(book.size).toBe(0);
  });

  it.each([
    'GET /demand/v1?namespace=default&gateway=x HTTP/1.1',
    'POST // HTTP/1.1',
    'POST http://[ HTTP/1.1',
    'POST /demand/v1?namespace=default HTTP/1.1',
    'POST /demand/v1?namespace=default&gateway=%00 HTTP/1.1',
  ])('is refused in another form, and the leader goes on: %s', async (head) => {
    const { certificate: cert, privateKey: key } = await gatewayIdentity(authority, 'default');
    const place = await waitFor('the address', leader);
    const answer = await waitFor('an answer', async () => {
      const text = Promise.withResolvers<string>();
      const socket = connect({ ...place, cert, key, rejectUnauthorized: false });
      socket.on('error', text.reject);
      socket.setEncoding('utf8').once('data', text.resolve);
      socket.write(`${head}\r\nhost: x\r\ncontent-length: 0\r\n\r\n`);
      return await text.promise.finally(() => socket.destroy());
    });
    expect(answer).toMatch(/^HTTP\/1\.1 40[04]/);
    gateway(await gatewayIdentity(authority, 'default')).meter.count('hello', undefined);
    await waitFor('a call', () => calls() === 1, { everyMs: 5 });
  });

  /** Sends lines as a gateway would, and waits until the leader has ended the stream that it took. */
  const endsAfter = async (lines: string): Promise<void> => {
    const { certificate: cert, privateKey: key } = await gatewayIdentity(authority, 'default');
    const place = await waitFor('the address', leader);
    await waitFor('the certificate of the leader', async () => {
      const ended = Promise.withResolvers<void>();
      const socket = connect({ ...place, cert, key, rejectUnauthorized: false });
      let answer = '';
      socket.on('error', ended.reject);
      socket.once('close', () => ended.resolve());
      socket.setEncoding('utf8').once('data', (text: string) => {
        answer += text;
        socket.write(`${lines.length.toString(16)}\r\n${lines}\r\n`);
      });
      socket.write('POST /demand/v1?namespace=default&gateway=x HTTP/1.1\r\nhost: x\r\n');
      socket.write('transfer-encoding: chunked\r\n\r\n');
      await ended.promise;
      return answer.startsWith('HTTP/1.1 200');
    });
  };

  it('ends with a line that is no report', async () => {
    await endsAfter('none\n');
    expect(book.size).toBe(0);
  });

  it('is not told to a server whose certificate is that of a gateway', async () => {
    const { privateKey, request } = await certificateRequest(GATEWAY_COMMON_NAME, [gatewayUri('default')]);
    const read = await readGatewayRequest(request);
    const certificate = await signGatewayRequest(authority.current, read, Date.now(), { serves: true });
    let requests = 0;
    let hangUps = 0;
    const server = createServer({ cert: certificate, key: privateKey }, () => {
      requests += 1;
    });
    server.on('connection', (socket) => {
      socket.once('close', () => {
        hangUps += 1;
      });
    });
    await stops[0]?.stop();
    const port = await listenOn(server, { host: '127.0.0.1', port: 0 });
    address.set(`127.0.0.1:${port}`);
    gateway(await gatewayIdentity(authority, 'default')).meter.count('hello', undefined);
    await waitFor('two refusals', () => hangUps >= 2, { everyMs: 5 });
    expect(requests).toBe(0);
    server.close();
  });

  /** A leader that answers, and then says nothing: as one whose machine has gone. */
  async function silentLeader(): Promise<{ streams(): number } & Running> {
    const { certificate: cert, privateKey: key } = await controllerIdentity(authority.current, Date.now());
    let streams = 0;
    const server = createServer({ cert, key }, (_request, response) => {
      streams += 1;
      response.writeHead(200).flushHeaders();
    });
    await stops[0]?.stop();
    const port = await listenOn(server, { host: '127.0.0.1', port: 0 });
    address.set(`127.0.0.1:${port}`);
    const stop = async (): Promise<void> => {
      server.close();
      server.closeAllConnections();
    };
    const process = { streams: () => streams, stop };
    stops.push(process);
    return process;
  }

  /** Lets time go by in steps between which packets arrive. */
  async function pass(clock: ManualClock, seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      await clock.advance(1_000);
      // No word tells when the other side has come so far.
      await sleepMs(10);
    }
  }

  it('goes to the leader that the Lease names once one that has it is silent', async () => {
    const silent = await silentLeader();
    const clock = manualClock();
    gateway(await gatewayIdentity(authority, 'default'), 'default', clock).meter.count('hello', undefined);
    await waitFor('the first stream', () => silent.streams() === 1, { everyMs: 5 });
    // No word tells when the other side has come so far.
    await sleepMs(20);
    await pass(clock, 15);
    expect(silent.streams()).toBe(1);
    await pass(clock, 10);
    expect(silent.streams()).toBe(2);
  });

  it('stays with a leader that takes it', async () => {
    const clock = manualClock();
    const open = vi.spyOn(book, 'open');
    await waitFor('the address', leader);
    const { meter } = gateway(await gatewayIdentity(authority, 'default'), 'default', clock);
    meter.count('hello', undefined);
    await waitFor('the call', async () => {
      await clock.advance(100);
      return calls() === 1;
    });
    await pass(clock, 60);
    expect([open.mock.calls.length, calls()]).toEqual([1, 1]);
  });

  it('ends with the term, however many have begun no handshake', async () => {
    const place = await waitFor('the address', leader);
    const socket = connectPlain(place);
    const ended = Promise.withResolvers<void>();
    socket.on('error', () => undefined);
    socket.once('close', () => ended.resolve());
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    // No word tells when the other side has come so far.
    await sleepMs(50);
    const since = performance.now();
    await stops[0]?.stop();
    expect(performance.now() - since).toBeLessThan(2_000);
    await ended.promise;
  });

  it('comes again after a connection that could not be accepted', async () => {
    const listen = vi.spyOn(Server.prototype, 'listen');
    await stops[0]?.stop();
    lead();
    await waitFor('the address', leader);
    const server = listen.mock.contexts[0] as Server;
    listen.mockRestore();
    server.emit('error', new Error('accept EMFILE'));
    gateway(await gatewayIdentity(authority, 'default')).meter.count('hello', undefined);
    await waitFor('the call', () => calls() === 1, { everyMs: 5 });
  });

  it('ends with more lines in a second than any gateway sends', async () => {
    await endsAfter('{"kind":"changes","demand":[["hello",0,1,1]]}\n'.repeat(1_000));
  });
});
