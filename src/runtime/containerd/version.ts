const OLDEST = { major: 2, minor: 0 };

/** The reason why a containerd is too old; undefined for a usable one. */
export function versionFault(version: string): string | undefined {
  const match = /^v?(\d+)\.(\d+)/.exec(version);
  const oldest = `${OLDEST.major}.${OLDEST.minor}`;
  if (match === null) {
    return `containerd tells no version that can be read ('${version}'); ${oldest} or newer is needed`;
  }
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const newEnough = major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor);
  return newEnough ? undefined : `containerd is ${version}; ${oldest} or newer is needed`;
}
