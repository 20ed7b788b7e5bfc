import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import { listenOn } from '../../common/net/listen.ts';
import type { CertifiedKey } from '../../common/x509.ts';
import { ClientGate, gatewaysAlone } from '../../peers/client-gate.ts';
import { overloaded } from '../admission/admission-policy.ts';
import type { Hold, Room } from '../admission/room.ts';
import type { FunctionCall } from '../agents/function-call.ts';
import { toLambdaError } from '../http/answer.ts';
import { ConnectionDrain, type Door } from '../http/connection-drain.ts';
import { type ConnectionLimits, guardedServer, HttpGuard } from '../http/http-guard.ts';
import { readRequestBody } from '../http/request-body.ts';
import { LambdaError, lambdaErrorAnswer } from '../lambda/lambda-error.ts';
import { decodeEvent, EVENTS_PATH, MAX_MESSAGE_BYTES } from './event-message.ts';

/** The certificate that the role shows, and the authority, in PEM, of the gateways that are let in. */
export interface IntakeIdentity extends CertifiedKey {
  readonly clientAuthority: string;
}

export interface EventIntakeOptions {
  readonly namespace: string;
  /**
   * Takes over an event. Resolves once the event is durable.
   *
   * @throws {LambdaError} when it is not
   */
  readonly accept: (call: FunctionCall) => Promise<void>;
  /** Why no event can be taken yet; undefined when one can. */
  readonly notReady: () => LambdaError | undefined;
  readonly isDraining: () => boolean;
  readonly room: Room;
  readonly connections: ConnectionLimits;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The server of the role that keeps events, for gateways alone. Until it has an identity, every handshake fails. */
export interface EventIntake extends Door {
  /** Connections from now on see this certificate; on each connection this authority counts from now on. */
  configure(identity: IntakeIdentity): void;
}

export function createEventIntake(options: EventIntakeOptions): EventIntake {
  const { clock, connections, isDraining, logger, namespace, room } = options;
  const gate = new ClientGate();
  const serve = async (request: IncomingMessage, response: ServerResponse, hold: Hold): Promise<void> => {
    let refusal: LambdaError | undefined;
    try {
      const why = gate.refusal(request.socket as TLSSocket, clock.now(), namespace);
      if (why !== undefined) {
        logger.warn({ remote: request.socket.remoteAddress, reason: why }, 'refused a client that is no gateway');
        throw new LambdaError('AccessDeniedException', `The client is no gateway of ${namespace}: ${why}.`);
      }
      await take(request, hold, options);
    } catch (error) {
      refusal = toLambdaError(error, logger, '');
    }
    if (isDraining() || !request.complete) {
      response.setHeader('connection', 'close');
    }
    if (refusal === undefined) {
      response.writeHead(204).end();
    } else {
      const { body, headers, status } = lambdaErrorAnswer(refusal, '');
      response.writeHead(status, headers).end(body);
    }
  };
  const server = createServer(
    {
      ...guardedServer(connections.patience),
      ...gatewaysAlone,
      ALPNProtocols: ['http/1.1'],
    },
    (request, response) => {
      const hold = room.open();
      response.once('close', () => hold.close());
      void serve(request, response, hold);
    },
  );
  server.on('tlsClientError', (error, socket) => {
    logger.debug({ remote: socket.remoteAddress, reason: error.message.trim() }, 'TLS handshake failed');
  });
  const guard = new HttpGuard(server, connections);
  server.on('clientError', (error, socket) => guard.refuse(error, socket as TLSSocket));
  const drain = new ConnectionDrain(server, clock);
  return {
    configure({ certificate, clientAuthority, privateKey }) {
      gate.trust(clientAuthority);
      server.setSecureContext({ cert: certificate, key: privateKey, ca: clientAuthority, minVersion: 'TLSv1.3' });
    },
    listen: (address) => listenOn(server, address),
    close: (how) => drain.run(how),
  };
}

/** Reads an event, and resolves once it is kept. */
async function take(
  request: IncomingMessage,
  hold: Hold,
  { accept, clock, notReady, room }: EventIntakeOptions,
): Promise<void> {
  if (request.method !== 'POST' || request.url !== EVENTS_PATH) {
    throw new LambdaError('UnknownOperationException', `The role that keeps events takes POST ${EVENTS_PATH} alone.`);
  }
  const reason = room.overload() === undefined ? notReady() : overloaded();
  if (reason !== undefined) {
    throw reason;
  }
  const read = Promise.withResolvers<Buffer>();
  readRequestBody(request, hold, { clock, maxBytes: MAX_MESSAGE_BYTES, operation: 'Event' }, (error, body) =>
    error === null ? read.resolve(body ?? Buffer.alloc(0)) : read.reject(error),
  );
  await accept(decodeEvent(await read.promise));
}
