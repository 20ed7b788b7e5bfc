import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  ImageGarbageCollector,
  type ImageThresholds,
  removalOrder,
  usedPercentOf,
} from '../../../../src/agent/gc/image-gc.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import type { ImageRoom, NodeImage, NodeImages } from '../../../../src/runtime/contract/images.ts';
import { type ManualClock, manualClock } from '../../../support/manual-clock.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

const minute = 60_000;
const thresholds: ImageThresholds = { highPercent: 80, lowPercent: 75, minAgeMs: 2 * minute };

/** A node with a disk of 100 bytes, of which 30 are not of images. */
class Node implements NodeImages {
  readonly stored = new Map<string, NodeImage & { readonly bytes: number }>();
  readonly removed: string[] = [];
  /** Told before each removal. */
  onRemove: (name: string) => void = () => undefined;
  blind = false;
  lists = 0;

  put(name: string, bytes: number, pulledAt: number, more: Partial<NodeImage> = {}): void {
    const digest = `sha256:${name}`;
    const image = { name, digest, pulledAt: new Date(pulledAt), inUse: false, pinned: false, mark: 0 };
    this.stored.set(name, { ...image, ...more, bytes });
  }

  list(): Promise<readonly NodeImage[]> {
    this.lists += 1;
    return Promise.resolve([...this.stored.values()]);
  }

  async remove(image: NodeImage): Promise<boolean> {
    this.onRemove(image.name);
    this.removed.push(image.name);
    return this.stored.delete(image.name);
  }

  room(): Promise<ImageRoom> {
    if (this.blind) {
      return Promise.reject(new EsbError('cannot be seen', { code: 'ImageFileSystemUnknown' }));
    }
    const taken = [...this.stored.values()].reduce((sum, { bytes }) => sum + bytes, 30);
    return Promise.resolve({ totalBytes: 100, freeBytes: 100 - taken, totalFiles: 0, freeFiles: 0 });
  }

  nameOf(reference: string): string | undefined {
    return reference.includes(' ') ? undefined : reference;
  }
}

function setUp(changed: Partial<ImageThresholds> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'esb-collector-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const clock: ManualClock = manualClock();
  const node = new Node();
  const wanted: string[] = [];
  const { logger, lines } = recordingLogger();
  const file = join(folder, 'images.json');
  const collector = (): ImageGarbageCollector =>
    new ImageGarbageCollector({
      images: node,
      wanted: () => wanted,
      thresholds: { ...thresholds, ...changed },
      file,
      clock,
      logger,
    });
  return { clock, node, wanted, lines, file, collector };
}

describe('what is taken of a disk', () => {
  it('is counted in bytes or in files, whichever is more', () => {
    const room = { totalBytes: 1_000, freeBytes: 250, totalFiles: 100, freeFiles: 50 };
    expect(usedPercentOf(room)).toBe(75);
    expect(usedPercentOf({ ...room, freeFiles: 10 })).toBe(90);
    expect(usedPercentOf({ ...room, totalFiles: 0, freeFiles: 0 })).toBe(75);
  });
});

describe('the order in which images go', () => {
  const image = (name: string, pulledAt: number, more: Partial<NodeImage> = {}): NodeImage => ({
    name,
    digest: `sha256:${name}`,
    pulledAt: new Date(pulledAt),
    inUse: false,
    pinned: false,
    mark: 0,
    ...more,
  });
  const order = (images: readonly NodeImage[], lastUses: Record<string, number> = {}): string[] =>
    removalOrder(images, {
      wanted: new Set(['wanted']),
      lastUses: new Map(Object.entries(lastUses)),
      now: 100 * minute,
      minAgeMs: 2 * minute,
    }).map(({ name }) => name);

  it('begins with the one that was used longest ago', () => {
    const images = [image('b', 20 * minute), image('a', 10 * minute), image('c', 30 * minute)];
    expect(order(images)).toEqual(['a', 'b', 'c']);
    expect(order(images, { a: 50 * minute })).toEqual(['b', 'c', 'a']);
  });

  it('leaves out what is in use, wanted, pinned, or was used a moment ago', () => {
    expect(
      order(
        [
          image('used', 0, { inUse: true }),
          image('wanted', 0),
          image('pinned', 0, { pinned: true }),
          image('pulled', 99 * minute),
          image('left', 0),
          image('future', 200 * minute),
          image('old', 0),
        ],
        { left: 98.5 * minute },
      ),
    ).toEqual(['old']);
  });
});

describe('the collector of images', () => {
  it('does nothing below the high threshold, not even read what there is', async () => {
    const { clock, node, collector } = setUp();
    node.put('a', 49, clock.now() - 60 * minute);
    await collector().look();
    expect(node.removed).toEqual([]);
    expect(node.lists).toBe(0);
  });

  it('removes the least recently used ones until the low threshold is reached', {
    tags: ['P28'],
  }, async () => {
    const { clock, node, wanted, lines, collector } = setUp();
    const long = clock.now() - 600 * minute;
    node.put('newer', 15, long + minute);
    node.put('oldest', 4, long);
    node.put('running', 15, long, { inUse: true });
    node.put('absent', 25, long);
    wanted.push('absent', 'not a name');
    const images = collector();
    await images.look();
    expect(node.removed).toEqual(['oldest', 'newer']);
    expect(images.collection).toEqual({
      usedPercent: 70,
      removed: 2,
      freedBytes: 19,
      failed: 0,
      underPressure: false,
    });
    const told = lines.filter(({ msg }) => String(msg).startsWith('removed an unused image'));
    expect(told.map(({ image }) => image)).toEqual(['oldest', 'newer']);
  });

  it('knows when an image lost its last worker, also after a restart', async () => {
    const { clock, node, wanted, collector } = setUp();
    const long = clock.now() - 600 * minute;
    node.put('first-pulled', 20, long);
    node.put('then-pulled', 20, long + minute);
    wanted.push('first-pulled');
    await collector().look();
    wanted.length = 0;
    await clock.advance(10 * minute);
    node.put('more', 15, clock.now());
    await collector().look();
    expect(node.removed).toEqual(['then-pulled']);
  });

  it('asks for what is wanted again before each removal', async () => {
    const { clock, node, wanted, collector } = setUp();
    const long = clock.now() - 600 * minute;
    node.put('a', 30, long);
    node.put('b', 30, long + minute);
    node.onRemove = (name) => {
      if (name === 'a') {
        wanted.push('b');
        node.put('c', 30, clock.now());
      }
    };
    const images = collector();
    await images.look();
    expect(node.removed).toEqual(['a']);
    expect(images.collection.underPressure).toBe(true);
  });

  it('goes on after one that cannot be removed', async () => {
    const { clock, node, collector } = setUp();
    const long = clock.now() - 600 * minute;
    node.put('stuck', 30, long);
    node.put('b', 30, long + minute);
    node.onRemove = (name) => {
      if (name === 'stuck') {
        throw new EsbError('busy', { code: 'ContainerdFailed' });
      }
    };
    const images = collector();
    await images.look();
    expect(node.removed).toEqual(['b']);
    expect(images.collection).toMatchObject({ removed: 1, failed: 1, freedBytes: 30 });
  });

  it('says once when there is nothing to remove and the disk is full, and when that is over', async () => {
    const { clock, node, lines, collector } = setUp();
    node.put('running', 60, clock.now() - 60 * minute, { inUse: true });
    const images = collector();
    await images.look();
    await images.look();
    expect(images.collection).toMatchObject({ usedPercent: 90, underPressure: true, removed: 0 });
    expect(lines.filter(({ msg }) => String(msg).includes('fuller than it should be'))).toHaveLength(1);
    node.stored.clear();
    await images.look();
    expect(images.collection).toMatchObject({ usedPercent: 30, underPressure: false });
  });

  it('removes nothing where the disk cannot be seen, and says so once', async () => {
    const { clock, node, lines, collector } = setUp();
    node.put('a', 70, clock.now() - 60 * minute);
    node.blind = true;
    const images = collector();
    await images.look();
    await images.look();
    expect(node.removed).toEqual([]);
    expect(images.collection.usedPercent).toBeUndefined();
    expect(lines.filter(({ msg }) => String(msg).includes('not removed by the room'))).toHaveLength(1);
  });

  it('removes all that it may when a pull has found the disk full, also below the thresholds', async () => {
    const { clock, node, wanted, collector } = setUp();
    const long = clock.now() - 600 * minute;
    node.put('a', 10, long);
    node.put('b', 10, long);
    node.put('wanted', 10, long);
    node.put('young', 10, clock.now());
    wanted.push('wanted');
    const images = collector();
    await Promise.all([images.look(), images.makeRoom()]);
    expect(node.removed).toEqual(['a', 'b']);
    expect(images.collection.underPressure).toBe(false);
  });

  it('is switched off by a high threshold of 100', async () => {
    const { clock, node, collector } = setUp({ highPercent: 100 });
    node.put('a', 70, clock.now() - 60 * minute);
    await collector().look();
    await collector().makeRoom();
    expect(node.removed).toEqual([]);
  });

  it('begins anew with a file that it cannot read', async () => {
    const { clock, node, file, collector } = setUp();
    writeFileSync(file, '{');
    node.put('a', 60, clock.now() - 60 * minute);
    await collector().look();
    expect(node.removed).toEqual(['a']);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ version: 1, lastUses: {} });
  });

  it.each([
    { highPercent: 75, lowPercent: 80 },
    { highPercent: 80, lowPercent: 80 },
    { highPercent: 101, lowPercent: 80 },
    { highPercent: 80, lowPercent: -1 },
  ])('refuses thresholds such as %o', (wrong) => {
    const { collector } = setUp(wrong);
    expect(collector).toThrow(expect.objectContaining({ code: 'InvalidArgument' }) as Error);
  });
});
