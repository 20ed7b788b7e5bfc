import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { repositoryRoot } from '../common/repository.ts';
import { type ToolFamily, toolFamilies } from './tool-catalog.ts';

/** Folder of built programs and images between runs: `ESB_CACHE`, else `$XDG_CACHE_HOME/esb`, else `~/.cache/esb`. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.ESB_CACHE !== undefined && env.ESB_CACHE !== '') {
    return env.ESB_CACHE;
  }
  const base =
    env.XDG_CACHE_HOME === undefined || env.XDG_CACHE_HOME === '' ? join(homedir(), '.cache') : env.XDG_CACHE_HOME;
  return join(base, 'esb');
}

/** Key of all sources of a family's programs. */
export function familyKey(family: ToolFamily, root: string = repositoryRoot()): string {
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum']) {
    hash.update(readFileSync(join(root, 'hack', 'tools', family.name, file)));
  }
  const { programs, flags, linkFlags, cgo } = family;
  hash.update(JSON.stringify({ programs, flags, linkFlags, cgo, platform: process.platform, arch: process.arch }));
  return hash.digest('hex').slice(0, 16);
}

/** Folder of the programs of one family. */
export function familyFolder(cache: string, family: ToolFamily, root: string = repositoryRoot()): string {
  return join(cache, 'tools', `${family.name}-${familyKey(family, root)}`);
}

/** The folder with a link to every program of these families, once `ensureTools` has run for them. */
export function toolSetFolder(
  cache: string = cacheFolder(),
  root: string = repositoryRoot(),
  families: readonly ToolFamily[] = toolFamilies,
): string {
  const hash = createHash('sha256');
  for (const family of families) {
    hash.update(familyKey(family, root));
  }
  return join(cache, 'tools', `all-${hash.digest('hex').slice(0, 16)}`);
}
