/** The ARN of a function in answers, messages and calls. Region and account are those of AWS's emulator. */
export function functionArn(name: string, qualifier?: string): string {
  const base = `arn:aws:lambda:us-east-1:012345678912:function:${name}`;
  return qualifier === undefined ? base : `${base}:${qualifier}`;
}

/** The qualifier of workers without a version. */
export const LATEST = '$LATEST';

/** A version of a function as Lambda writes it. */
export function versionText(version: number | undefined): string {
  return version === undefined ? LATEST : String(version);
}
