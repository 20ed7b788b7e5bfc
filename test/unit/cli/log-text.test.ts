import { describe, expect, it } from 'vitest';
import { LogText } from '../../../src/cli/log-text.ts';

/** Text that is shown for an output in these pieces. */
function shown(pieces: readonly string[], emulator = false): string {
  const text = new LogText({ emulator });
  return pieces.map((piece) => text.take(Buffer.from(piece))).join('') + text.end();
}

const rapid = '28 Nov 2026 02:31:27,036 [INFO] (rapid) INIT START(type: on-demand, phase: init)\n';
const warning = '28 Nov 2026 02:31:29,037 [WARNING] (rapid) Reset initiated: Timeout\n';
const report =
  'REPORT RequestId: f28\tInit Duration: 0.04 ms\tDuration: 25.00 ms\tBilled Duration: 25 ms\tMemory Size: 128 MB\tMax Memory Used: 128 MB\t\n';

describe('the output of a worker', () => {
  it('has a line break for each carriage return, however it comes in pieces', () => {
    const text = '[ERROR] ValueError: boom\rTraceback (most recent call last):\r  File "a.py"\r\nnext\n';
    const lines = '[ERROR] ValueError: boom\nTraceback (most recent call last):\n  File "a.py"\nnext\n';
    for (const emulator of [false, true]) {
      expect(shown([text], emulator)).toBe(lines);
      expect(shown(text.split(''), emulator)).toBe(lines);
    }
    expect(shown(['one\r'])).toBe('one\n');
  });

  it('is shown without what follows from the end of a process, and with that end', () => {
    const at = '28 Nov 2026 06:41:49,454';
    const end = `${at} [WARNING] (rapid) Process runtime-1 exited: exit status 1\n`;
    const unknown = `${at} [ERROR] (rapid) something else\n`;
    const text = [
      `${at} [WARNING] (rapid) First fatal error stored in appctx: Runtime.ExitError\n`,
      end,
      `${at} [ERROR] (rapid) Init failed InvokeID= error=Runtime exited with error: exit status 1\n`,
      `${at} [WARNING] (rapid) Shutdown initiated: spindown\n`,
      `${at} [ERROR] (rapid) Invoke failed error=Runtime exited with error: exit status 1 InvokeID=52\n`,
      `${at} [ERROR] (rapid) Invoke DONE failed: Sandbox.Failure\n`,
      `${at} [WARNING] (rapid) Reset initiated: ReleaseFail\n`,
      `${at} [WARNING] (rapid) Reset initiated: SandboxTerminated\n`,
      unknown,
    ].join('');
    expect(shown([text])).toBe(end + unknown);
    expect(shown([text], true)).toBe(text);
  });

  it('is shown without what the emulator says of itself, but for its warnings and errors', () => {
    const text = `${rapid}START RequestId: f28 Version: $LATEST\nmine\n${warning}`;
    const rest = `START RequestId: f28 Version: $LATEST\nmine\n${warning}`;
    expect(shown([text])).toBe(rest);
    expect(shown(text.split(''))).toBe(rest);
    expect(shown([text], true)).toBe(text);
  });

  it('is shown without what the emulator says of itself in the midst of a line', () => {
    // Python's runtime client writes the line break of `print` by itself; the emulator has another pipe.
    const text = `a line${rapid}${rapid}\nnext${warning}${rapid}\n`;
    const rest = `a line\nnext${warning}\n`;
    expect(shown([text])).toBe(rest);
    expect(shown(['a line', `${rapid}${rapid}`, '\nnext', warning, rapid, '\n'])).toBe(rest);
    expect(shown([`a line${rapid.slice(0, 40)}`, `${rapid.slice(40)}\n`])).toBe('a line\n');
    expect(shown([text], true)).toBe(text);
  });

  it('is shown with the figures that our init measures', () => {
    const measured =
      'REPORT RequestId: f28\tDuration: 25.00 ms\tBilled Duration: 40 ms\tMemory Size: 128 MB\tMax Memory Used: 31 MB\tInit Duration: 15.00 ms\n';
    expect(shown([measured])).toBe(measured);
  });

  it('is shown without figures that the emulator makes up', () => {
    const told = 'REPORT RequestId: f28\tDuration: 25.00 ms\tBilled Duration: 25 ms\tMemory Size: 128 MB\t\n';
    expect(shown([report])).toBe(told);
    expect(shown([report], true)).toBe(report);
    expect(shown(['mine:\tMax Memory Used: 1 MB\t\n'])).toBe('mine:\tMax Memory Used: 1 MB\t\n');
  });

  it('is not held back where a line is not over, and keeps letters that come in pieces', () => {
    const text = new LogText({ emulator: false });
    expect(text.take(Buffer.from('how far: 10 %'))).toBe('how far: 10 %');
    const [first, second] = [Buffer.from('é').subarray(0, 1), Buffer.from('é').subarray(1)];
    expect(text.take(first) + text.take(second)).toBe('é');
    expect(text.take(Buffer.from('\n1'))).toBe('\n');
    expect(text.end()).toBe('1');
  });
});
