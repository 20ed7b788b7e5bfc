import { runCommand } from '../../local/common/command.ts';

export interface CurledAnswer {
  readonly status: number;
  /** `name: value` in small letters. */
  readonly headers: readonly string[];
  readonly body: string;
  /** Seconds to the first byte of the answer, and to the last. */
  readonly seconds: { readonly first: number; readonly last: number };
}

const TIMES = '\n%{time_starttransfer} %{time_total}';

/** Calls the URL of a function at a port of this machine by curl, which knows nothing of ESB. */
export async function curlUrl(
  port: number,
  name: string,
  path: string,
  args: readonly string[] = [],
): Promise<CurledAnswer> {
  const { stdout } = await runCommand('curl', [
    ...['--silent', '--show-error', '--include', '--no-buffer', '--max-time', '60', '--write-out', TIMES],
    ...['--connect-to', `::127.0.0.1:${port}`, ...args],
    `http://${name}.default.fn.example.com${path}`,
  ]);
  const timesAt = stdout.lastIndexOf('\n');
  const [first = 0, last = 0] = stdout.slice(timesAt).trim().split(' ').map(Number);
  const [head = '', ...body] = stdout.slice(0, timesAt).split('\r\n\r\n');
  const [line = '', ...fields] = head.split('\r\n');
  return {
    status: Number(line.split(' ')[1]),
    headers: fields.map((field) => field.toLowerCase()),
    body: body.join('\r\n\r\n'),
    seconds: { first, last },
  };
}
