import { beforeEach, describe, expect, it } from 'vitest';
import * as files from '../../simulation/memory-files.ts';

describe('files in memory', () => {
  beforeEach(() => {
    files.memoryFiles.clear();
    files.memoryFiles.guard({ mayChange: () => true, isAlive: () => true });
  });

  it('are written over without being cut off, as those on a disk', () => {
    const descriptor = files.openSync('/a/mark');
    files.writeSync(descriptor, 'a longer text', 0);
    files.writeSync(descriptor, 'short\n', 0);
    files.closeSync(descriptor);
    expect(files.readFileSync('/a/mark')).toBe('short\ner text');
    expect(files.memoryFiles.open.size).toBe(0);
  });

  it('are listed by folder, moved and removed', async () => {
    const handle = await files.open('/a/one.tmp');
    await handle.writeFile('text');
    await handle.close();
    await files.rename('/a/one.tmp', '/a/one');
    files.writeFileSync('/a/b/two', '');
    expect(await files.readdir('/a')).toEqual(['one']);
    expect(await files.readFile('/a/one')).toBe('text');
    files.rmSync('/a/one');
    expect(() => files.readFileSync('/a/one')).toThrow(/ENOENT/);
  });

  it('are not changed by a process that is dead', async () => {
    files.writeFileSync('/a/one', 'old');
    files.memoryFiles.guard({ mayChange: () => false, isAlive: () => false });
    files.writeFileSync('/a/one', 'new');
    const handle = await files.open('/a/two.tmp');
    await handle.writeFile('text');
    await files.rename('/a/two.tmp', '/a/two');
    files.rmSync('/a/one');
    expect(files.writeSync(files.openSync('/a/one'), 'newer', 0)).toBe(5);
    expect([...files.memoryFiles.files]).toEqual([['/a/one', 'old']]);
    expect(files.memoryFiles.open.size).toBe(0);
  });
});
