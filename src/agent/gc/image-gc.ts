import { readFile } from 'node:fs/promises';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import type { ImageRoom, NodeImage, NodeImages } from '../../runtime/contract/images.ts';

export interface ImageThresholds {
  /** Use of the file system at which images are removed, in percent. 100 removes none. */
  readonly highPercent: number;
  /** Use at which the removal ends, in percent. */
  readonly lowPercent: number;
  /** Milliseconds after its pull or last use for which an image always stays. */
  readonly minAgeMs: number;
}

interface ImageGarbageCollectorOptions {
  readonly images: NodeImages;
  /** References of all workers of the node in any state, as users wrote them. */
  readonly wanted: () => Iterable<string>;
  readonly thresholds: ImageThresholds;
  /** File of the images' last uses. */
  readonly file: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The collector's work since its start, for metrics. */
export interface ImageCollection {
  /** Use of the layers' file system as of the last look; undefined before one, and where it cannot be read. */
  readonly usedPercent: number | undefined;
  readonly removed: number;
  readonly freedBytes: number;
  /** Removals that containerd refused. */
  readonly failed: number;
  /** Whether images that may not be removed take more than the high threshold. */
  readonly underPressure: boolean;
}

const version = 1;
/** Milliseconds between two writes of the last uses; stale ones only change the order of removal. */
const saveEveryMs = 10 * 60_000;

/** Use of a file system in percent, of its bytes or its files, whichever is higher. The kubelet counts likewise. */
export function usedPercentOf(room: ImageRoom): number {
  const share = (free: number, total: number): number => (total <= 0 ? 0 : 100 - (100 * free) / total);
  return Math.max(share(room.freeBytes, room.totalBytes), share(room.freeFiles, room.totalFiles));
}

/** Removable images, least recently used first. */
export function removalOrder(
  images: readonly NodeImage[],
  facts: {
    readonly wanted: ReadonlySet<string>;
    /** Last uses by name, in wall-clock milliseconds. */
    readonly lastUses: ReadonlyMap<string, number>;
    /** Wall-clock milliseconds. */
    readonly now: number;
    readonly minAgeMs: number;
  },
): readonly NodeImage[] {
  const { wanted, lastUses, now, minAgeMs } = facts;
  const usedAt = ({ name, pulledAt }: NodeImage): number => Math.max(lastUses.get(name) ?? 0, pulledAt.getTime());
  return images
    .filter((image) => !image.inUse && !image.pinned && !wanted.has(image.name))
    .filter((image) => now - usedAt(image) >= minAgeMs)
    .toSorted((a, b) => usedAt(a) - usedAt(b));
}

/**
 * Collector of images: above the high threshold images that no worker of the node wants and no container has are
 * removed, least recently used first, down to the low threshold. containerd's namespace is ours alone: no other program
 * collects its images.
 */
export class ImageGarbageCollector {
  readonly #options: ImageGarbageCollectorOptions;
  #lastUses: Map<string, number> | undefined;
  #savedAt = Number.NEGATIVE_INFINITY;
  #blind = false;
  /** Looks run one at a time. */
  readonly #one = new Limiter(1);
  #collection: ImageCollection = { usedPercent: undefined, removed: 0, freedBytes: 0, failed: 0, underPressure: false };

  /** @throws {EsbError} `InvalidArgument` for impossible thresholds */
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

  /** Looks once, and removes images above the threshold. */
  async look(options: CallOptions = {}): Promise<void> {
    await this.#one.run(() => this.#look(options));
  }

  /**
   * Removes every removable image, after a pull found the disk full. The pull's own data is gone by then, so that the
   * thresholds alone may see no reason.
   */
  async makeRoom(options: CallOptions = {}): Promise<void> {
    await this.#one.run(async () => {
      await this.#noteUses(this.#wanted());
      const room = await this.#room(options);
      if (room !== undefined && this.#options.thresholds.highPercent < 100) {
        await this.#collect(room, 0, options);
      }
    });
  }

  async #look(options: CallOptions): Promise<void> {
    const { highPercent, lowPercent } = this.#options.thresholds;
    await this.#noteUses(this.#wanted());
    const room = await this.#room(options);
    if (room !== undefined) {
      const used = usedPercentOf(room);
      this.#note({ usedPercent: used });
      if (used >= highPercent && highPercent < 100) {
        await this.#collect(room, lowPercent, options);
        return;
      }
      this.#note({ underPressure: false });
    }
    if (this.#options.clock.monotonic() - this.#savedAt >= saveEveryMs) {
      await this.#save();
    }
  }

  async #collect(before: ImageRoom, untilPercent: number, options: CallOptions): Promise<void> {
    const { clock, images, logger, thresholds } = this.#options;
    const all = await images.list(options);
    const lastUses = await this.#noteUses(all.filter(({ inUse }) => inUse).map(({ name }) => name));
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
      // A worker may have come during another removal.
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
          'removed an unused image to make room',
        );
        lastUses.delete(image.name);
      }
    }
    this.#judge(usedPercentOf(room), all.length - removed);
    await this.#save();
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

  /** Logs once that removing images does not help any more. */
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
        this.#options.logger.warn({ reason: messageOf(error) }, 'images are not removed by the room they take');
      }
      this.#blind = true;
      this.#note({ usedPercent: undefined });
      return undefined;
    }
  }

  #wanted(): ReadonlySet<string> {
    const { images, wanted } = this.#options;
    return new Set([...new Set(wanted())].flatMap((reference) => images.nameOf(reference) ?? []));
  }

  async #noteUses(names: Iterable<string>): Promise<Map<string, number>> {
    this.#lastUses ??= await this.#load();
    const now = this.#options.clock.now();
    for (const name of names) {
      this.#lastUses.set(name, now);
    }
    return this.#lastUses;
  }

  #note(part: Partial<ImageCollection>): void {
    this.#collection = { ...this.#collection, ...part };
  }

  async #load(): Promise<Map<string, number>> {
    const { file, logger } = this.#options;
    try {
      const kept = JSON.parse(await readFile(file, 'utf8')) as { version?: unknown; lastUses?: unknown };
      if (kept.version === version && typeof kept.lastUses === 'object' && kept.lastUses !== null) {
        return new Map(
          Object.entries(kept.lastUses).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
        );
      }
      logger.warn({ file }, 'the last uses of images are unknown: the file has another version');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        logger.warn({ file, reason: messageOf(error) }, 'the last uses of images are unknown');
      }
    }
    return new Map();
  }

  async #save(): Promise<void> {
    const { clock, file, logger } = this.#options;
    this.#savedAt = clock.monotonic();
    const lastUses = Object.fromEntries(this.#lastUses ?? []);
    try {
      await writeFileAtomically(file, JSON.stringify({ version, lastUses }));
    } catch (error) {
      logger.warn({ file, reason: messageOf(error) }, 'the last uses of images cannot be saved');
    }
  }
}
