import { type FileHandle, open, rm } from 'node:fs/promises';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';

/** Bytes of a fresh file system that are not zero. */
export interface TemplatePart {
  readonly offset: number;
  readonly data: Buffer;
}

/** A fresh file system without its zeros, to be written into as many files as are wanted. */
export type Template = readonly TemplatePart[];

const BLOCK = 4096;
const CHUNK_BLOCKS = 256;
/** Bytes of files for each of which there is an inode. */
const BYTES_PER_INODE = 8192;
/**
 * One group of blocks holds the tables of all, without copies: everything that is not zero is before the table of inodes
 * or in the root folder. Nothing of it outlives its worker, so there is no journal.
 */
const FEATURES = 'none,filetype,extent,flex_bg,sparse_super2,large_file,huge_file,dir_nlink,extra_isize,metadata_csum';
const GROUPS = 2 ** 16;
/** As a tmpfs: an empty root that is open to all users. */
const COMMANDS = ['rmdir lost+found', 'set_inode_field / mode 041777', 'stats', 'blocks /', ''].join('\n');

/**
 * Makes an empty ext4.
 *
 * @param path of a file that is made and removed meanwhile
 * @throws {EsbError} `ProgramMissing`, `CommandFailed`
 */
export async function makeTemplate(
  runner: CommandRunner,
  path: string,
  bytes: number,
  signal?: AbortSignal,
): Promise<Template> {
  await rm(path, { force: true });
  try {
    const options = ['-q', '-F', '-t', 'ext4', '-b', BLOCK, '-i', BYTES_PER_INODE, '-I', 256, '-m', 0, '-G', GROUPS];
    const extended = 'num_backup_sb=0,lazy_itable_init=1,nodiscard,root_owner=0:0';
    const args = [...options.map(String), '-O', FEATURES, '-E', extended, path, `${Math.floor(bytes / 1024)}k`];
    // The program's own defaults, not those of the machine.
    await runTool(runner, { program: 'mke2fs', args, env: { ...pathOnly(), MKE2FS_CONFIG: '/dev/null' }, signal });
    // With `-f` each command stands before what it prints; otherwise that depends on whether readline is installed.
    const debugfs = { program: 'debugfs', args: ['-w', '-f', '-', path], input: COMMANDS, signal };
    const told = await runTool(runner, debugfs);
    return await partsOf(path, blocksOf(told));
  } finally {
    await rm(path, { force: true });
  }
}

/** Writes a template over the beginning of a file of zeros. */
export async function writeTemplate(file: FileHandle, template: Template): Promise<void> {
  for (const { data, offset } of template) {
    await file.write(data, 0, data.length, offset);
  }
}

/**
 * Runs a program to its end and returns its output.
 *
 * @throws {EsbError} `ProgramMissing`, `CommandFailed`
 */
export async function runTool(runner: CommandRunner, request: Parameters<CommandRunner['run']>[0]): Promise<string> {
  const { program } = request;
  try {
    const { code, stderr, stdout } = await runner.run(request);
    if (code !== 0) {
      throw new EsbError(`${program}: ${stderr.trim() || `ended with ${code ?? 'a signal'}`}`, {
        code: 'CommandFailed',
      });
    }
    return stdout;
  } catch (error) {
    throw errnoOf(error) === 'ENOENT'
      ? new EsbError(`${program} is not installed (Debian: e2fsprogs, util-linux): ${messageOf(error)}`, {
          code: 'ProgramMissing',
          cause: error,
        })
      : error;
  }
}

function pathOnly(): { readonly PATH: string } {
  return { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' };
}

/** The block where the table of inodes begins, and those of the root folder. */
function blocksOf(told: string): { readonly table: number; readonly root: readonly number[] } {
  const table = Number(/inode table at (\d+)/.exec(told)?.[1]);
  const root = (/blocks \/\s+([\d ]+)/.exec(told)?.[1] ?? '').trim().split(' ').map(Number);
  if (!(table > 0) || root.length === 0 || !root.every((block) => block > 0)) {
    throw new EsbError(`debugfs tells nothing of a new file system: ${told.slice(0, 500)}`, { code: 'CommandFailed' });
  }
  return { table, root };
}

async function partsOf(
  path: string,
  { table, root }: { readonly table: number; readonly root: readonly number[] },
): Promise<Template> {
  const file = await open(path, 'r');
  try {
    const parts: { readonly offset: number; data: Buffer }[] = [];
    const read = async (first: number, count: number): Promise<void> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(count * BLOCK), 0, count * BLOCK, first * BLOCK);
      for (let at = 0; at < bytesRead; at += BLOCK) {
        const data = buffer.subarray(at, at + BLOCK);
        const offset = first * BLOCK + at;
        const last = parts.at(-1);
        if (data.every((byte) => byte === 0)) {
          continue;
        }
        if (last !== undefined && last.offset + last.data.length === offset) {
          last.data = Buffer.concat([last.data, data]);
        } else {
          parts.push({ offset, data: Buffer.from(data) });
        }
      }
    };
    for (let first = 0; first <= table; first += CHUNK_BLOCKS) {
      await read(first, Math.min(CHUNK_BLOCKS, table + 1 - first));
    }
    for (const block of root) {
      await read(block, 1);
    }
    return parts;
  } finally {
    await file.close();
  }
}
