/** Name of a container in the form that agents give: a worker's name and 32 hexadecimal digits. */
export function containerNamed(worker: string): string {
  return `${worker}-${'1'.padStart(32, '0')}`;
}
