import { describe, expect, it } from 'vitest';
import { type SeccompProfile, workerSeccompProfile } from '../../../src/oci/seccomp.ts';

function profile(architecture: string): SeccompProfile {
  const found = workerSeccompProfile(architecture);
  if (found === undefined) {
    throw new Error(`there is no profile for ${architecture}`);
  }
  return found;
}

/** Calls that a rule without conditions allows. */
function allowed(architecture: string): ReadonlySet<string> {
  const rules = profile(architecture).syscalls.filter(
    ({ action, args }) => action === 'SCMP_ACT_ALLOW' && args === undefined,
  );
  return new Set(rules.flatMap(({ names }) => names));
}

describe('the system calls of a worker', () => {
  it('are those of a list, and every other one is refused', () => {
    expect(profile('amd64')).toMatchObject({ defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 1 });
    for (const name of ['read', 'openat', 'execve', 'mmap', 'futex', 'epoll_pwait', 'statx', 'close_range']) {
      expect(allowed('amd64')).toContain(name);
      expect(allowed('arm64')).toContain(name);
    }
  });

  it('are none of those that act on the machine, on namespaces or on other processes', () => {
    const refused =
      'acct add_key bpf chroot clock_settime delete_module finit_module fsopen init_module io_uring_setup kcmp ' +
      'kexec_load keyctl mount mount_setattr move_mount open_by_handle_at open_tree perf_event_open pidfd_getfd ' +
      'pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot request_key setdomainname ' +
      'sethostname setns settimeofday swapon syslog umount2 unshare userfaultfd vhangup iopl ioperm modify_ldt';
    for (const name of refused.split(' ')) {
      expect(allowed('amd64')).not.toContain(name);
      expect(allowed('arm64')).not.toContain(name);
    }
  });

  it('make processes and no namespaces', () => {
    const { syscalls } = profile('amd64');
    expect(syscalls.filter(({ names }) => names.includes('clone'))).toEqual([
      {
        names: ['clone'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, value: 0x7e02_0000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
      },
    ]);
    expect(syscalls.filter(({ names }) => names.includes('clone3'))).toEqual([
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
    ]);
  });

  it('open local, IPv4, IPv6 and routing sockets', () => {
    const families = profile('amd64')
      .syscalls.filter(({ names }) => names.includes('socket'))
      .map(({ args }) => args?.[0]?.value);
    expect(families).toEqual([1, 2, 10, 16]);
  });

  it.each(['amd64', 'arm64'])('open pairs of local sockets alone on %s', (architecture) => {
    expect(allowed(architecture)).not.toContain('socketpair');
    const pairs = profile(architecture).syscalls.filter(({ names }) => names.includes('socketpair'));
    expect(pairs).toEqual([
      {
        names: ['socketpair'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }],
      },
    ]);
  });

  it('are named once each', () => {
    const names = [...profile('amd64').syscalls.filter(({ args }) => args === undefined)].flatMap((rule) => rule.names);
    expect(names.length).toBe(new Set(names).size);
  });

  it('are made in the native mode of the processor', () => {
    expect(profile('amd64').architectures).toEqual(['SCMP_ARCH_X86_64']);
    expect(profile('arm64').architectures).toEqual(['SCMP_ARCH_AARCH64']);
    expect(allowed('amd64')).toContain('open');
    expect(allowed('arm64')).not.toContain('open');
  });
});
