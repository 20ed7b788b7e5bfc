import type { DockerVersion } from '../../docker/system-service.ts';

/** API of Docker 20.10, the first with a control group namespace for each container. */
const OLDEST = [1, 41] as const;

/** The reason why an engine cannot be used; undefined for a usable one. */
export function dockerVersionFault({ apiVersion, os, version }: DockerVersion): string | undefined {
  if (os !== 'linux') {
    return `the engine runs containers of ${os}, and workers are containers of Linux`;
  }
  const [major = 0, minor = 0] = apiVersion.split('.').map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
    ? undefined
    : `Docker ${version} is too old: 20.10 is the oldest that can be used`;
}
