package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Things that a worker should not be able to do, tried from inside. Each attempt is a line, a verb and its arguments; what
// came of it is "ok" with details, or the error.

const (
	networkPatience = 1500 * time.Millisecond
	mebibyte        = 1 << 20
	spareThreads    = 8
)

// Numbers that are the same on every processor, those above 400, and those that Go does not name.
const (
	sysIoUringSetup = 425
	sysOpenTree     = 428
	sysPidfdOpen    = 434
	sysPidfdGetfd   = 438
)

var forked []int

func init() {
	// A child of this program that only exists.
	if len(os.Args) == 2 && os.Args[1] == "exist" {
		for {
			time.Sleep(time.Hour)
		}
	}
}

// Gives what came of the attempts that a request asks for; nil when it asks for none.
func attempts(body []byte) map[string]string {
	var wanted struct {
		Try []string `json:"try"`
	}
	if json.Unmarshal(body, &wanted) != nil || len(wanted.Try) == 0 {
		return nil
	}
	tried := map[string]string{}
	for _, line := range wanted.Try {
		words := strings.Fields(line)
		detail, err := attempt(words[0], append(words[1:], "", ""))
		if err != nil {
			tried[line] = err.Error()
		} else {
			tried[line] = strings.TrimSpace("ok " + detail)
		}
	}
	return tried
}

func attempt(verb string, args []string) (string, error) {
	switch verb {
	case "connect":
		return connect(args[0])
	case "ask":
		return ask(args[0])
	case "resolve":
		addresses, err := net.LookupHost(args[0])
		return strings.Join(addresses, " "), err
	case "read":
		return readFile(args[0])
	case "write":
		return "", writeFile(args[0], args[1], os.O_WRONLY)
	case "create":
		return "", writeFile(args[0], args[1], os.O_WRONLY|os.O_CREATE)
	case "list":
		return list(args[0])
	case "fill":
		return fill(args[0], amount(args[1]))
	case "remove":
		return "", os.Remove(args[0])
	case "fork":
		return fork(amount(args[0]))
	case "reap":
		return reap(), nil
	case "spawn":
		return "", exec.Command("/proc/self/exe", args[0]).Run()
	case "keep":
		return "", keep(amount(args[0]))
	case "allocate":
		return allocateInChild(args[0])
	case "trace":
		return "", trace(amount(args[0]))
	case "trace-child":
		return "", withChild(trace)
	case "read-child":
		return "", withChild(readMemory)
	default:
		return "", systemCall(verb, args)
	}
}

func connect(target string) (string, error) {
	connection, err := net.DialTimeout("tcp", target, networkPatience)
	if err != nil {
		return "", err
	}
	return "", connection.Close()
}

// Sends a datagram and waits for one.
func ask(target string) (string, error) {
	connection, err := net.DialTimeout("udp", target, networkPatience)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(networkPatience))
	if _, err = connection.Write([]byte("?")); err != nil {
		return "", err
	}
	answer := make([]byte, 512)
	length, err := connection.Read(answer)
	return string(answer[:length]), err
}

func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	start := make([]byte, 4096)
	length, err := file.Read(start)
	if errors.Is(err, io.EOF) {
		return "empty", nil
	}
	return strings.TrimSpace(string(start[:length])), err
}

func writeFile(path, text string, flags int) error {
	if text == "" {
		text = "1"
	}
	file, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

func list(path string) (string, error) {
	entries, err := os.ReadDir(path)
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " "), err
}

// Writes until it is refused or has enough.
func fill(path string, mebibytes int) (string, error) {
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	block := make([]byte, mebibyte)
	for written := 0; written < mebibytes; written++ {
		if _, err = file.Write(block); err != nil {
			return "", fmt.Errorf("%w after %d MiB", err, written)
		}
	}
	return "", nil
}

// Makes processes that do nothing, by the bare call: Go itself would need threads for each. When it is refused one it ends a
// few of them, since this program could not go on without a thread to spare.
func fork(wanted int) (string, error) {
	for made := 0; made < wanted; made++ {
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			rest := forked
			forked = forked[max(0, len(forked)-spareThreads):]
			reap()
			forked = rest[:max(0, len(rest)-spareThreads)]
			return "", fmt.Errorf("%w after %d processes", errno, made)
		}
		if pid == 0 {
			for {
				syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		forked = append(forked, int(pid))
	}
	return "", nil
}

func reap() string {
	count := len(forked)
	for _, pid := range forked {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	forked = nil
	return strconv.Itoa(count)
}

// What this program was told to keep for as long as it lives.
var kept [][]byte

// Takes memory, in steps so that no more is asked for than is used, and keeps it.
func keep(mebibytes int) error {
	for taken := 0; taken < mebibytes; taken++ {
		block := make([]byte, mebibyte)
		for at := 0; at < len(block); at += os.Getpagesize() {
			block[at] = 1
		}
		kept = append(kept, block)
	}
	return nil
}

// Has a child use memory, as the function of an emulator would.
func allocateInChild(mebibytes string) (string, error) {
	child := exec.Command("/proc/self/exe")
	child.Env = []string{"ALLOCATE=" + mebibytes}
	return "", child.Run()
}

func trace(pid int) error {
	// As the debugger of another process: PTRACE_SEIZE, which leaves it running.
	const seize = 0x4206
	return call(syscall.SYS_PTRACE, seize, uintptr(pid), 0, 0)
}

func readMemory(pid int) error {
	var local [8]byte
	into := syscall.Iovec{Base: &local[0], Len: 8}
	from := syscall.Iovec{Base: (*byte)(unsafe.Pointer(&os.Args)), Len: 8}
	return call(sysProcessVmReadv, uintptr(pid), uintptr(unsafe.Pointer(&into)), 1, uintptr(unsafe.Pointer(&from)), 1)
}

func withChild(try func(pid int) error) error {
	child := exec.Command("/proc/self/exe", "exist")
	if err := child.Start(); err != nil {
		return err
	}
	err := try(child.Process.Pid)
	_ = child.Process.Kill()
	_, _ = child.Process.Wait()
	return err
}

func systemCall(verb string, args []string) error {
	switch verb {
	case "mount":
		return syscall.Mount("tmpfs", "/tmp", "tmpfs", 0, "")
	case "remount":
		return syscall.Mount("", args[0], "", syscall.MS_REMOUNT|syscall.MS_BIND, "")
	case "umount":
		return syscall.Unmount(args[0], syscall.MNT_DETACH)
	case "unshare":
		return syscall.Unshare(amount(args[0]))
	case "clone-user":
		child := exec.Command("/proc/self/exe", "exist")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		return child.Start()
	case "setns":
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		return call(sysSetns, file.Fd(), 0)
	case "chroot":
		return syscall.Chroot("/tmp")
	case "mknod":
		return syscall.Mknod(args[0], syscall.S_IFBLK|0o600, 8<<8)
	case "setuid":
		return syscall.Setuid(amount(args[0]))
	case "kill":
		return syscall.Kill(amount(args[0]), syscall.SIGCONT)
	case "raw":
		return socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
	case "packet":
		return socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	case "vsock":
		return socket(40, syscall.SOCK_STREAM, 0)
	case "local-pair":
		return socketPair(syscall.AF_UNIX)
	case "tipc-pair":
		return socketPair(30)
	case "cryptography":
		return socket(38, syscall.SOCK_SEQPACKET, 0)
	case "bpf":
		return call(sysBpf, 0, 0, 0)
	case "keyctl":
		return call(syscall.SYS_KEYCTL, 0, 0, 0)
	case "perf":
		return call(syscall.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)
	case "userfaultfd":
		return call(sysUserfaultfd, 0)
	case "io-uring":
		return call(sysIoUringSetup, 1, 0)
	case "open-tree":
		return call(sysOpenTree, 0, 0, 0)
	case "steal-descriptor":
		fd, _, errno := syscall.Syscall(sysPidfdOpen, 1, 0, 0)
		if errno != 0 {
			return errno
		}
		return call(sysPidfdGetfd, fd, 0, 0)
	case "host-name":
		return syscall.Sethostname([]byte("taken"))
	case "clock":
		return syscall.Settimeofday(&syscall.Timeval{Sec: time.Now().Unix()})
	case "kernel-log":
		return call(syscall.SYS_SYSLOG, 10, 0, 0)
	case "module":
		return call(syscall.SYS_INIT_MODULE, 0, 0, 0)
	case "swap":
		return call(syscall.SYS_SWAPON, 0, 0)
	case "reboot":
		// Only switches the meaning of Ctrl-Alt-Del off.
		return syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF)
	default:
		return fmt.Errorf("there is no attempt %s", verb)
	}
}

func socketPair(family int) error {
	pair, err := syscall.Socketpair(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		_ = syscall.Close(pair[0])
		_ = syscall.Close(pair[1])
	}
	return err
}

func socket(family, kind, protocol int) error {
	descriptor, err := syscall.Socket(family, kind, protocol)
	if err == nil {
		_ = syscall.Close(descriptor)
	}
	return err
}

func call(number uintptr, args ...uintptr) error {
	var all [6]uintptr
	copy(all[:], args)
	_, _, errno := syscall.Syscall6(number, all[0], all[1], all[2], all[3], all[4], all[5])
	if errno != 0 {
		return errno
	}
	return nil
}

func amount(text string) int {
	value, _ := strconv.ParseInt(text, 0, 64)
	return int(value)
}
