import { EsbError } from '../common/errors.ts';
import type { ImageConfig } from './image-config.ts';

/** A block of users and groups of the node: user 0 of the worker is `first`, the last one is `first + count - 1`. */
export interface UserIds {
  readonly first: number;
  readonly count: number;
}

/** The user and groups of a worker's first process, as numbers inside its user namespace. */
interface SpecUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids?: readonly number[];
}

export interface UserSources {
  readonly image: Pick<ImageConfig, 'user'>;
  readonly shape: { readonly readOnlyRootFilesystem: boolean };
  /** Text of the image's /etc/passwd and /etc/group; needed only when {@link needsUserFiles} says so. */
  readonly passwd?: string;
  readonly group?: string;
}

/** Lambda runs every image as this user, so an image made for Lambda can be run as it. */
const LAMBDA_USER = { uid: 993, gid: 990 } as const;

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The image's own user where it names one. Where it names none, the user that Lambda runs images as, except that a
 * writable root file system is only of use to root.
 */
export function resolveUser(options: UserSources): SpecUser {
  const { user, group } = splitUser(options.image.user);
  if (user === '') {
    const base = options.shape.readOnlyRootFilesystem ? LAMBDA_USER : { uid: 0, gid: 0 };
    return group === undefined ? base : { uid: base.uid, gid: resolveGroup(group, options) };
  }
  const entry = readPasswd(options.passwd ?? '').find((candidate) =>
    isNumeric(user) ? candidate.uid === Number(user) : candidate.name === user,
  );
  if (entry === undefined && !isNumeric(user)) {
    throw new EsbError(
      `the image's user '${options.image.user}' is not in its /etc/passwd: build the image with a numeric USER`,
      { code: 'ImageInvalid' },
    );
  }
  const uid = entry?.uid ?? Number(user);
  if (group !== undefined) {
    return { uid, gid: resolveGroup(group, options) };
  }
  const additionalGids = entry === undefined ? [] : supplementaryGroups(options.group ?? '', entry);
  return { uid, gid: entry?.gid ?? 0, ...(additionalGids.length > 0 ? { additionalGids } : {}) };
}

function resolveGroup(group: string, options: UserSources): number {
  if (isNumeric(group)) {
    return Number(group);
  }
  const entry = readGroups(options.group ?? '').find((candidate) => candidate.name === group);
  if (entry === undefined) {
    throw new EsbError(`the image's group '${group}' is not in its /etc/group: build the image with a numeric USER`, {
      code: 'ImageInvalid',
    });
  }
  return entry.gid;
}

function splitUser(text: string): { readonly user: string; readonly group?: string } {
  const [user = '', group] = text.split(':', 2);
  return group === undefined || group === '' ? { user } : { user, group };
}

function isNumeric(text: string): boolean {
  return /^\d*$/.test(text);
}

function readPasswd(text: string): readonly PasswdEntry[] {
  return records(text).flatMap(([name, , uid, gid]) =>
    name === undefined || uid === undefined || gid === undefined ? [] : [{ name, uid: Number(uid), gid: Number(gid) }],
  );
}

function readGroups(text: string): readonly { name: string; gid: number; members: readonly string[] }[] {
  return records(text).flatMap(([name, , gid, members]) =>
    name === undefined || gid === undefined ? [] : [{ name, gid: Number(gid), members: (members ?? '').split(',') }],
  );
}

function supplementaryGroups(text: string, user: PasswdEntry): readonly number[] {
  return readGroups(text)
    .filter((group) => group.members.includes(user.name) && group.gid !== user.gid)
    .map((group) => group.gid);
}

function records(text: string): readonly (readonly string[])[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

/** Whether the image names its user or group by a name, so that its own /etc/passwd and /etc/group are needed. */
export function needsUserFiles(image: ImageConfig): boolean {
  const { user, group } = splitUser(image.user);
  return !isNumeric(user) || (group !== undefined && !isNumeric(group));
}

export function checkMapped(user: SpecUser, { count }: UserIds): void {
  const outside = [user.uid, user.gid, ...(user.additionalGids ?? [])].find((id) => id >= count);
  if (outside !== undefined) {
    throw new EsbError(
      `the image runs as user or group ${outside}, and a worker's user namespace has ${count}: build the image with a smaller one`,
      { code: 'ImageInvalid' },
    );
  }
}
