import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { builtProgram } from '../../local/tools/built-program.ts';
import { run } from '../support/command.ts';

const source = fileURLToPath(new URL('./traefik', import.meta.url));
const env = { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off', GOGC: 'off' };
const BUILD_TIMEOUT_MS = 40 * 60_000;

/**
 * Traefik, an ingress controller that reads Ingresses, with the annotations of ingress-nginx, and the Gateway API. A
 * first build takes some seven minutes on two cores, and 1.8 GB in the cache of Go.
 */
export function traefikProgram(): Promise<string> {
  return builtProgram('traefik', source, async (program) => {
    const work = await mkdtemp(join(tmpdir(), 'esb-traefik-'));
    try {
      await cp(join(source, 'go.mod'), join(work, 'go.mod'));
      await cp(join(source, 'go.sum'), join(work, 'go.sum'));
      await mkdir(join(work, 'ext'));
      await cp(join(source, 'ext.go'), join(work, 'ext/ext.go'));
      await writeFile(join(work, 'ext/go.mod'), 'module github.com/traefik/traefik/dynamic/ext\n');
      await copyLego(join(work, 'lego'));
      await run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', program, `${TRAEFIK}/cmd/traefik`], {
        cwd: work,
        env,
        timeoutMs: BUILD_TIMEOUT_MS,
      });
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
}

const TRAEFIK = 'github.com/traefik/traefik/v3';
/** The version that Traefik's go.mod names. */
const LEGO = 'github.com/go-acme/lego/v5@v5.4.1';

/** The client for certificates, without its providers for DNS. */
async function copyLego(folder: string): Promise<void> {
  const { stdout } = await run('go', ['mod', 'download', '-json', LEGO], { env });
  const providers = 'providers/dns';
  const { Dir: original } = JSON.parse(stdout) as { readonly Dir: string };
  await cp(original, folder, { recursive: true, filter: (path) => !path.startsWith(join(original, providers)) });
  await mkdir(join(folder, providers));
  await cp(join(source, 'dns-providers.go'), join(folder, providers, 'dns-providers.go'));
}
