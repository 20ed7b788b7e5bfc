/** A seccomp profile of the OCI runtime specification. */
export interface SeccompProfile {
  readonly defaultAction: SeccompAction;
  /** Errno of a call that no rule allows. */
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

type SeccompAction = 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO';

interface SeccompRule {
  readonly names: readonly string[];
  readonly action: SeccompAction;
  /** Errno of the refused call. */
  readonly errnoRet?: number;
  /** The rule applies when all arguments match. */
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

/** libseccomp's names of the processors that ESB runs on. */
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['amd64', 'SCMP_ARCH_X86_64'],
  ['arm64', 'SCMP_ARCH_AARCH64'],
]);

/** Every flag of clone(2) that makes a namespace, `CLONE_NEWCGROUP` to `CLONE_NEWNET`. */
const CLONE_NEW_NAMESPACES = 0x7e02_0000;

/**
 * Local sockets, IPv4, IPv6 and routing information. Functions do not use the kernel's code of other families, some of
 * which ignore network namespaces: `AF_ALG` is the kernel's cryptography, `AF_VSOCK` the way to the host of a virtual
 * machine.
 */
const SOCKET_FAMILIES = { AF_UNIX: 1, AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16 } as const;

/** Linux, Linux without address space randomisation, in both old forms, and the query of the present one. */
const PERSONALITIES: readonly number[] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/**
 * The system calls that `RuntimeDefault` of containerd and Docker allows to a container without capabilities, on a
 * processor of 64 bits. To a worker newer calls do not exist (runc's rule), so that C libraries fall back to older ones.
 */
const ALLOWED: readonly string[] = words(`
  accept accept4 adjtimex bind brk cachestat capget capset chdir clock_getres clock_gettime clock_nanosleep
  close close_range connect copy_file_range dup dup3 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2
  execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat
  fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs
  fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list getcpu getcwd getdents64
  getegid geteuid getgid getgroups getitimer getpeername getpgid getpid getppid getpriority getrandom getresgid
  getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr getxattrat
  inotify_add_watch inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup
  io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
  lgetxattr linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
  lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat madvise map_shadow_stack membarrier memfd_create
  memfd_secret mincore mkdirat mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open
  mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
  munmap nanosleep newfstatat openat openat2 pidfd_open pidfd_send_signal pipe2 pkey_alloc pkey_free
  pkey_mprotect ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2
  read readahead readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat renameat
  renameat2 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
  rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
  sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
  sched_setattr sched_setparam sched_setscheduler sched_yield seccomp semctl semget semop semtimedop sendfile
  sendmmsg sendmsg sendto set_robust_list set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
  setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr setxattrat shmat
  shmctl shmdt shmget shutdown sigaltstack signalfd4 splice stat statfs statmount statx symlinkat
  sync sync_file_range syncfs sysinfo tee tgkill timer_create timer_delete timer_getoverrun timer_gettime
  timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlinkat
  utimensat vmsplice wait4 waitid write writev
`);

/** Old calls that only x86 has, and x86's own. */
const ALLOWED_ON_AMD64: readonly string[] = words(`
  access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd fork futimesat get_thread_area
  getdents getpgrp inotify_init lchown link mkdir mknod open pause pipe poll readlink rename rmdir select
  set_thread_area signalfd symlink time unlink uretprobe utime utimes vfork
`);

/**
 * The profile of every worker: Kubernetes' `RuntimeDefault` for a container without capabilities, and stricter: no
 * `ptrace` and no reading of other processes' memory, no local descriptor tables, no clock adjustment, no handles of
 * files, only the socket families that functions use, and only the native mode of the processor.
 *
 * @param architecture processor in Go's names; undefined for an unknown one
 */
export function workerSeccompProfile(architecture: string): SeccompProfile | undefined {
  const name = ARCHITECTURES.get(architecture);
  if (name === undefined) {
    return undefined;
  }
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    // Calls in another mode of the processor (32 bit, x32) end the process: they would bypass the rules.
    architectures: [name],
    syscalls: [
      allow(architecture === 'amd64' ? [...ALLOWED, ...ALLOWED_ON_AMD64] : ALLOWED),
      allow(['clone'], { index: 0, value: CLONE_NEW_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }),
      // A filter cannot read the flags of clone3 in memory; without clone3, C libraries use clone.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
      ...Object.values(SOCKET_FAMILIES).map((family) => allow(['socket'], isEqual(family))),
      // A pair of another family would bypass the rule above, and load the module of that family.
      allow(['socketpair'], isEqual(SOCKET_FAMILIES.AF_UNIX)),
      ...PERSONALITIES.map((personality) => allow(['personality'], isEqual(personality))),
    ],
  };
}

function allow(names: readonly string[], argument?: SeccompArgument): SeccompRule {
  return { names, action: 'SCMP_ACT_ALLOW', ...(argument === undefined ? {} : { args: [argument] }) };
}

function isEqual(value: number): SeccompArgument {
  return { index: 0, value, op: 'SCMP_CMP_EQ' };
}

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}
