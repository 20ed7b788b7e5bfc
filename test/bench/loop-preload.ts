// Imported before a program: tells the longest holds of its event loop, at each SIGUSR2, in a file of the folder
// ESB_LOOP_FOLDER.
import { renameSync, writeFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** Milliseconds between two looks: a loop that is free keeps this pace. */
const LOOK_MS = 1;

function watchLoop(folder: string): void {
  let longest = { wallMs: 0, processorMs: 0, collectionMs: 0 };
  let readings = 0;
  let [at, used] = [performance.now(), process.threadCpuUsage()];
  const look = (): void => {
    const [now, usedNow] = [performance.now(), process.threadCpuUsage()];
    const processorMs = (usedNow.user - used.user + usedNow.system - used.system) / 1_000;
    longest = {
      ...longest,
      wallMs: Math.max(longest.wallMs, now - at - LOOK_MS),
      processorMs: Math.max(longest.processorMs, processorMs),
    };
    [at, used] = [now, usedNow];
  };
  const collections = new PerformanceObserver((list) => {
    const durations = list.getEntries().map(({ duration }) => duration);
    longest = { ...longest, collectionMs: Math.max(longest.collectionMs, ...durations) };
  });
  collections.observe({ entryTypes: ['gc'] });
  setInterval(look, LOOK_MS).unref();
  process.on('SIGUSR2', () => {
    look();
    const file = `${folder}/${process.pid}`;
    readings += 1;
    writeFileSync(`${file}.new`, JSON.stringify({ ...longest, readings }));
    renameSync(`${file}.new`, file);
    longest = { wallMs: 0, processorMs: 0, collectionMs: 0 };
    [at, used] = [performance.now(), process.threadCpuUsage()];
  });
}

const folder = process.env.ESB_LOOP_FOLDER;
if (isMainThread && folder !== undefined) {
  watchLoop(folder);
}
