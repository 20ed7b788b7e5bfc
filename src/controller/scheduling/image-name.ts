/**
 * An image reference as Docker completes it, to compare with the names that nodes report: `python:3.12` is
 * `docker.io/library/python:3.12`, `registry.example/hello` is `registry.example/hello:latest`. The resource schema has
 * checked the form.
 */
export function completeImageName(reference: string): string {
  const [first = '', ...rest] = reference.split('/');
  const isHost = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost');
  const path = isHost ? reference : `docker.io/${rest.length === 0 ? 'library/' : ''}${reference}`;
  const last = path.slice(path.lastIndexOf('/') + 1);
  return last.includes(':') || last.includes('@') ? path : `${path}:latest`;
}
