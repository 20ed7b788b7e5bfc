import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { removeUnfinishedFiles, writeFileAtomically } from '../../../src/common/atomic-file.ts';

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
