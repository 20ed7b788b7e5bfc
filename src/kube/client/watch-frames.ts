import { StringDecoder } from 'node:string_decoder';
import { ApiError } from '../api/api-error.ts';
import type { KubeObject, WatchFrame } from '../api/types.ts';

/** Splits the chunks of a stream into lines, without the line ends. A last line without an end is dropped. */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  // Pieces of the line that has not ended yet: a large object comes in many chunks, each looked at only once.
  let pieces: string[] = [];
  for await (const chunk of chunks) {
    const text = decoder.write(chunk);
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      pieces.push(text.slice(start, end));
      const line = pieces.join('');
      pieces = [];
      start = end + 1;
      if (line !== '') {
        yield line;
      }
    }
    if (start < text.length) {
      pieces.push(text.slice(start));
    }
  }
}

/**
 * Reads one line of a watch.
 *
 * @throws {ApiError} with the server's reason for a frame of type ERROR (`Expired` for a 410), `InvalidAnswer` for a
 * line that is not a frame
 */
export function parseWatchFrame<T extends KubeObject>(what: string, line: string): WatchFrame<T> {
  let frame: { readonly type?: unknown; readonly object?: unknown };
  try {
    frame = JSON.parse(line);
  } catch (error) {
    throw ApiError.invalidAnswer(what, error);
  }
  const object = frame.object as T;
  switch (frame.type) {
    case 'ADDED':
      return { kind: 'added', object };
    case 'MODIFIED':
      return { kind: 'modified', object };
    case 'DELETED':
      return { kind: 'deleted', object };
    case 'BOOKMARK':
      return { kind: 'bookmark', resourceVersion: object.metadata.resourceVersion ?? '' };
    case 'ERROR':
      throw ApiError.fromStatus(what, frame.object);
    default:
      throw ApiError.invalidAnswer(what, `a frame of type ${JSON.stringify(frame.type)}`);
  }
}
