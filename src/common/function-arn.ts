/** The ARN of a function in answers, messages and calls. Region and account are those of AWS's emulator. */
export function functionArn(name: string, qualifier?: string): string {
  const base = `arn:aws:lambda:us-east-1:012345678912:function:${name}`;
  return qualifier === undefined ? base : `${base}:${qualifier}`;
}
