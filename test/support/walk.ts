import { Session } from 'node:inspector/promises';
import { join } from 'node:path';

const source = `${join(import.meta.dirname, '../../src')}/`;

/** Files of the source of which a function was called while `work` ran, by their paths below `src/`, in order of path. */
export async function filesEntered(work: () => Promise<unknown>): Promise<readonly string[]> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    // Counts begin at zero here: earlier calls are not among them.
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
    await work();
    const { result } = await session.post('Profiler.takePreciseCoverage');
    await session.post('Profiler.stopPreciseCoverage');
    const entered = result
      .filter(({ functions }) => functions.some(({ ranges: [range] }) => range !== undefined && range.count > 0))
      .map(({ url }) => url.replace(/^file:\/\//, '').replace(/\?.*$/, ''))
      .filter((path) => path.startsWith(source))
      .map((path) => path.slice(source.length));
    return [...new Set(entered)].toSorted();
  } finally {
    session.disconnect();
  }
}
