import { constraintError, LambdaError } from '../lambda/lambda-error.ts';

/** Functions on a page: what Lambda gives at most, whatever is asked for. */
const MAX_PAGE = 50;
/** Largest `MaxItems` that the service model allows. */
const MAX_ITEMS = 10_000;

/** One page of a list of names. */
export interface Page {
  readonly names: readonly string[];
  /** Where the next page begins; undefined on the last one. */
  readonly nextMarker: string | undefined;
}

/**
 * Cuts a page out of a sorted list of names. The marker says after which name to go on, so that functions that come and go between two pages are
 * neither told twice nor skipped, unless it is they that came or went.
 *
 * @param marker from the page before; undefined for the first one
 * @param maxItems as it stands in the query
 * @throws {LambdaError} InvalidParameterValueException for a marker or a number that makes no sense
 */
export function pageOf(
  names: readonly string[],
  marker: string | undefined,
  maxItems: string | undefined,
): Page {
  const size = Math.min(MAX_PAGE, itemsOf(maxItems));
  const after = marker === undefined || marker === '' ? '' : nameOf(marker);
  const begin = names.findIndex((name) => name > after);
  const rest = begin < 0 ? [] : names.slice(begin);
  const page = rest.slice(0, size);
  const last = page.at(-1);
  return {
    names: page,
    nextMarker:
      last !== undefined && rest.length > size ? Buffer.from(last).toString('base64url') : undefined,
  };
}

function itemsOf(maxItems: string | undefined): number {
  if (maxItems === undefined || maxItems === '') {
    return MAX_PAGE;
  }
  const items = /^[0-9]{1,9}$/.test(maxItems) ? Number(maxItems) : Number.NaN;
  if (Number.isNaN(items) || items < 1) {
    throw constraintError('maxItems', maxItems, 'Member must have value greater than or equal to 1');
  }
  if (items > MAX_ITEMS) {
    throw constraintError('maxItems', maxItems, `Member must have value less than or equal to ${MAX_ITEMS}`);
  }
  return items;
}

function nameOf(marker: string): string {
  const name = Buffer.from(marker, 'base64url').toString('latin1');
  if (!/^[a-zA-Z0-9-_.]+$/.test(name) || Buffer.from(name).toString('base64url') !== marker) {
    throw new LambdaError('InvalidParameterValueException', 'The marker is none that this service gave out.');
  }
  return name;
}
