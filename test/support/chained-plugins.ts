import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import { run } from './command.ts';
import { toolsFolder } from './tools.ts';

/** Plugins that an operator may put behind the bridge. */
const CHAINED = ['bandwidth', 'portmap', 'tuning'];
const source = resolve(import.meta.dirname, 'cni-plugins');

/** Tells its requests, one line of JSON each, to the file of its name; passes the result on. */
const SPY = `#!/bin/sh
input=$(cat | tr -d '\\n')
[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}'; exit 0; }
echo "{\\"command\\":\\"$CNI_COMMAND\\",\\"plugin\\":\\"\${0##*/}\\",\\"request\\":$input}" >> "\${0%/*}/requests"
[ "$CNI_COMMAND" = ADD ] && echo "$input" | ${process.execPath} -e 'process.stdin.on("data", (d) => console.log(JSON.stringify(JSON.parse(d).prevResult)))'
exit 0
`;

/**
 * Fills a folder with the plugins that every node has, with bandwidth, portmap and tuning, and with `spy-1` and
 * `spy-2`, which write each request to the file `requests` there.
 */
export async function chainedPlugins(folder: string): Promise<string> {
  const built = await buildChained();
  await mkdir(folder, { recursive: true });
  for (const name of ['bridge', 'host-local', 'loopback']) {
    await copyFile(join(toolsFolder(), name), join(folder, name));
  }
  for (const name of CHAINED) {
    await copyFile(join(built, name), join(folder, name));
  }
  for (const name of ['spy-1', 'spy-2']) {
    await writeFile(join(folder, name), SPY);
    await chmod(join(folder, name), 0o755);
  }
  return folder;
}

/** Builds the plugins that not every node has, once for each version; gives their folder. */
export async function buildChained(): Promise<string> {
  const version = createHash('sha256')
    .update(await readFile(join(source, 'go.mod')))
    .digest('hex');
  const folder = join(cacheFolder(), 'test-plugins', version.slice(0, 16));
  if (!existsSync(folder)) {
    await mkdir(dirname(folder), { recursive: true });
    const staging = await mkdtemp(join(dirname(folder), 'building-'));
    const packages = CHAINED.map((name) => `github.com/containernetworking/plugins/plugins/meta/${name}`);
    await run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', `${staging}/`, ...packages], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' },
      timeoutMs: 300_000,
    });
    // Another process may have been quicker; either is as good.
    await rename(staging, folder).catch(() => rm(staging, { recursive: true, force: true }));
  }
  return folder;
}
