/** A line of a log, and the call that the line names. */
export interface OwnedLine {
  /** Empty for a line that names none. */
  readonly requestId: string;
  /** Whether the call has written its last line. */
  readonly isLast: boolean;
}

/** Also `RequestId: … Error: …`, and the line of a call whose time was over. */
const LAMBDA_LINE =
  /^(?:(?:START |END |(REPORT) )?RequestId: (\S{1,256})|\d{4}-\d\d-\d\dT[\d:.]{12}Z (\S{1,256}) Task timed out after )/;
const nobodys: OwnedLine = { requestId: '', isLast: false };

/**
 * The call that a line belongs to where several calls are in a worker at once: only lines of Lambda itself, and JSON that
 * carries a request id, tell. AWS's clients write `requestId` or `AWSRequestId`.
 */
export function ownerOf(line: Buffer): OwnedLine {
  if (line[0] === 0x7b && line.includes('equestId"')) {
    return ownerOfJson(line.toString());
  }
  const [, report, named, late] = LAMBDA_LINE.exec(line.toString('latin1', 0, 330)) ?? [];
  const requestId = named ?? late;
  return requestId === undefined ? nobodys : { requestId, isLast: report !== undefined };
}

function ownerOfJson(line: string): OwnedLine {
  try {
    const { AWSRequestId, record, requestId, type } = JSON.parse(line) as Readonly<Record<string, unknown>>;
    const isEvent = typeof type === 'string' && type.startsWith('platform.') && typeof record === 'object';
    const ofEvent = isEvent ? (record as { readonly requestId?: unknown } | null)?.requestId : undefined;
    const told = [requestId, AWSRequestId, ofEvent].find((id) => typeof id === 'string');
    return { requestId: typeof told === 'string' ? told : '', isLast: type === 'platform.report' };
  } catch {
    return nobodys;
  }
}

/** The lines in `text` that name that call. */
export function linesOf(text: Buffer, requestId: string): Buffer {
  const lines: Buffer[] = [];
  for (const line of eachLine(text)) {
    if (ownerOf(line).requestId === requestId) {
      lines.push(line);
    }
  }
  return Buffer.concat(lines);
}

/** Lines with their ends; the last one may have none. */
export function* eachLine(text: Buffer): Generator<Buffer, undefined> {
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf('\n', at);
    const end = newline === -1 ? text.length : newline + 1;
    yield text.subarray(at, end);
    at = end;
  }
}
