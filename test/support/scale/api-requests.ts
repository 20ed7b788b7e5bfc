/** Requests that an API server has answered, by what they were, from its own metrics. */
export interface ApiRequests {
  /** Writes (POST, PUT, PATCH, APPLY, DELETE) that it carried out, by resource and subresource, such as `lambdaworkers/status`. */
  readonly writes: ReadonlyMap<string, number>;
}

const writeVerbs: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'APPLY', 'DELETE', 'DELETECOLLECTION']);

function labelsOf(text: string): ReadonlyMap<string, string> {
  return new Map([...text.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]));
}

/** Reads `apiserver_request_total` of a page of metrics. Writes that were refused are not counted. */
export function parseApiRequests(page: string): ApiRequests {
  const writes = new Map<string, number>();
  for (const line of page.split('\n')) {
    const match = /^apiserver_request_total\{(.*)\} (\S+)$/.exec(line);
    if (match === null) {
      continue;
    }
    const labels = labelsOf(match[1] ?? '');
    if (!writeVerbs.has(labels.get('verb') ?? '') || !(labels.get('code') ?? '').startsWith('2')) {
      continue;
    }
    const subresource = labels.get('subresource') ?? '';
    const what = `${labels.get('resource') ?? ''}${subresource === '' ? '' : `/${subresource}`}`;
    writes.set(what, (writes.get(what) ?? 0) + Number(match[2]));
  }
  return { writes };
}

/** Writes between two readings, without those of which there were none. */
export function writesBetween(before: ApiRequests, after: ApiRequests): ReadonlyMap<string, number> {
  const between = [...after.writes].map(([what, count]) => [what, count - (before.writes.get(what) ?? 0)] as const);
  return new Map(between.filter(([, count]) => count !== 0));
}
