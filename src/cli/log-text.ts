/** How the output of a worker is shown. */
export interface LogTextOptions {
  /** Shows also what the emulator writes about itself, and its figures as they are. */
  readonly emulator: boolean;
}

/** What the emulator writes about itself: `28 Nov 2026 02:31:27,036 [INFO] (rapid) INIT START(…)`. */
const OF_THE_EMULATOR = /^\d{1,2} \w{3} \d{4} [\d:,.]+ \[(?:INFO|DEBUG|TRACE)\] \(rapid\) /;
/** What its warnings and errors say once more after the end of a process or of the time, which have lines of their own. */
const CONSEQUENCE =
  /^\d{1,2} \w{3} \d{4} [\d:,.]+ \[(?:WARNING|ERROR)\] \(rapid\) (?:First fatal error|Init failed|Invoke failed|Invoke DONE failed|Shutdown initiated|Reset initiated: (?!Timeout))/;
/** What a line that may yet become one begins with. */
const MAY_BE_HIDDEN = /^(?:\d|R)/;
/**
 * Figures that the emulator makes up: it begins to load before it looks at the clock, and gives the limit as what was used
 * (its `internal/lambda/rie/handlers.go`).
 */
const UNTRUE = /\t(?:Init Duration: [\d.]+ ms|Max Memory Used: \d+ MB)(?=\t)/g;

/**
 * The output of a worker as text for people. A carriage return by itself, by which Python's runtime client keeps the lines
 * of a traceback together, is a line break here: a terminal would write each line over the one before.
 */
export class LogText {
  readonly #options: LogTextOptions;
  readonly #letters = new TextDecoder();
  /** The end of what came that may belong to something longer. */
  #rest = '';

  constructor(options: LogTextOptions) {
    this.#options = options;
  }

  /** What can be shown once `data` has come. A piece of a line is held back only where the line may have to be hidden. */
  take(data: Uint8Array): string {
    return this.#show(this.#rest + this.#letters.decode(data, { stream: true }), false);
  }

  /** What is left at the end. */
  end(): string {
    return this.#show(this.#rest + this.#letters.decode(), true);
  }

  #show(text: string, isEnd: boolean): string {
    this.#rest = '';
    // Whether it stands alone, the next letter tells.
    const whole = !isEnd && text.endsWith('\r') ? text.slice(0, -1) : text;
    const lines = whole.replaceAll(/\r\n?/g, '\n').split('\n');
    const last = lines.pop() ?? '';
    const shown = lines.flatMap((line) => this.#line(line));
    const held = whole.length < text.length ? '\r' : '';
    if (!isEnd && (held !== '' || (!this.#options.emulator && MAY_BE_HIDDEN.test(last)))) {
      this.#rest = last + held;
      return shown.join('');
    }
    return shown.join('') + (last === '' ? '' : (this.#line(last)[0] ?? '').slice(0, -1));
  }

  #line(line: string): readonly string[] {
    if (this.#options.emulator) {
      return [`${line}\n`];
    }
    if (OF_THE_EMULATOR.test(line) || CONSEQUENCE.test(line)) {
      return [];
    }
    return [`${line.startsWith('REPORT RequestId: ') ? line.replace(UNTRUE, '') : line}\n`];
  }
}
