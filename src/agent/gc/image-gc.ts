import { readFile } from 'node:fs/promises';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { ImageRoom, NodeImage, NodeImages } from '../../runtime/contract/images.ts';

export interface ImageThresholds {
  /** Images are removed once so much of the file system is taken, in percent. 100 removes none. */
  readonly highPercent: number;
  /** Until no more than this is. */
  readonly lowPercent: number;
  /** Milliseconds since its pull or last use for which an image is left alone in any case. */
  readonly minAgeMs: number;
}

export interface ImageGarbageCollectorOptions {
  readonly images: NodeImages;
  /** References, as users wrote them, of all workers of the node, whatever their state. */
  readonly wanted: () => Iterable<string>;
  readonly thresholds: ImageThresholds;
  /** Where it is kept when images were used last. */
  readonly file: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the collector has done since it began, for metrics. */
export interface ImageCollection {
  /** Of the file system of the layers, as last looked at; undefined before that, and where it cannot be seen. */
  readonly usedPercent: number | undefined;
  readonly removed: number;
  readonly freedBytes: number;
  /** Removals that containerd refused. */
  readonly failed: number;
  /** Whether more than the high threshold is taken by what may not be removed. */
  readonly underPressure: boolean;
}

/** Last uses by name, in wall-clock milliseconds. */
type LastUses = ReadonlyMap<string, number>;

const version = 1;
/** Uses are written down no more often than this; being a little behind costs an image its place in a row. */
const saveEveryMs = 10 * 60_000;

/** What is taken of a file system in percent, of its bytes or of its files, whichever is more. As the kubelet counts. */
export function usedPercentOf(room: ImageRoom): number {
  const share = (free: number, total: number): number => (total <= 0 ? 0 : 100 - (100 * free) / total);
  return Math.max(share(room.freeBytes, room.totalBytes), share(room.freeFiles, room.totalFiles));
}

/** What may be removed, the one that was used longest ago first. */
export function removalOrder(
  images: readonly NodeImage[],
  facts: {
    readonly wanted: ReadonlySet<string>;
    readonly lastUses: LastUses;
    /** Wall-clock milliseconds. */
    readonly now: number;
    readonly minAgeMs: number;
  },
): readonly NodeImage[] {
  const { wanted, lastUses, now, minAgeMs } = facts;
  const usedAt = ({ name, pulledAt }: NodeImage): number =>
    Math.max(lastUses.get(name) ?? 0, pulledAt.getTime());
  return images
    .filter((image) => !image.inUse && !image.pinned && !wanted.has(image.name))
    .filter((image) => now - usedAt(image) >= minAgeMs)
    .toSorted((a, b) => usedAt(a) - usedAt(b));
}

/**
 * Keeps the disk of the node from filling up with images: above the high threshold it removes what no worker of the
 * node wants and no container has, least recently used first, until the low one is reached. containerd's namespace is
 * ours alone, so nobody else would.
 */
export class ImageGarbageCollector {
  readonly #options: ImageGarbageCollectorOptions;
  #lastUses: Map<string, number> | undefined;
  #savedAt = Number.NEGATIVE_INFINITY;
  #blind = false;
  /** Looks come one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #collection: ImageCollection = {
    usedPercent: undefined,
    removed: 0,
    freedBytes: 0,
    failed: 0,
    underPressure: false,
  };

  /** @throws {EsbError} `InvalidArgument` for thresholds that make no sense */
  constructor(options: ImageGarbageCollectorOptions) {
    const { highPercent, lowPercent } = options.thresholds;
    if (!(lowPercent >= 0 && lowPercent < highPercent && highPercent <= 100)) {
      throw new EsbError(
        `the thresholds of images are ${highPercent} and ${lowPercent}: the high one must be at most 100, the low one below it`,
        { code: 'InvalidArgument' },
      );
    }
    this.#options = options;
  }

  get collection(): ImageCollection {
    return this.#collection;
  }

  /** Looks once, and removes what has to go. */
  async look(options: CallOptions = {}): Promise<void> {
    await this.#inTurn(() => this.#look(options));
  }

  /**
   * Removes everything that may be removed: a pull has found the disk full. What it had fetched is gone again by then, so
   * that the thresholds alone might see no reason to.
   */
  async makeRoom(options: CallOptions = {}): Promise<void> {
    await this.#inTurn(async () => {
      const lastUses = await this.#uses();
      this.#noteUses(lastUses, this.#wanted());
      const room = await this.#room(options);
      if (room !== undefined && this.#options.thresholds.highPercent < 100) {
        await this.#collect(lastUses, room, 0, options);
        await this.#save(lastUses);
      }
    });
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    await mine;
  }

  async #look(options: CallOptions): Promise<void> {
    const { thresholds } = this.#options;
    const lastUses = await this.#uses();
    this.#noteUses(lastUses, this.#wanted());
    const room = await this.#room(options);
    if (room !== undefined) {
      const used = usedPercentOf(room);
      this.#note({ usedPercent: used });
      if (used >= thresholds.highPercent && thresholds.highPercent < 100) {
        await this.#collect(lastUses, room, thresholds.lowPercent, options);
        await this.#save(lastUses);
        return;
      }
      this.#note({ underPressure: false });
    }
    if (this.#options.clock.monotonic() - this.#savedAt >= saveEveryMs) {
      await this.#save(lastUses);
    }
  }

  async #collect(
    lastUses: Map<string, number>,
    before: ImageRoom,
    untilPercent: number,
    options: CallOptions,
  ): Promise<void> {
    const { clock, images, logger, thresholds } = this.#options;
    const all = await images.list(options);
    this.#noteUses(lastUses, new Set(all.filter(({ inUse }) => inUse).map(({ name }) => name)));
    const present = new Set(all.map(({ name }) => name));
    for (const name of lastUses.keys()) {
      if (!present.has(name)) {
        lastUses.delete(name);
      }
    }
    const order = removalOrder(all, {
      wanted: this.#wanted(),
      lastUses,
      now: clock.now(),
      minAgeMs: thresholds.minAgeMs,
    });
    let room = before;
    let removed = 0;
    for (const image of order) {
      if (usedPercentOf(room) <= untilPercent) {
        break;
      }
      // A worker may have come while another image was being removed.
      if (!this.#wanted().has(image.name) && (await this.#remove(image, options))) {
        const after = (await this.#room(options)) ?? room;
        const freedBytes = Math.max(0, after.freeBytes - room.freeBytes);
        room = after;
        removed += 1;
        const { collection } = this;
        this.#note({
          usedPercent: usedPercentOf(room),
          removed: collection.removed + 1,
          freedBytes: collection.freedBytes + freedBytes,
        });
        logger.info(
          { image: image.name, digest: image.digest, freedMiB: Math.round(freedBytes / 2 ** 20) },
          'removed an image that nobody uses, to make room',
        );
        lastUses.delete(image.name);
      }
    }
    this.#judge(usedPercentOf(room), all.length - removed);
  }

  async #remove(image: NodeImage, options: CallOptions): Promise<boolean> {
    try {
      return await this.#options.images.remove(image, options);
    } catch (error) {
      if (options.signal?.aborted === true) {
        throw error;
      }
      this.#note({ failed: this.#collection.failed + 1 });
      this.#options.logger.warn({ image: image.name, err: error }, 'an image cannot be removed');
      return false;
    }
  }

  /** Says once when removing images does not help any more. */
  #judge(usedPercent: number, left: number): void {
    const { logger, thresholds } = this.#options;
    const underPressure = usedPercent >= thresholds.highPercent;
    if (underPressure && !this.#collection.underPressure) {
      logger.warn(
        { usedPercent: Math.round(usedPercent), highPercent: thresholds.highPercent, images: left },
        'the disk of the images is fuller than it should be, and every image left is in use, wanted, pinned or young',
      );
    }
    this.#note({ underPressure });
  }

  async #room(options: CallOptions): Promise<ImageRoom | undefined> {
    try {
      const room = await this.#options.images.room(options);
      this.#blind = false;
      return room;
    } catch (error) {
      if (EsbError.from(error).code !== 'ImageFileSystemUnknown') {
        throw error;
      }
      if (!this.#blind) {
        this.#options.logger.warn(
          { reason: messageOf(error) },
          'images are not removed by the room they take',
        );
      }
      this.#blind = true;
      this.#note({ usedPercent: undefined });
      return undefined;
    }
  }

  #wanted(): ReadonlySet<string> {
    const { images, wanted } = this.#options;
    const names = new Set<string>();
    for (const reference of new Set(wanted())) {
      const name = images.nameOf(reference);
      if (name !== undefined) {
        names.add(name);
      }
    }
    return names;
  }

  #noteUses(lastUses: Map<string, number>, names: ReadonlySet<string>): void {
    const now = this.#options.clock.now();
    for (const name of names) {
      lastUses.set(name, now);
    }
  }

  #note(part: Partial<ImageCollection>): void {
    this.#collection = { ...this.#collection, ...part };
  }

  async #uses(): Promise<Map<string, number>> {
    this.#lastUses ??= await this.#load();
    return this.#lastUses;
  }

  async #load(): Promise<Map<string, number>> {
    const { file, logger } = this.#options;
    try {
      const kept = JSON.parse(await readFile(file, 'utf8')) as { version?: unknown; lastUses?: unknown };
      if (kept.version === version && typeof kept.lastUses === 'object' && kept.lastUses !== null) {
        return new Map(
          Object.entries(kept.lastUses).filter(
            (entry): entry is [string, number] => typeof entry[1] === 'number',
          ),
        );
      }
      logger.warn({ file }, 'it is not known when images were used last: the file is of another version');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        logger.warn({ file, reason: messageOf(error) }, 'it is not known when images were used last');
      }
    }
    return new Map();
  }

  async #save(lastUses: LastUses): Promise<void> {
    const { clock, file, logger } = this.#options;
    this.#savedAt = clock.monotonic();
    try {
      await writeFileAtomically(file, JSON.stringify({ version, lastUses: Object.fromEntries(lastUses) }));
    } catch (error) {
      logger.warn({ file, reason: messageOf(error) }, 'it cannot be kept when images were used last');
    }
  }
}
