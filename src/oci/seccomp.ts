/** A seccomp profile as the OCI runtime specification has it. */
export interface SeccompProfile {
  readonly defaultAction: SeccompAction;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

export type SeccompAction = 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO';

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: SeccompAction;
  /** What the refused call returns, as an errno. */
  readonly errnoRet?: number;
  /** All must hold for the rule to apply. */
  readonly args?: readonly SeccompArgument[];
}

export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: 'SCMP_CMP_MASKED_EQ' | 'SCMP_CMP_EQ';
}

const EPERM = 1;
const ENOSYS = 38;
const CLONE_NEWUSER = 0x1000_0000;
const AF_ALG = 38;
const AF_VSOCK = 40;

/** Names libseccomp gives to the processors that ESB runs on. */
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['amd64', 'SCMP_ARCH_X86_64'],
  ['arm64', 'SCMP_ARCH_AARCH64'],
]);

/**
 * What a process without capabilities could still try, and what no function needs: keys, BPF, performance events,
 * asynchronous rings and page-fault handlers (each the door of several kernel escapes), other processes' memory, the
 * new mount interface, handles to files by number, and everything that acts on the machine as a whole. Most of the
 * latter would be refused for want of a capability; it stands here so that one kernel bug does not open it.
 */
const REFUSED: readonly string[] = [
  'acct',
  'add_key',
  'bpf',
  'clock_adjtime',
  'clock_settime',
  'delete_module',
  'fanotify_init',
  'finit_module',
  'fsconfig',
  'fsmount',
  'fsopen',
  'fspick',
  'init_module',
  'io_uring_enter',
  'io_uring_register',
  'io_uring_setup',
  'kcmp',
  'kexec_file_load',
  'kexec_load',
  'keyctl',
  'lookup_dcookie',
  'mount',
  'mount_setattr',
  'move_mount',
  'move_pages',
  'name_to_handle_at',
  'open_by_handle_at',
  'open_tree',
  'perf_event_open',
  'pidfd_getfd',
  'pivot_root',
  'process_vm_readv',
  'process_vm_writev',
  'ptrace',
  'quotactl',
  'quotactl_fd',
  'reboot',
  'request_key',
  'setns',
  'settimeofday',
  'swapoff',
  'swapon',
  'syslog',
  'umount2',
  'unshare',
  'userfaultfd',
  'vhangup',
];

/** Calls that only exist on x86. */
const REFUSED_ON_X86: readonly string[] = [
  'create_module',
  'ioperm',
  'iopl',
  'modify_ldt',
  'uselib',
  'ustat',
];

/**
 * The profile that every worker runs under: everything is allowed except what is refused. A list of what is refused is a
 * tenth as long as one of what is allowed; the shorter filter is quicker to compile at each start and to run at each
 * system call, and an image with a newer C library does not break. Capabilities, which a worker has none of, stay the
 * first line of defence.
 *
 * @param architecture processor in Go's words; for one that is not known there is no profile
 */
export function workerSeccompProfile(architecture: string): SeccompProfile | undefined {
  const name = ARCHITECTURES.get(architecture);
  if (name === undefined) {
    return undefined;
  }
  const names = architecture === 'amd64' ? [...REFUSED, ...REFUSED_ON_X86] : REFUSED;
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    // Calls made in another mode of the processor (32 bit, x32) end the process: they would go around the rules.
    architectures: [name],
    syscalls: [
      { names, action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      {
        // A user namespace would give back every capability inside it.
        names: ['clone'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: EPERM,
        args: [{ index: 0, value: CLONE_NEWUSER, valueTwo: CLONE_NEWUSER, op: 'SCMP_CMP_MASKED_EQ' }],
      },
      // Its flags lie in memory where a filter cannot look; told that it does not exist, C libraries use clone.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
      ...[AF_ALG, AF_VSOCK].map(
        (family): SeccompRule => ({
          // Sockets of the kernel's cryptography and of the machine's host do not belong to a network namespace.
          names: ['socket'],
          action: 'SCMP_ACT_ERRNO',
          errnoRet: EPERM,
          args: [{ index: 0, value: family, op: 'SCMP_CMP_EQ' }],
        }),
      ),
    ],
  };
}
