import type {
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';

interface HealthRequestMessage {
  readonly service: string;
}

interface HealthResponseMessage {
  readonly status: 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
}

/** The health service of gRPC, for the server as a whole and for each of `services`. */
export class GrpcHealthService {
  readonly #services: ReadonlySet<string>;
  readonly #watchers = new Set<ServerWritableStream<HealthRequestMessage, HealthResponseMessage>>();
  #serving = false;

  constructor(services: readonly string[]) {
    this.#services = new Set(['', ...services]);
  }

  /** What is answered from now on. */
  setServing(serving: boolean): void {
    if (serving !== this.#serving) {
      this.#serving = serving;
      for (const watcher of this.#watchers) {
        watcher.write({ status: this.#statusOf(watcher.request.service) });
      }
    }
  }

  /** Ends every watch. */
  stop(): void {
    this.setServing(false);
    for (const watcher of this.#watchers) {
      watcher.end();
    }
    this.#watchers.clear();
  }

  /** The handlers, to be added to a server. */
  get implementation(): UntypedServiceImplementation {
    return {
      Check: (
        call: ServerUnaryCall<HealthRequestMessage, HealthResponseMessage>,
        answer: sendUnaryData<HealthResponseMessage>,
      ) => {
        const { service } = call.request;
        if (this.#services.has(service)) {
          answer(null, { status: this.#statusOf(service) });
        } else {
          answer({ code: status.NOT_FOUND, details: `NotFound: no service ${service}` });
        }
      },
      Watch: (call: ServerWritableStream<HealthRequestMessage, HealthResponseMessage>) => {
        this.#watchers.add(call);
        call.on('cancelled', () => this.#watchers.delete(call));
        call.write({ status: this.#statusOf(call.request.service) });
      },
    };
  }

  #statusOf(service: string): HealthResponseMessage['status'] {
    if (!this.#services.has(service)) {
      return 'SERVICE_UNKNOWN';
    }
    return this.#serving ? 'SERVING' : 'NOT_SERVING';
  }
}
