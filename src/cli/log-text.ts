/** Options for the output of a worker. */
export interface LogTextOptions {
  /** Shows the emulator's own lines and its figures, too. */
  readonly emulator: boolean;
}

/**
 * The emulator's own lines, `28 Nov 2026 02:31:27,036 [INFO] (rapid) INIT START(…)`, and those that repeat the end of a
 * process or of the time, which have lines of their own. The emulator has another pipe than the function: its line may
 * stand behind the beginning of a line of the function, which then goes on in the next one.
 */
const HIDDEN =
  /\d{1,2} \w{3} \d{4} [\d:,.]+ \[(?:(?:INFO|DEBUG|TRACE)\] \(rapid\) |(?:WARNING|ERROR)\] \(rapid\) (?:First fatal error|Init failed|Invoke failed|Invoke DONE failed|Shutdown initiated|Reset initiated: (?!Timeout)))/;
/** The beginning of a line that may still become one of these, or have one in its midst. */
const MAY_BE_HIDDEN = /^(?:\d|R)|\d{1,2} \w{3} \d{4} /;
/** REPORT of the emulator. That of our init has no tab at its end, and its figures are measured. */
const EMULATOR_REPORT = /^REPORT RequestId: .*\t$/;
/**
 * Figures that the emulator invents: its measurement begins before the load, and the limit stands for the used memory
 * (its `internal/lambda/rie/handlers.go`).
 */
const UNTRUE = /\t(?:Init Duration: [\d.]+ ms|Max Memory Used: \d+ MB)(?=\t)/g;

/**
 * The output of a worker as text for people. A single carriage return, by which Python's runtime client keeps the lines
 * of a traceback together, becomes a line break: a terminal would write each line over the one before.
 */
export class LogText {
  readonly #options: LogTextOptions;
  readonly #letters = new TextDecoder();
  /** The end of the input that may belong to a longer line. */
  #rest = '';

  constructor(options: LogTextOptions) {
    this.#options = options;
  }

  /** The text to show after `data`. A part of a line that may have to be hidden is held back. */
  take(data: Uint8Array): string {
    return this.#show(this.#rest + this.#letters.decode(data, { stream: true }), false);
  }

  /** The text that is left at the end. */
  end(): string {
    return this.#show(this.#rest + this.#letters.decode(), true);
  }

  #show(text: string, isEnd: boolean): string {
    this.#rest = '';
    // The next character says whether the carriage return is single.
    const whole = !isEnd && text.endsWith('\r') ? text.slice(0, -1) : text;
    const lines = whole.replaceAll(/\r\n?/g, '\n').split('\n');
    const last = lines.pop() ?? '';
    const shown = lines.map((line) => this.#line(line, '\n'));
    const held = whole.length < text.length ? '\r' : '';
    if (!isEnd && (held !== '' || (!this.#options.emulator && MAY_BE_HIDDEN.test(last)))) {
      this.#rest = last + held;
      return shown.join('');
    }
    return shown.join('') + this.#line(last, '');
  }

  /** @param end the line break, if the line has one */
  #line(line: string, end: string): string {
    const hiddenAt = this.#options.emulator ? -1 : line.search(HIDDEN);
    if (hiddenAt >= 0) {
      return line.slice(0, hiddenAt);
    }
    const isReport = !this.#options.emulator && EMULATOR_REPORT.test(line);
    return `${isReport ? line.replace(UNTRUE, '') : line}${end}`;
  }
}
