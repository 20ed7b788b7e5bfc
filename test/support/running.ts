/** A role or a part of one, in this process. */
export interface Running {
  /** Resolves once it has ended, however it does. */
  stop(): Promise<void>;
}

/** Begins something that goes on until its signal fires. */
export function running(begin: (signal: AbortSignal) => Promise<void>): Running {
  const stopping = new AbortController();
  const ended = begin(stopping.signal).catch(() => undefined);
  return {
    async stop() {
      stopping.abort();
      await ended;
    },
  };
}
