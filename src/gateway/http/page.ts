import { constraintError, LambdaError } from '../lambda/lambda-error.ts';

/** Most functions on a page, even if more are asked for; as in Lambda. */
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
 * Cuts a page out of a sorted list of names. The marker is the last name of the page before: functions that appear or
 * go between two pages neither repeat nor hide others.
 *
 * @param marker from the page before; undefined for the first one
 * @param maxItems as in the query
 * @throws {LambdaError} InvalidParameterValueException for an invalid marker or number
 */
export function pageOf(names: readonly string[], marker: string | undefined, maxItems: string | undefined): Page {
  const size = Math.min(MAX_PAGE, itemsOf(maxItems));
  const after = marker === undefined || marker === '' ? '' : nameOf(marker);
  const begin = names.findIndex((name) => name > after);
  const rest = begin < 0 ? [] : names.slice(begin);
  const page = rest.slice(0, size);
  const last = page.at(-1);
  return {
    names: page,
    nextMarker: last !== undefined && rest.length > size ? Buffer.from(last).toString('base64url') : undefined,
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
