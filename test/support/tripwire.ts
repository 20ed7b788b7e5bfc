import type { ContainerdClient } from '../../src/containerd/containerd-client.ts';

/** Called for every request to containerd, `service.method`, before it is made and after it was answered. */
export interface CallHooks {
  readonly before?: (call: string) => void | Promise<void>;
  readonly after?: (call: string) => void | Promise<void>;
}

/** A client whose calls can be watched, held up or made to fail. */
export function watchedClient(client: ContainerdClient, hooks: CallHooks): ContainerdClient {
  const watched = Object.entries(client).map(([service, methods]) => {
    if (typeof methods !== 'object' || service === 'events') {
      return [service, methods] as const;
    }
    const calls = Object.entries(methods as Readonly<Record<string, (...args: unknown[]) => Promise<unknown>>>);
    return [
      service,
      Object.fromEntries(
        calls.map(([method, call]) => [
          method,
          async (...args: unknown[]): Promise<unknown> => {
            await hooks.before?.(`${service}.${method}`);
            const answer = await call(...args);
            await hooks.after?.(`${service}.${method}`);
            return answer;
          },
        ]),
      ),
    ] as const;
  });
  return Object.fromEntries(watched) as unknown as ContainerdClient;
}
