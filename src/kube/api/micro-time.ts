/**
 * The form of times in Leases and Events, `metav1.MicroTime`: the API server refuses anything but six digits after the
 * point.
 *
 * @param now wall-clock milliseconds since the epoch
 */
export function microTime(now: number): string {
  const micros = Math.floor((now - Math.floor(now)) * 1000);
  return `${new Date(Math.floor(now)).toISOString().slice(0, -1)}${String(micros).padStart(3, '0')}Z`;
}
