import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { findTools } from '../../../../local/tools/found-tools.ts';
import { toolFamilies } from '../../../../local/tools/tool-catalog.ts';

describe('programs that a user has', () => {
  const family = toolFamilies.find(({ name }) => name === 'runc');

  it('are those on PATH, without those of the instance in this shell', async () => {
    if (family === undefined) {
      throw new Error('there is no family runc');
    }
    const root = mkdtempSync(join(tmpdir(), 'esb-tools-'));
    onTestFinished(() => rmSync(root, { recursive: true, force: true }));
    const folders = ['own/bin', 'user'].map((name) => join(root, name));
    for (const folder of folders) {
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'runc'), '#!/bin/sh\necho runc version 9.8.7\n', { mode: 0o755 });
    }
    const PATH = folders.join(delimiter);
    const found = async (env: NodeJS.ProcessEnv) => (await findTools(family, { env })).map(({ path }) => path);
    expect(await found({ PATH })).toEqual([join(root, 'own/bin/runc')]);
    expect(await found({ PATH, ESB_HOME: join(root, 'own') })).toEqual([join(root, 'user/runc')]);
  });
});
