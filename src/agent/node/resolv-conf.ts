import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EsbError } from '../../common/errors.ts';

/** The machine's own resolv.conf, and the one in which systemd-resolved keeps the real servers. */
const sources = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'] as const;

/**
 * The lines of a resolv.conf that workers can use. Servers on the loopback are left out, since a worker has a loopback
 * of its own. So is the search domain of the agent's own namespace, in which a short name would find an object of ESB.
 *
 * @see https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/ the search list of a Pod
 */
export function forWorkers(text: string, systemNamespace: string): string {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith(';'))
    .filter((line) => !/^nameserver\s+(127\.|::1\b)/.test(line))
    .map((line) => (/^search\s/.test(line) ? withoutNamespace(line, systemNamespace) : line))
    .filter((line) => line !== 'search');
  return `${lines.join('\n')}\n`;
}

function withoutNamespace(search: string, namespace: string): string {
  return search
    .split(/\s+/)
    .filter((domain) => !domain.startsWith(`${namespace}.svc.`))
    .join(' ');
}

/**
 * Keeps the `/etc/resolv.conf` of workers at `path` like that of the machine. Running workers have the file mounted, so
 * that it is rewritten in place. Errors are those of the file system.
 */
export async function refreshResolvConf(
  path: string,
  systemNamespace: string,
  from: readonly string[] = sources,
): Promise<void> {
  const texts = await Promise.all(from.map((source) => readFile(source, 'utf8').catch(() => '')));
  const candidates = texts.map((text) => forWorkers(text, systemNamespace));
  const chosen = candidates.find((text) => /^nameserver\s/m.test(text)) ?? candidates[0] ?? '\n';
  const present = await readFile(path, 'utf8').catch(() => undefined);
  if (present === undefined) {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, chosen, { mode: 0o644 });
  } else if (present !== chosen) {
    await overwrite(path, present, chosen);
  }
}

/**
 * Overwrites a file that others have open or mounted, and that is never empty, even on a full disk: the new text
 * replaces the old one in one write, padded to its length, and only then is the rest cut off. A text that does not fit
 * is taken back.
 */
async function overwrite(path: string, before: string, text: string): Promise<void> {
  const old = Buffer.from(before);
  const bytes = Buffer.from(text);
  const padded = Buffer.concat([bytes, Buffer.alloc(Math.max(0, old.length - bytes.length), '\n')]);
  const file = await open(path, 'r+');
  try {
    const { bytesWritten } = await file.write(padded, 0, padded.length, 0);
    if (bytesWritten < padded.length) {
      throw new EsbError(`no space left for ${path}`, { code: 'DiskFull' });
    }
    await file.truncate(bytes.length);
  } catch (error) {
    await file.write(old, 0, old.length, 0);
    await file.truncate(old.length);
    throw error;
  } finally {
    await file.close();
  }
}
