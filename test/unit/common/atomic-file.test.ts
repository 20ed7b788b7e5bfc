import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { FolderSync, removeUnfinishedFiles, writeFileAtomically } from '../../../src/common/atomic-file.ts';
import { watchFileSyncs } from '../../support/file-syncs.ts';

it('what a write left that a crash cut off is removed, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'esb-atomic-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  await writeFileAtomically(join(folder, 'images.json'), '{}');
  for (const name of ['images.json.39839.1fr.8303aoxyf.tmp', 'notes.tmp', 'state.1.json']) {
    writeFileSync(join(folder, name), '');
  }
  await removeUnfinishedFiles(folder);
  expect(readdirSync(folder).toSorted()).toEqual(['images.json', 'notes.tmp', 'state.1.json']);
});

it('names that come while a folder is written through wait for the next time, which they share', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'esb-atomic-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const held = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const begun = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const synced = await watchFileSyncs(async () => {
    const index = synced.length - 1;
    begun[index]?.resolve();
    await held[index]?.promise;
  });
  const names = new FolderSync(folder);
  const ended: string[] = [];
  const sync = (name: string): Promise<void> =>
    names.sync().then(
      () => void ended.push(name),
      () => void ended.push(`${name} failed`),
    );
  const first = sync('first');
  await begun[0]?.promise;
  const later = [sync('second'), sync('third')];
  // A failure is that of the names that were there before.
  held[0]?.reject(new Error('the disk fails'));
  await first;
  await begun[1]?.promise;
  expect(ended).toEqual(['first failed']);
  held[1]?.resolve();
  await Promise.all(later);
  expect(ended).toEqual(['first failed', 'second', 'third']);
  expect(synced).toEqual([folder, folder]);
});
